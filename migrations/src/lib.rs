//! The schema, append-only. See the README beside this crate for the rules.
#![warn(missing_docs)]
#![allow(elided_lifetimes_in_paths, reason = "MigrationTrait is declared with them elided")]

pub mod clickhouse;
pub mod list_index;
mod m0001_tenants;
mod m0002_sessions;
mod m0003_runs;
mod m0004_waitpoints;
mod m0005_run_relations;
mod m0006_channel_retention;
mod m0007_replicas;
mod m0008_bind_waits;
mod m0009_homes;
mod m0010_replication;
mod m0011_revocations;
mod m0012_workers;
pub mod replication;
mod table;

pub use sea_orm_migration::MigratorTrait;
use sea_orm_migration::{MigrationTrait, async_trait};

/// Every migration, oldest first.
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m0001_tenants::Migration),
            Box::new(m0002_sessions::Migration),
            Box::new(m0003_runs::Migration),
            Box::new(m0004_waitpoints::Migration),
            Box::new(m0005_run_relations::Migration),
            Box::new(m0006_channel_retention::Migration),
            Box::new(m0007_replicas::Migration),
            Box::new(m0008_bind_waits::Migration),
            Box::new(m0009_homes::Migration),
            Box::new(m0010_replication::Migration),
            Box::new(m0011_revocations::Migration),
            Box::new(m0012_workers::Migration),
        ]
    }
}
