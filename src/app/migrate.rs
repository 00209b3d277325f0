//! The schema of the database that the settings name, for whoever migrates it.

use super::parts;
use crate::config::Config;
use anyhow::Result;
use continuo_database::SchemaStatus;

/// How the schema stands to this release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schema {
    /// As it should be.
    Current,
    /// These migrations have not run yet; all of them if there is no schema at all.
    Behind(Vec<String>),
    /// A newer release made it, with these migrations.
    Ahead(Vec<String>),
}

/// Looks at the schema and changes nothing.
pub async fn schema(config: &Config) -> Result<Schema> {
    Ok(match parts::schema_status(config).await? {
        SchemaStatus::Current => Schema::Current,
        SchemaStatus::Empty => Schema::Behind(Vec::new()),
        SchemaStatus::Behind { missing } => Schema::Behind(missing),
        SchemaStatus::Ahead { unknown } => Schema::Ahead(unknown),
    })
}

/// Brings the schema up to date. Replicas that do it at the same time wait for each other.
pub async fn migrate_up(config: &Config) -> Result<()> {
    parts::migrate_up(config).await
}
