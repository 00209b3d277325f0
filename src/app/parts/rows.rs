//! Where sessions and runs are: SQLite in the data directory, or the Postgres that the settings name.

use super::{DataDir, explain, index};
use crate::app::migrate::ListIndex;
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

/// Brings the schema of the database that the settings name up to date, and that in ClickHouse. Says whether the index for lists
/// came or went.
pub(in crate::app) async fn migrate_up(config: &Config) -> Result<Option<ListIndex>> {
    let database = match config.database.url {
        Some(_) => connect(&config.database).await?,
        None => open(config, &DataDir::open(&config.data_dir)?).await?,
    };
    let migrated = migrate_all(config, &database).await;
    database.close().await;
    migrated
}

async fn migrate_all(config: &Config, database: &Database) -> Result<Option<ListIndex>> {
    migrate(database).await?;
    index::migrate_index(config, database).await?;
    let wanted = wanted(config, database).await?;
    let has_changed = database.keep_list_index(wanted == ListIndex::There).await;
    let has_changed = has_changed.map_err(explain).context("cannot make or drop the index for lists")?;
    Ok(has_changed.then_some(wanted))
}

/// The index for lists, as it is and as it should be, in a database whose schema is the current one.
pub(in crate::app) async fn list_index(config: &Config) -> Result<(ListIndex, ListIndex)> {
    if config.database.url.is_none() {
        return Ok((ListIndex::There, ListIndex::There));
    }
    let database = connect(&config.database).await?;
    let looked = async {
        let is = database.has_list_index().await.map_err(explain)?;
        Ok((if is { ListIndex::There } else { ListIndex::Gone }, wanted(config, &database).await?))
    };
    let looked = looked.await;
    database.close().await;
    looked
}

/// Whoever serves lists needs it, and nobody else does.
async fn wanted(config: &Config, database: &Database) -> Result<ListIndex> {
    let is_served_elsewhere = index::serves_lists(config, database).await?;
    Ok(if is_served_elsewhere { ListIndex::Gone } else { ListIndex::There })
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
