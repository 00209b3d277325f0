//! Environments and their keys.

use super::{named, time, token};
use continuo_domain::error::Violations;
use continuo_domain::id::ProjectId;
use continuo_domain::session::EnvironmentType;
use continuo_domain::{EnvironmentId, Result, Violation};
use continuo_ports::environments::{ApiKey, Environment};
use continuo_proto::v1;
use continuo_usecases::{NewApiKey, NewEnvironment, NewToken};

/// Reads an environment's id.
pub(crate) fn parse_environment_id(text: &str) -> Result<EnvironmentId> {
    named("environment_id", EnvironmentId::parse(text))
}

/// Reads an environment to be made.
pub(crate) fn parse_new_environment(wire: v1::CreateEnvironmentRequest) -> Result<NewEnvironment> {
    let mut found = Violations::new();
    let project = (!wire.project_id.is_empty()).then(|| named("project_id", ProjectId::parse(&wire.project_id)));
    let project = found.take(project.transpose())?.flatten();
    let kind = EnvironmentType::parse(&wire.r#type)
        .ok_or_else(|| Violation::new("type", "must be PRODUCTION, STAGING, DEVELOPMENT or PREVIEW").into());
    let kind = found.take(kind)?;
    found.finish()?;
    let environment_type = kind.ok_or_else(super::session::nothing_parsed)?;
    Ok(NewEnvironment { project, environment_type, slug: wire.slug })
}

/// Reads a key to be made.
pub(crate) fn parse_new_key(wire: v1::CreateApiKeyRequest) -> Result<NewApiKey> {
    let mut found = Violations::new();
    let environment = found.take(parse_environment_id(&wire.environment_id))?;
    let scopes = found.take(token::parse_scopes(&wire.scopes))?.unwrap_or_default();
    found.finish()?;
    let environment = environment.ok_or_else(super::session::nothing_parsed)?;
    Ok(NewApiKey { environment, name: wire.name, scopes })
}

/// Reads a token of an environment that is asked for.
pub(crate) fn parse_new_token(wire: v1::CreateEnvironmentTokenRequest) -> Result<(EnvironmentId, NewToken)> {
    let mut found = Violations::new();
    let environment = found.take(parse_environment_id(&wire.environment_id))?;
    let asked = v1::CreatePublicTokenRequest { scopes: wire.scopes, expires_at: wire.expires_at, ..Default::default() };
    let new = found.take(token::parse_new(asked))?;
    found.finish()?;
    environment.zip(new).ok_or_else(super::session::nothing_parsed)
}

/// Prints an environment.
pub(crate) fn print_environment(row: &Environment) -> v1::Environment {
    v1::Environment {
        id: row.tenant.environment.as_str().to_owned(),
        organization_id: row.tenant.organization.as_str().to_owned(),
        project_id: row.tenant.project.as_str().to_owned(),
        r#type: row.tenant.environment_type.as_str().to_owned(),
        slug: row.slug.clone(),
    }
}

/// Prints a key without its secret.
pub(crate) fn print_key(row: &ApiKey) -> v1::ApiKey {
    v1::ApiKey {
        id: row.id.as_str().to_owned(),
        name: row.name.clone(),
        scopes: row.scopes.iter().map(|s| s.as_str().to_owned()).collect(),
        created_at: Some(time::print(row.created_at)),
        revoked_at: row.revoked_at.map(time::print),
    }
}
