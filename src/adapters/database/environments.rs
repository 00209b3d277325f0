//! `Environments` on SQL.

use crate::entity::{api_key, environment, organization, project, rotated_key, session};
use crate::error::{failed, failed_unless_taken};
use crate::{SqlStore, convert, revocations};
use async_trait::async_trait;
use continuo_domain::id::ApiKeyId;
use continuo_domain::{EnvironmentId, Error, Result, SessionId, Timestamp, Violation};
use continuo_ports::environments::{ApiKey, Environment, Environments, KeyOwner, Revocation};
use futures_util::FutureExt;
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, OnConflict, Query};
use sea_orm::{ColumnTrait, Condition, ConnectionTrait, DatabaseTransaction, EntityTrait, FromQueryResult, JoinType};
use sea_orm::{QueryFilter, QueryOrder, QuerySelect, Select};

#[async_trait]
impl Environments for SqlStore {
    async fn put(&self, environment: Environment, now: Timestamp) -> Result<()> {
        self.database.write(move |tx| put(tx, environment, now).boxed()).await
    }

    async fn all(&self) -> Result<Vec<Environment>> {
        let select = environment::Entity::find()
            .order_by_asc(environment::Column::CreatedAtMs)
            .order_by_asc(environment::Column::Id);
        with_rotated(self.database.readers(), select).await
    }

    async fn get(&self, environment: &EnvironmentId) -> Result<Option<Environment>> {
        let select = environment::Entity::find_by_id(environment.as_str());
        with_rotated(self.database.readers(), select).await.map(|mut found| found.pop())
    }

    async fn find_key(&self, hash: &[u8], now: Timestamp) -> Result<Option<KeyOwner>> {
        let rotated = Query::select()
            .column(rotated_key::Column::EnvironmentId)
            .from(rotated_key::Entity)
            .and_where(rotated_key::Column::Hash.eq(hash))
            .and_where(rotated_key::Column::ValidUntilMs.gt(now.0))
            .to_owned();
        let is_current = environment::Column::RootKeyHash.eq(hash);
        let is_rotated = environment::Column::Id.in_subquery(rotated);
        let root = environment::Entity::find()
            .filter(Condition::any().add(is_current.clone()).add(is_rotated))
            .order_by_asc(is_current);
        // A key of today comes last, and before one of yesterday.
        if let Some(environment) = with_rotated(self.database.readers(), root).await?.pop() {
            return Ok(Some(KeyOwner::Root(environment)));
        }
        let additional = api_key::Entity::find()
            .filter(api_key::Column::Hash.eq(hash))
            .filter(api_key::Column::RevokedAtMs.is_null());
        let key = additional.one(self.database.readers()).await.map_err(failed)?;
        Ok(key.map(convert::api_key).transpose()?.map(KeyOwner::Additional))
    }

    async fn add_key(&self, key: ApiKey) -> Result<()> {
        let row = convert::api_key_row(&key);
        self.database
            .write(move |tx| {
                async move {
                    let added = api_key::Entity::insert(row).exec_without_returning(tx).await;
                    added.map(drop).map_err(|e| failed_unless_taken(e, taken("api_key")))
                }
                .boxed()
            })
            .await
    }

    async fn keys(&self, environment: &EnvironmentId) -> Result<Vec<ApiKey>> {
        let rows = api_key::Entity::find()
            .filter(api_key::Column::EnvironmentId.eq(environment.as_str()))
            .order_by_asc(api_key::Column::CreatedAtMs)
            .order_by_asc(api_key::Column::Id)
            .all(self.database.readers());
        rows.await.map_err(failed)?.into_iter().map(convert::api_key).collect()
    }

    async fn revoke_key(&self, environment: &EnvironmentId, key: &ApiKeyId, now: Timestamp) -> Result<bool> {
        let (environment, key) = (environment.clone(), key.clone());
        self.database.write(move |tx| revoke_key(tx, environment, key, now).boxed()).await
    }

    async fn revoke_tokens(
        &self,
        environment: &EnvironmentId,
        session: Option<&SessionId>,
        not_before: Timestamp,
    ) -> Result<()> {
        let (environment, session) = (environment.clone(), session.cloned());
        self.database.write(move |tx| revoke_tokens(tx, environment, session, not_before).boxed()).await
    }

    async fn session_tokens_not_before(&self, session: &SessionId) -> Result<Option<Timestamp>> {
        let column = session::Entity::find_by_id(session.as_str())
            .select_only()
            .column(session::Column::TokensNotBeforeMs)
            .into_tuple::<Option<i64>>()
            .one(self.database.readers());
        Ok(column.await.map_err(failed)?.flatten().map(Timestamp))
    }

    async fn revocations(&self, since: Timestamp, now: Timestamp) -> Result<Vec<Revocation>> {
        let select = revocations::select(self.database.backend(), since, now);
        let rows = revocations::Row::find_by_statement(select).all(self.database.readers());
        rows.await.map_err(failed)?.into_iter().map(revocations::Row::read).collect()
    }
}

fn taken(field: &'static str) -> Error {
    Violation::new(field, "is in use already").into()
}

/// The environments of a query, in its order, each with the keys that were replaced lately: one statement.
async fn with_rotated<C: ConnectionTrait>(
    connection: &C,
    select: Select<environment::Entity>,
) -> Result<Vec<Environment>> {
    let rotated = rotated_key::Entity::belongs_to(environment::Entity)
        .from(rotated_key::Column::EnvironmentId)
        .to(environment::Column::Id)
        .into();
    let select = select
        .order_by_asc(environment::Column::Id)
        .order_by_desc(rotated_key::Column::ValidUntilMs)
        .join_rev(JoinType::LeftJoin, rotated)
        .select_also(rotated_key::Entity);
    let mut found: Vec<(environment::Model, Vec<rotated_key::Model>)> = Vec::new();
    for (row, key) in select.all(connection).await.map_err(failed)? {
        match found.last_mut() {
            Some((last, keys)) if last.id == row.id => keys.extend(key),
            _ => found.push((row, key.into_iter().collect())),
        }
    }
    found.into_iter().map(|(row, rotated)| convert::environment(row, rotated)).collect()
}

/// An environment that is there keeps its place, its age and its not-before; its keys become the given ones.
async fn put(tx: &DatabaseTransaction, environment: Environment, now: Timestamp) -> Result<()> {
    let tenant = &environment.tenant;
    let organization =
        organization::ActiveModel { id: Set(tenant.organization.to_string()), created_at_ms: Set(now.0) };
    organization::Entity::insert(organization)
        .on_conflict(OnConflict::column(organization::Column::Id).do_nothing().to_owned())
        .exec_without_returning(tx)
        .await
        .map_err(failed)?;
    let project = project::ActiveModel {
        id: Set(tenant.project.to_string()),
        organization_id: Set(tenant.organization.to_string()),
        created_at_ms: Set(now.0),
    };
    project::Entity::insert(project)
        .on_conflict(OnConflict::column(project::Column::Id).do_nothing().to_owned())
        .exec_without_returning(tx)
        .await
        .map_err(failed)?;
    let keys = [environment::Column::Slug, environment::Column::RootKeySealed, environment::Column::RootKeyHash];
    environment::Entity::insert(convert::environment_row(&environment, now))
        .on_conflict(OnConflict::column(environment::Column::Id).update_columns(keys).to_owned())
        .exec_without_returning(tx)
        .await
        .map_err(|e| failed_unless_taken(e, taken("root_key")))?;
    replace_rotated(tx, &environment).await
}

async fn replace_rotated(tx: &DatabaseTransaction, environment: &Environment) -> Result<()> {
    let id = &environment.tenant.environment;
    let old = rotated_key::Entity::delete_many().filter(rotated_key::Column::EnvironmentId.eq(id.as_str()));
    old.exec(tx).await.map_err(failed)?;
    for key in &environment.rotated {
        let insert = rotated_key::Entity::insert(convert::rotated_row(id, key));
        insert.exec_without_returning(tx).await.map_err(|e| failed_unless_taken(e, taken("rotated")))?;
    }
    Ok(())
}

/// The first revocation stands.
async fn revoke_key(
    tx: &DatabaseTransaction,
    environment: EnvironmentId,
    key: ApiKeyId,
    now: Timestamp,
) -> Result<bool> {
    let this = Condition::all()
        .add(api_key::Column::Id.eq(key.as_str()))
        .add(api_key::Column::EnvironmentId.eq(environment.as_str()));
    api_key::Entity::update_many()
        .col_expr(api_key::Column::RevokedAtMs, Expr::val(now.0))
        .filter(this.clone())
        .filter(api_key::Column::RevokedAtMs.is_null())
        .exec(tx)
        .await
        .map_err(failed)?;
    api_key::Entity::find().filter(this).one(tx).await.map(|key| key.is_some()).map_err(failed)
}

/// A not-before only ever moves forward: what was revoked stays revoked.
async fn revoke_tokens(
    tx: &DatabaseTransaction,
    environment: EnvironmentId,
    session: Option<SessionId>,
    not_before: Timestamp,
) -> Result<()> {
    let Some(session) = session else {
        let at = environment::Column::TokensNotBeforeMs;
        let this = environment::Entity::find_by_id(environment.as_str());
        this.one(tx).await.map_err(failed)?.ok_or_else(unknown_environment)?;
        let raise = environment::Entity::update_many()
            .col_expr(at, Expr::val(not_before.0))
            .filter(environment::Column::Id.eq(environment.as_str()))
            .filter(Condition::any().add(at.is_null()).add(at.lt(not_before.0)));
        return raise.exec(tx).await.map(drop).map_err(failed);
    };
    let at = session::Column::TokensNotBeforeMs;
    let this = session::Entity::find_by_id(session.as_str());
    let this = this.filter(session::Column::EnvironmentId.eq(environment.as_str()));
    this.one(tx).await.map_err(failed)?.ok_or(Error::SessionNotFound)?;
    let raise = session::Entity::update_many()
        .col_expr(at, Expr::val(not_before.0))
        .filter(session::Column::Id.eq(session.as_str()))
        .filter(Condition::any().add(at.is_null()).add(at.lt(not_before.0)));
    raise.exec(tx).await.map(drop).map_err(failed)
}

fn unknown_environment() -> Error {
    Violation::new("environment", "does not exist").into()
}
