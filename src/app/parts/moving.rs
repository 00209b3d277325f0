//! Moving up: what an embedded data directory holds goes into the engines that the settings name, with its ids, its numbers
//! and its times.
//!
//! Channels first, blobs next, rows last and in one transaction: until they arrive, nobody there knows of the rest. Each step can
//! be broken off and done again. In the end the old directory is marked, so that no server starts on it by mistake.

use super::records::Records;
use super::{DataDir, blobs, explain, homes, rows};
use crate::config::{Config, ConfigError};
use anyhow::{Context, Result, anyhow};
use continuo_blob_files::BlobFiles;
use continuo_credentials::{Credentials, MasterKey};
use continuo_database::{CopyOptions, Database, SqlStore};
use continuo_domain::SessionId;
use continuo_domain::channel::{ChannelKey, Position, ReadFrom};
use continuo_domain::claim::Claim;
use continuo_domain::id::OrganizationId;
use continuo_embedded_log::{EmbeddedLog, Options};
use continuo_in_process::SystemClock;
use continuo_ports::{ChannelStore, Clock, Environments};
use continuo_s2_log::S2Log;
use futures_util::{StreamExt, TryStreamExt, stream};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Channels on their way at the same time.
const CHANNELS_AT_ONCE: usize = 16;
const BLOBS_AT_ONCE: usize = 4;
/// How long S2 has, in the end, to take away what was trimmed.
const TRIM_PATIENCE: Duration = Duration::from_secs(120);
const TRIM_PAUSE: Duration = Duration::from_millis(250);

/// What is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MoveStep {
    /// Records of channels.
    Records,
    /// Snapshots and packets.
    Blobs,
    /// Everything in the database.
    Rows,
}

/// Told of a step how many of how many are done.
pub type MoveProgress = Arc<dyn Fn(MoveStep, u64, u64) + Send + Sync>;

/// What was moved, now or by an earlier try.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moved {
    /// Channels that somebody wrote to.
    pub channels: u64,
    /// Their records, and those that were trimmed before.
    pub records: u64,
    /// Snapshots and packets.
    pub blobs: u64,
    /// Rows of all tables.
    pub rows: u64,
}

/// Moves everything in `from` into the cluster of the settings. No server may run on `from`.
pub async fn move_up(config: &Config, from: &Path, progress: MoveProgress) -> Result<Moved> {
    check(config, from)?;
    let mut old_dir = DataDir::at(from);
    old_dir.lock()?;
    let old = Old::open(&old_dir).await?;
    check_master_key(config, &old, from).await?;
    let new = New::open(config).await?;
    let (channels, records) = move_channels(&old, &new, &progress).await?;
    let blobs = move_blobs(config, &old_dir, &progress).await?;
    let rows = move_rows(&old, &new, &channels, &progress).await?;
    wait_for_trims(&old, &new, &channels).await?;
    homes::mark_moved(&old.database).await?;
    old.close().await?;
    new.close().await?;
    Ok(Moved { channels: channels.len() as u64, records, blobs, rows })
}

fn check(config: &Config, from: &Path) -> Result<(), ConfigError> {
    let refuse = |text: String| Err(ConfigError::new(text));
    if config.database.url.is_none() || config.s2.endpoint.is_none() {
        return refuse(
            "a move goes into a cluster: set CONTINUO_DATABASE_URL and CONTINUO_S2_ENDPOINT to its Postgres and S2"
                .into(),
        );
    }
    if !DataDir::at(from).database().is_file() {
        return refuse(format!("{} is no data directory of Continuo: it has no database in it", from.display()));
    }
    let is_same = |a: &Path, b: &Path| a.canonicalize().ok().is_some_and(|a| b.canonicalize().is_ok_and(|b| a == b));
    if is_same(from, &config.data_dir) {
        return refuse(format!(
            "--from and the data directory of the settings are both {}: set CONTINUO_DATA_DIR to a directory of its own",
            from.display()
        ));
    }
    Ok(())
}

/// What is moved.
struct Old {
    database: Database,
    store: Arc<SqlStore>,
    log: Arc<EmbeddedLog>,
    organizations: HashMap<SessionId, OrganizationId>,
}

impl Old {
    async fn open(dir: &DataDir) -> Result<Self> {
        let database = Database::open(dir.database()).await.map_err(explain).context("cannot open the old database")?;
        let store = Arc::new(SqlStore::new(database.clone()));
        let clock = SystemClock::new();
        let options = Options::new(dir.log(), move || clock.now());
        let log = tokio::task::spawn_blocking(move || EmbeddedLog::open(options)).await?;
        let log = Arc::new(log.map_err(explain).context("cannot open the old channel log")?);
        let organizations = database.session_organizations().await.map_err(explain)?;
        Ok(Self { database, store, log, organizations })
    }

    async fn close(self) -> Result<()> {
        let log = self.log.clone();
        tokio::task::spawn_blocking(move || log.close()).await?.map_err(explain)?;
        self.database.close().await;
        Ok(())
    }
}

/// Where it goes.
struct New {
    database: Database,
    records: Records,
    log: Arc<S2Log>,
}

impl New {
    async fn open(config: &Config) -> Result<Self> {
        let data_dir = DataDir::open(&config.data_dir)?;
        let database = rows::open(config, &data_dir).await?;
        let store = Arc::new(SqlStore::new(database.clone()));
        let records = Records::open(config, &data_dir, store, Arc::new(SystemClock::new())).await?;
        homes::check(config, &data_dir, &database, &records).await?;
        let Records::S2(log) = &records else { return Err(anyhow!("the log of a cluster is S2")) };
        let log = log.clone();
        Ok(Self { database, records, log })
    }

    fn basin(&self, organization: &OrganizationId) -> Result<String> {
        self.log.basin(organization).context("the log has no basin for an organization")
    }

    async fn close(self) -> Result<()> {
        self.records.close().await?;
        self.database.close().await;
        Ok(())
    }
}

/// What the old keys were sealed with must open them in the cluster as well.
async fn check_master_key(config: &Config, old: &Old, from: &Path) -> Result<()> {
    let given = config.keys.master_key.as_ref().map(|key| key.expose()).unwrap_or_default();
    let credentials = Credentials::new(old.store.clone(), Arc::new(SystemClock::new()), MasterKey::from_base64(given)?);
    for environment in old.store.all().await.map_err(explain)? {
        if credentials.root_key(&environment.tenant.environment).await.is_err() {
            return Err(ConfigError::new(format!(
                "the keys in {} were sealed with another master key: set CONTINUO_MASTER_KEY, here and on every replica, to what is \
                 in {}",
                from.display(),
                DataDir::at(from).master_key().display()
            ))
            .into());
        }
    }
    Ok(())
}

/// The channels of sessions that are there; what a deletion left half done stays behind. And how many numbers they have.
async fn move_channels(old: &Old, new: &New, progress: &MoveProgress) -> Result<(Vec<ChannelKey>, u64)> {
    let mut channels = old.log.channels().await.map_err(explain)?;
    channels.retain(|channel| old.organizations.contains_key(&channel.session));
    let mut total = 0;
    for channel in &channels {
        total += old.log.tail(channel).await.map_err(explain)?.position.seq_num;
    }
    let done = AtomicU64::new(0);
    let tell = |numbers: u64| {
        let before = done.fetch_add(numbers, Ordering::Relaxed);
        progress(MoveStep::Records, before + numbers, total);
    };
    let tell = &tell;
    let moves = channels.iter().map(|channel| async move {
        let basin = new.basin(&old.organizations[&channel.session])?;
        let moved = new.log.import(&*old.log, channel, &basin, tell).await;
        moved.map_err(explain).with_context(|| format!("cannot move channel {channel}"))
    });
    stream::iter(moves).buffer_unordered(CHANNELS_AT_ONCE).try_collect::<()>().await?;
    Ok((channels, total))
}

async fn move_blobs(config: &Config, old: &DataDir, progress: &MoveProgress) -> Result<u64> {
    let files = BlobFiles::open(old.blobs()).context("cannot open the old directory of blobs")?;
    let names = files.names().await.map_err(explain)?;
    let total = names.len() as u64;
    if names.is_empty() {
        return Ok(0);
    }
    let Some(s3) = &config.blobs.s3 else {
        return Err(ConfigError::new(format!(
            "there are {total} blobs to move and no bucket for them: set CONTINUO_BLOBS_S3_ENDPOINT and its siblings"
        ))
        .into());
    };
    let bucket = blobs::open_bucket(s3, &DataDir::open(&config.data_dir)?).await?;
    let (files, bucket) = (&files, &bucket);
    let moves = names.iter().map(|name| async move {
        let blob = files.get_by_name(name).await.map_err(explain)?.with_context(|| format!("blob {name} is gone"))?;
        bucket.put_named(name, blob).await.map_err(explain).with_context(|| format!("cannot move blob {name}"))
    });
    let mut moved = stream::iter(moves).buffer_unordered(BLOBS_AT_ONCE);
    let mut done = 0;
    while moved.try_next().await?.is_some() {
        done += 1;
        progress(MoveStep::Blobs, done, total);
    }
    Ok(total)
}

async fn move_rows(old: &Old, new: &New, channels: &[ChannelKey], progress: &MoveProgress) -> Result<u64> {
    let total = old.database.count_rows().await.map_err(explain)?;
    let mut claims = Vec::new();
    for channel in channels {
        claims.extend(claims_of(old, channel).await.map_err(explain)?);
    }
    let (log, progress, done) = (new.log.clone(), progress.clone(), AtomicU64::new(0));
    let options = CopyOptions {
        basin: Arc::new(move |organization| log.basin(organization).unwrap_or_default()),
        claims: claims.into(),
        progress: Arc::new(move |rows| {
            let before = done.fetch_add(rows, Ordering::Relaxed);
            progress(MoveStep::Rows, (before + rows).min(total), total);
        }),
    };
    old.database.copy_to(&new.database, options).await.map_err(explain).context("cannot move the rows")?;
    Ok(total)
}

/// The part ids that the embedded log knows by itself, as the claims that S2 needs instead.
async fn claims_of(old: &Old, channel: &ChannelKey) -> continuo_domain::Result<Vec<Claim>> {
    let parts = old.log.part_ids(channel).await?;
    let mut wanted: BTreeMap<_, _> = parts.into_iter().map(|(part_id, seq_num)| (seq_num, part_id)).collect();
    let mut claims = Vec::with_capacity(wanted.len());
    while let Some(next) = wanted.keys().next().copied() {
        for record in old.log.read(channel, ReadFrom::seq_num(next)).await?.0 {
            let Some(part_id) = wanted.remove(&record.seq_num) else { continue };
            claims.push(Claim {
                channel: channel.clone(),
                part_id,
                is_servers: false,
                digest: S2Log::digest(&record),
                mark: "moved".to_owned(),
                from_seq_num: record.seq_num,
                claimed_at: record.timestamp,
                settled_at: Some(Position { seq_num: record.seq_num, timestamp: record.timestamp }),
            });
        }
        // One that is no longer there was trimmed, and its part id with it.
        wanted.remove(&next);
    }
    Ok(claims)
}

/// S2 takes trimmed records away in its own time; a reader that came before would see them once more.
async fn wait_for_trims(old: &Old, new: &New, channels: &[ChannelKey]) -> Result<()> {
    let until = Instant::now() + TRIM_PATIENCE;
    for channel in channels {
        let earliest = old.log.tail(channel).await.map_err(explain)?.earliest_seq_num;
        let basin = new.basin(&old.organizations[&channel.session])?;
        while earliest > 0 && !new.log.has_trimmed(channel, &basin, earliest).await.map_err(explain)? {
            if Instant::now() > until {
                tracing::warn!(channel = %channel, "S2 has not taken away yet what was trimmed");
                return Ok(());
            }
            sleep(TRIM_PAUSE).await;
        }
    }
    Ok(())
}
