//! The schema of the index in ClickHouse, append-only like the other one. ClickHouse has no transactions around DDL: every
//! statement is one that may run again.

/// A step of the schema.
#[derive(Clone, Copy, Debug)]
pub struct ClickHouseMigration {
    /// Its name, in `schema_migrations`.
    pub name: &'static str,
    /// What it runs, in order. `{database}` stands for the database, quoted.
    pub statements: &'static [&'static str],
}

/// Every step, oldest first.
pub const CLICKHOUSE_MIGRATIONS: &[ClickHouseMigration] =
    &[ClickHouseMigration { name: "c0001_sessions", statements: &[SESSIONS, EPOCHS] }];

/// Which steps have run. Made before the first of them.
pub const CLICKHOUSE_LEDGER: &[&str] = &[
    "CREATE DATABASE IF NOT EXISTS {database}",
    "CREATE TABLE IF NOT EXISTS {database}.schema_migrations (name String, applied_at DateTime64(3) DEFAULT now64(3)) \
     ENGINE = ReplacingMergeTree(applied_at) ORDER BY name",
];

/// A row for each session, the newest `_version` of it counts. `created_at` and everything before it in the order key never
/// change, so a session stays in its place. Metadata is wrapped as `{"data": …}`, because the type takes objects only. Empty
/// strings stand for NULL in `external_id` and `closed_reason`.
///
/// The first index of tags splits them into words and serves searches by word; the second one knows whole tags. The other ones by
/// whole values are for filters that few sessions match. Ids begin with their time, so a comparison that goes through them in order
/// finds each part in few places.
///
/// A page reads some granules of each part, so they are an eighth of the usual size: a page of a rare tag among a million sessions
/// reads a fifth of the rows.
const SESSIONS: &str = "CREATE TABLE IF NOT EXISTS {database}.sessions_v1 (
    environment_id String,
    organization_id String,
    project_id String,
    session_id String,
    environment_type LowCardinality(String),
    friendly_id String,
    external_id String DEFAULT '',
    type LowCardinality(String),
    task_identifier String DEFAULT '',
    tags Array(String) CODEC(ZSTD(1)),
    metadata JSON(max_dynamic_paths=256),
    closed_at Nullable(DateTime64(3)),
    closed_reason String DEFAULT '',
    expires_at Nullable(DateTime64(3)),
    created_at DateTime64(3),
    updated_at DateTime64(3),
    _version UInt64,
    _is_deleted UInt8 DEFAULT 0,
    is_test UInt8 DEFAULT 0,
    INDEX tags_words tags TYPE tokenbf_v1(32768, 3, 0) GRANULARITY 4,
    INDEX tags_whole tags TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX external_id_whole external_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX task_identifier_whole task_identifier TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX type_whole type TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX expires_at_range expires_at TYPE minmax GRANULARITY 1,
    INDEX session_id_range session_id TYPE minmax GRANULARITY 1
) ENGINE = ReplacingMergeTree(_version, _is_deleted)
PARTITION BY toYYYYMM(created_at)
ORDER BY (organization_id, project_id, environment_id, created_at, session_id)
SETTINGS index_granularity = 1024, enable_json_type = 1";

/// Which log the versions count in: the top 8 bits of `_version` are the epoch, and a log that begins anew has the next one.
const EPOCHS: &str = "CREATE TABLE IF NOT EXISTS {database}.replication_epochs_v1 (
    epoch UInt8,
    system_identifier String,
    timeline UInt32,
    slot_name String,
    raised_at DateTime64(3) DEFAULT now64(3)
) ENGINE = ReplacingMergeTree(raised_at) ORDER BY (slot_name, epoch)";
