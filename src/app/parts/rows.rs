//! Where sessions and runs are: SQLite in the data directory, or the Postgres that the settings name.

use super::{DataDir, explain};
use crate::config::{self, Config, ConfigError, Mode};
use anyhow::{Context, Result};
use continuo_database::{Database, PostgresOptions, SchemaStatus};

/// The database, with the schema of this release. `dev`, and whoever has a file of its own, brings it up to date.
pub(super) async fn open(config: &Config, data_dir: &DataDir) -> Result<Database> {
    if config.database.url.is_none() {
        refuse_if_ahead(&Database::schema_of_file(&data_dir.database()).await.map_err(explain)?)?;
        return Database::open(data_dir.database()).await.map_err(explain).context("cannot open the database");
    }
    let database = connect(&config.database).await?;
    if config.mode == Mode::Dev {
        migrate(&database).await?;
    }
    match database.schema_status().await.map_err(explain)? {
        SchemaStatus::Current => Ok(database),
        status => {
            refuse_if_ahead(&status)?;
            database.close().await;
            Err(ConfigError::new(
                "the schema of the database is older than this release: run `continuo migrate up`, once for all replicas, and \
                 start again",
            )
            .into())
        }
    }
}

/// How the schema of the database that the settings name stands.
pub(in crate::app) async fn schema_status(config: &Config) -> Result<SchemaStatus> {
    if config.database.url.is_none() {
        let data_dir = DataDir::at(&config.data_dir);
        return Database::schema_of_file(&data_dir.database())
            .await
            .map_err(explain)
            .context("cannot read the database");
    }
    let database = connect(&config.database).await?;
    let status = database.schema_status().await.map_err(explain);
    database.close().await;
    status
}

/// Brings the schema of the database that the settings name up to date.
pub(in crate::app) async fn migrate_up(config: &Config) -> Result<()> {
    let database = match config.database.url {
        Some(_) => connect(&config.database).await?,
        None => open(config, &DataDir::open(&config.data_dir)?).await?,
    };
    let migrated = migrate(&database).await;
    database.close().await;
    migrated
}

async fn migrate(database: &Database) -> Result<()> {
    refuse_if_ahead(&database.schema_status().await.map_err(explain)?)?;
    database.migrate().await.map_err(explain).context("cannot bring the schema up to date")
}

async fn connect(config: &config::Database) -> Result<Database> {
    let url = config.url.clone().unwrap_or_default();
    let options = PostgresOptions {
        pool_max: config.pool_max,
        read_replica_url: config.read_url.as_ref().map(|url| url.expose().to_owned()),
        ..PostgresOptions::new(url.expose())
    };
    match Database::connect(options).await {
        Ok(database) => Ok(database),
        Err(continuo_domain::Error::InvalidArgument(_)) => Err(ConfigError::new(
            "database.url cannot be read as a URL of Postgres, such as postgres://user@host/database",
        )
        .into()),
        Err(error) => Err(explain(error).context(format!("cannot reach the database at {url}"))),
    }
}

fn refuse_if_ahead(status: &SchemaStatus) -> Result<(), ConfigError> {
    let SchemaStatus::Ahead { unknown } = status else { return Ok(()) };
    let newest = unknown.last().map_or("", String::as_str);
    Err(ConfigError::new(format!(
        "this release is older than the schema of the database, which has {newest}: start the release that made it, or a newer \
         one"
    )))
}
