//! Session rows inside a transaction: what more than one port needs.

use crate::convert;
use crate::entity::{run, session};
use crate::error::failed;
use continuo_domain::session::{Session, SessionRef};
use continuo_domain::{EnvironmentId, Error, Result, SessionId};
use sea_orm::sea_query::LockType;
use sea_orm::{ActiveModelTrait, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QuerySelect};
use sea_orm::{RelationDef, Select};

pub(crate) fn by_ref(environment: &EnvironmentId, session: &SessionRef) -> Select<session::Entity> {
    let named = match session {
        SessionRef::Id(id) => session::Column::Id.eq(id.as_str()),
        SessionRef::External(name) => session::Column::ExternalId.eq(name.as_str()),
    };
    session::Entity::find().filter(session::Column::EnvironmentId.eq(environment.as_str())).filter(named)
}

/// Joins a session with its current run.
pub(crate) fn current_run() -> RelationDef {
    session::Entity::belongs_to(run::Entity).from(session::Column::CurrentRunId).to(run::Column::Id).into()
}

pub(crate) async fn one<C: ConnectionTrait>(
    connection: &C,
    select: Select<session::Entity>,
) -> Result<Option<Session>> {
    select.one(connection).await.map_err(failed)?.map(convert::session).transpose()
}

pub(crate) async fn all<C: ConnectionTrait>(connection: &C, select: Select<session::Entity>) -> Result<Vec<Session>> {
    select.all(connection).await.map_err(failed)?.into_iter().map(convert::session).collect()
}

/// The row, to be changed in this transaction. Rows that refer to it may still come; SQLite needs no lock: it has one
/// writer.
pub(crate) async fn locked<C: ConnectionTrait>(connection: &C, id: &SessionId) -> Result<Session> {
    let select = session::Entity::find_by_id(id.as_str()).lock(LockType::NoKeyUpdate);
    one(connection, select).await?.ok_or(Error::SessionNotFound)
}

pub(crate) async fn save<C: ConnectionTrait>(connection: &C, session: &Session) -> Result<(), DbErr> {
    let row = convert::session_row(session).reset_all();
    session::Entity::update(row).exec_without_returning(connection).await.map(drop)
}
