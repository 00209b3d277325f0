//! All rows of one database into another, for a move from one engine to the other.

use crate::Database;
use crate::entity;
use crate::error::{damaged, failed};
use continuo_domain::claim::Claim;
use continuo_domain::id::OrganizationId;
use continuo_domain::{Error, Result, SessionId, Violation};
use futures_util::{FutureExt, TryStreamExt};
use sea_orm::sea_query::OnConflict;
use sea_orm::{DatabaseTransaction, EntityTrait, IntoActiveModel, PaginatorTrait, QuerySelect};
use std::collections::HashMap;
use std::sync::Arc;

/// Rows in one insert. Times the columns of the widest table that is below the 65 535 parameters a statement may have.
const CHUNK: usize = 500;

/// What changes on the way, and who is told how far it is.
#[derive(Clone)]
pub struct CopyOptions {
    /// Where the streams of a session of this organization are from now on.
    pub basin: Arc<dyn Fn(&OrganizationId) -> String + Send + Sync>,
    /// The part ids of the channels, which the old log knew by itself.
    pub claims: Arc<[Claim]>,
    /// Told how many rows more have been copied; of some twice, where a transaction has to run again.
    pub progress: Arc<dyn Fn(u64) + Send + Sync>,
}

impl Database {
    /// How many rows there are to copy.
    pub async fn count_rows(&self) -> Result<u64> {
        let snapshot = self.snapshot().await?;
        let mut rows = 0;
        macro_rules! count {
            ($($table:ident)+) => { $( rows += entity::$table::Entity::find().count(&snapshot).await.map_err(failed)?; )+ };
        }
        count!(organization project environment rotated_key api_key session session_channel session_run run run_payload
            attempt waitpoint registration worker_task spent_token);
        Ok(rows)
    }

    /// Every session and the organization it belongs to.
    pub async fn session_organizations(&self) -> Result<HashMap<SessionId, OrganizationId>> {
        use entity::session::Column::{Id, OrganizationId as Organization};
        let pairs = entity::session::Entity::find().select_only().columns([Id, Organization]);
        let pairs: Vec<(String, String)> = pairs.into_tuple().all(self.readers()).await.map_err(failed)?;
        let parsed = |(id, of): (String, String)| Ok((SessionId::parse(&id)?, OrganizationId::parse(&of)?));
        pairs
            .into_iter()
            .map(|pair| parsed(pair).map_err(|e: Error| damaged("session", "organization_id", e)))
            .collect()
    }

    /// Copies every row into `target` in one transaction there: either all of it arrives or nothing. Only workers do not go
    /// along, who are connected to a server and not to a database. Rows that are there already stay as they are, so a second
    /// copy changes nothing; but an environment that is there under another root key is refused. Nothing may write to either
    /// database meanwhile.
    pub async fn copy_to(&self, target: &Database, options: CopyOptions) -> Result<()> {
        let source = self.clone();
        target.write(move |tx| async move { copy(&source.snapshot().await?, tx, options).await }.boxed()).await
    }
}

async fn copy(source: &DatabaseTransaction, tx: &DatabaseTransaction, options: CopyOptions) -> Result<()> {
    check_environments(source, tx).await?;
    let progress = &*options.progress;
    // In this order: a row comes after those it belongs to.
    macro_rules! copy {
        ($($table:ident)+) => { $(
            copy_table::<entity::$table::Entity>(source, tx, progress, Ok).await?;
        )+ };
    }
    copy!(organization project environment rotated_key api_key);
    let pinned = |mut row: entity::session::Model| {
        let organization = OrganizationId::parse(&row.organization_id).map_err(Error::internal)?;
        row.stream_basin_name = Some((options.basin)(&organization));
        Ok(row)
    };
    copy_table::<entity::session::Entity>(source, tx, progress, pinned).await?;
    copy!(session_channel session_run run run_payload attempt waitpoint registration worker_task spent_token);
    for claims in options.claims.chunks(CHUNK) {
        let rows = claims.iter().map(crate::convert::whole_claim_row);
        insert::<entity::append_claim::Entity>(tx, rows).await?;
    }
    Ok(())
}

/// Two databases may both have an environment `dev`, and then they are two.
async fn check_environments(source: &DatabaseTransaction, tx: &DatabaseTransaction) -> Result<()> {
    for environment in entity::environment::Entity::find().all(source).await.map_err(failed)? {
        let there = entity::environment::Entity::find_by_id(&environment.id).one(tx).await.map_err(failed)?;
        if there.is_some_and(|there| there.root_key_hash != environment.root_key_hash) {
            let problem = format!("{} is there already, with another root key", environment.id);
            return Err(Violation::new("environment", problem).into());
        }
    }
    Ok(())
}

async fn copy_table<E: EntityTrait>(
    source: &DatabaseTransaction,
    tx: &DatabaseTransaction,
    progress: &(dyn Fn(u64) + Send + Sync),
    change: impl Fn(E::Model) -> Result<E::Model> + Send,
) -> Result<()>
where
    E::Model: IntoActiveModel<E::ActiveModel> + Send,
    E::ActiveModel: Send,
{
    let mut rows = E::find().stream(source).await.map_err(failed)?.try_chunks(CHUNK);
    while let Some(chunk) = rows.try_next().await.map_err(|e| failed(e.1))? {
        let rows = chunk.len() as u64;
        let changed = chunk.into_iter().map(|row| change(row).map(IntoActiveModel::into_active_model));
        insert::<E>(tx, changed.collect::<Result<Vec<_>>>()?).await?;
        progress(rows);
    }
    Ok(())
}

async fn insert<E: EntityTrait>(
    tx: &DatabaseTransaction,
    rows: impl IntoIterator<Item = E::ActiveModel>,
) -> Result<()> {
    let insert = E::insert_many(rows).on_conflict(OnConflict::new().do_nothing().to_owned());
    insert.exec_without_returning(tx).await.map(drop).map_err(failed)
}

#[cfg(test)]
mod tests;
