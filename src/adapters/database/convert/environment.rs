//! Environments and keys.

use super::{Row, at, ms, owned};
use crate::entity::{Texts, api_key, environment, rotated_key};
use continuo_domain::id::ApiKeyId;
use continuo_domain::principal::Scope;
use continuo_domain::{EnvironmentId, Result, Timestamp};
use continuo_ports::environments::{ApiKey, Environment, RotatedKey};
use sea_orm::ActiveValue::Set;

pub(crate) fn environment(row: environment::Model, rotated: Vec<rotated_key::Model>) -> Result<Environment> {
    let this = Row { table: "environment", id: &row.id };
    let rotated = rotated.into_iter().map(|key| RotatedKey {
        sealed: key.sealed,
        hash: key.hash,
        valid_until: Timestamp(key.valid_until_ms),
    });
    Ok(Environment {
        tenant: this.tenant(&row.organization_id, &row.project_id, &row.id, &row.environment_type)?,
        slug: row.slug,
        root_key_sealed: row.root_key_sealed,
        root_key_hash: row.root_key_hash,
        rotated: rotated.collect(),
        tokens_not_before: at(row.tokens_not_before_ms),
    })
}

pub(crate) fn environment_row(environment: &Environment, now: Timestamp) -> environment::ActiveModel {
    let tenant = &environment.tenant;
    environment::ActiveModel {
        id: Set(tenant.environment.to_string()),
        organization_id: Set(tenant.organization.to_string()),
        project_id: Set(tenant.project.to_string()),
        environment_type: Set(owned(tenant.environment_type.as_str())),
        slug: Set(environment.slug.clone()),
        root_key_sealed: Set(environment.root_key_sealed.clone()),
        root_key_hash: Set(environment.root_key_hash.clone()),
        tokens_not_before_ms: Set(ms(environment.tokens_not_before)),
        created_at_ms: Set(now.0),
    }
}

pub(crate) fn rotated_row(environment: &EnvironmentId, key: &RotatedKey) -> rotated_key::ActiveModel {
    rotated_key::ActiveModel {
        environment_id: Set(environment.to_string()),
        hash: Set(key.hash.clone()),
        sealed: Set(key.sealed.clone()),
        valid_until_ms: Set(key.valid_until.0),
    }
}

pub(crate) fn api_key(row: api_key::Model) -> Result<ApiKey> {
    let this = Row { table: "api_key", id: &row.id };
    let scopes: std::result::Result<Vec<_>, _> = row.scopes.0.iter().map(|scope| Scope::parse(scope)).collect();
    Ok(ApiKey {
        id: this.parsed(ApiKeyId::parse(&row.id))?,
        environment: this.parsed(EnvironmentId::parse(&row.environment_id))?,
        scopes: this.parsed(scopes.map_err(Into::into))?,
        name: row.name,
        hash: row.hash,
        created_at: Timestamp(row.created_at_ms),
        revoked_at: at(row.revoked_at_ms),
    })
}

pub(crate) fn api_key_row(key: &ApiKey) -> api_key::ActiveModel {
    api_key::ActiveModel {
        id: Set(key.id.to_string()),
        environment_id: Set(key.environment.to_string()),
        name: Set(key.name.clone()),
        hash: Set(key.hash.clone()),
        scopes: Set(Texts(key.scopes.iter().map(|scope| owned(scope.as_str())).collect())),
        created_at_ms: Set(key.created_at.0),
        revoked_at_ms: Set(ms(key.revoked_at)),
    }
}
