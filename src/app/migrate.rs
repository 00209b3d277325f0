//! The schemas that the settings name, in the database and in ClickHouse, for whoever migrates them.

use super::parts;
use crate::config::Config;
use anyhow::Result;
use continuo_clickhouse::IndexSchema;
use continuo_database::SchemaStatus;

/// How a schema stands to this release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schema {
    /// As it should be.
    Current,
    /// These migrations have not run yet; all of them if there is no schema at all.
    Behind(Vec<String>),
    /// A newer release made it, with these migrations.
    Ahead(Vec<String>),
}

/// The index of the database for lists of sessions. It is there while the database serves lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListIndex {
    /// It is there.
    There,
    /// It is not.
    Gone,
}

/// How everything stands.
#[derive(Debug, Clone)]
pub struct Schemas {
    /// The schema of the database.
    pub database: Schema,
    /// The one in ClickHouse, where the settings name one.
    pub clickhouse: Option<Schema>,
    /// The index for lists, as it is and as it should be; unknown where the database is behind.
    pub list_index: Option<(ListIndex, ListIndex)>,
}

/// What a migration has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migrated {
    /// What has become of the index for lists, if it was changed.
    pub list_index: Option<ListIndex>,
}

/// Looks at the schemas and changes nothing.
pub async fn schemas(config: &Config) -> Result<Schemas> {
    let database = match parts::schema_status(config).await? {
        SchemaStatus::Current => Schema::Current,
        SchemaStatus::Empty => Schema::Behind(Vec::new()),
        SchemaStatus::Behind { missing } => Schema::Behind(missing),
        SchemaStatus::Ahead { unknown } => Schema::Ahead(unknown),
    };
    let clickhouse = parts::index_schema(config).await?.map(|schema| match schema {
        IndexSchema::Current => Schema::Current,
        empty if empty.is_empty() => Schema::Behind(Vec::new()),
        IndexSchema::Behind(missing) => Schema::Behind(missing),
        IndexSchema::Ahead(unknown) => Schema::Ahead(unknown),
    });
    let list_index = match database {
        Schema::Current => Some(parts::list_index(config).await?),
        _ => None,
    };
    Ok(Schemas { database, clickhouse, list_index })
}

/// Brings the schemas up to date. Processes that do it at the same time wait for each other.
pub async fn migrate_up(config: &Config) -> Result<Migrated> {
    parts::migrate_up(config).await.map(|list_index| Migrated { list_index })
}
