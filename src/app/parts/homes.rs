//! Whether the channel log and the blobs are those the database knows: rows name records and blobs that another log or store
//! does not have, or has otherwise.

use super::records::Records;
use super::{DataDir, explain};
use crate::config::{Config, ConfigError};
use anyhow::{Context, Result};
use continuo_database::Database;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing::warn;

const LOG: &str = "channel log";
const BLOBS: &str = "blobs";
/// Where blobs are that any number of processes reach; which bucket is for the operator to say.
const BUCKET: &str = "bucket";
/// What was here serves elsewhere now.
const MOVED: &str = "moved";
/// How often the database is told how far the embedded log has come.
const NOTE_EVERY: Duration = Duration::from_secs(10);

/// Refuses a process whose log or blobs are others than the database was used with.
pub(super) async fn check(config: &Config, data_dir: &DataDir, database: &Database, records: &Records) -> Result<()> {
    check_log(config, data_dir, database, records).await?;
    check_blobs(config, data_dir, database).await
}

async fn check_log(config: &Config, data_dir: &DataDir, database: &Database, records: &Records) -> Result<()> {
    let place = log_place(config, data_dir)?;
    let home = database.home(LOG, &place).await.map_err(explain)?;
    if home.place == MOVED {
        return Err(ConfigError::new(format!(
            "what {} held was moved into a cluster: start a server with the settings of that, and another data directory",
            data_dir.path().display()
        ))
        .into());
    }
    if home.place != place {
        let (theirs, remedy) = match home.place.strip_prefix("s2 ") {
            Some(prefix) => (
                format!("S2, in basins that begin with {prefix:?}"),
                format!("set CONTINUO_S2_ENDPOINT to it and CONTINUO_S2_BASIN_PREFIX to {prefix}"),
            ),
            None => (
                "the embedded log of another data directory".to_owned(),
                "point CONTINUO_DATA_DIR at that one, which is for one process; several need CONTINUO_S2_ENDPOINT, from the first \
                 start on a fresh database on"
                    .to_owned(),
            ),
        };
        return Err(ConfigError::new(format!("the channels of this database are in {theirs}: {remedy}")).into());
    }
    match (home.position, records.position()) {
        (Some(noted), Some(position)) if position < noted => Err(ConfigError::new(format!(
            "the channel log in {} is older than the database (it has come to {position}, and the database has seen {noted}): \
             restore a copy of the log that was made after the one of the database",
            data_dir.log().display()
        ))
        .into()),
        _ => Ok(()),
    }
}

async fn check_blobs(config: &Config, data_dir: &DataDir, database: &Database) -> Result<()> {
    if config.blobs.s3.is_some() {
        return database.move_home(BLOBS, BUCKET).await.map_err(explain);
    }
    let place = format!("files {}", data_dir.identity()?);
    let home = database.home(BLOBS, &place).await.map_err(explain)?;
    if home.place == place {
        return Ok(());
    }
    let theirs = if home.place == BUCKET { "a bucket" } else { "the files of another data directory" };
    Err(ConfigError::new(format!(
        "the blobs of this database are in {theirs}, and this process would keep its own in {}: set CONTINUO_BLOBS_S3_ENDPOINT \
         and its siblings to one bucket on every replica",
        data_dir.blobs().display()
    ))
    .into())
}

/// Notes now and then how far the embedded log has come, so that an older copy of it is told from the log itself.
pub(super) fn noting(
    database: &Database,
    records: &Records,
    data_dir: &DataDir,
    stopping: &CancellationToken,
) -> Option<impl Future<Output = Result<()>> + Send + use<>> {
    records.position()?;
    let (database, records, data_dir) = (database.clone(), records.clone(), data_dir.clone());
    let stopping = stopping.clone();
    Some(async move {
        let mut noted = None;
        while stopping.run_until_cancelled(tokio::time::sleep(NOTE_EVERY)).await.is_some() {
            if noted == records.position() {
                continue;
            }
            let position = records.position();
            match note(&database, &records, &data_dir).await {
                Ok(()) => noted = position,
                Err(error) => warn!(error = format!("{error:#}"), "the position of the channel log is not noted"),
            }
        }
        Ok(())
    })
}

/// Notes how far the embedded log has come: what is durable there, so never more than a later copy of it has.
pub(super) async fn note(database: &Database, records: &Records, data_dir: &DataDir) -> Result<()> {
    let Some(position) = records.position() else { return Ok(()) };
    let place = embedded_place(data_dir)?;
    database.note_position(LOG, &place, position).await.map_err(explain).context("cannot write to the database")
}

/// From here on no server starts on this database.
pub(super) async fn mark_moved(database: &Database) -> Result<()> {
    database.move_home(LOG, MOVED).await.map_err(explain).context("cannot mark the old database as moved")
}

fn log_place(config: &Config, data_dir: &DataDir) -> Result<String> {
    match config.s2.endpoint {
        Some(_) => Ok(format!("s2 {}", config.s2.basin_prefix)),
        None => embedded_place(data_dir),
    }
}

fn embedded_place(data_dir: &DataDir) -> Result<String> {
    Ok(format!("embedded {}", data_dir.identity()?))
}
