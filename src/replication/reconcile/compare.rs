//! A part of the database against the same part of the index.
//!
//! Every column is compared as it is, but metadata: the index keeps it as a tree of typed values and does not spell it as it was
//! written. Two texts that parse to the same value are the same. Where they do not, the index is asked how it would spell the
//! database's text, and that is compared with how it spells its own. So a number written `1.50`, a null that is not kept, a name
//! with a dot in it, or an integer beyond 64 bits are no differences for ever.

use super::snapshot::Part;
use super::{Report, Writer};
use crate::index::away;
use clickhouse::Row;
use clickhouse::error::Error as ClickHouseError;
use clickhouse::query::Query;
use continuo_clickhouse::{ClickHouse, SessionRow};
use continuo_domain::Result;
use serde::Deserialize;
use serde_json::Value;
use std::collections::{HashMap, HashSet};

/// So many bytes of metadata are sent to be spelled at a time, and so many are kept until they are written.
const METADATA_BYTES: usize = 4 << 20;
/// What a statement with that many may be long, with every byte escaped.
const QUERY_BYTES_MAX: &str = "33554432";

/// Compares part after part, and writes what differs.
pub(super) struct Comparison<'a> {
    clickhouse: &'a ClickHouse,
    table: String,
    /// What is written gets it. Rows of the index that are newer are left alone.
    version: u64,
    /// None where differences are only counted.
    writer: Option<Writer>,
    rows_max: usize,
    report: Report,
    /// To be written, and how many bytes of metadata they have.
    differing: (Vec<SessionRow>, usize),
}

/// A row whose metadata may differ, and how the index spells its own.
struct Doubt {
    place: usize,
    spelled: String,
}

#[derive(Row, Deserialize)]
struct Spelled {
    number: u32,
    metadata: String,
}

impl<'a> Comparison<'a> {
    pub(super) fn new(clickhouse: &'a ClickHouse, version: u64, writer: Option<Writer>, rows_max: usize) -> Self {
        let table = clickhouse.table("sessions_v1");
        Self { clickhouse, table, version, writer, rows_max, report: Report::default(), differing: Default::default() }
    }

    /// What was found so far.
    pub(super) fn report(&self) -> Report {
        self.report
    }

    /// Compares a part, and finds what of the index lies between its rows.
    pub(super) async fn compare(&mut self, part: Part) -> Result<()> {
        // In this order: otherwise every column of every row is merged before one is left out. The id is part of the key, so
        // that all versions of a row are in or out.
        let sql = format!("SELECT ?fields FROM {} FINAL PREWHERE {}", self.table, range(&part));
        let mut index = bound(self.clickhouse.client().query(&sql), &part).fetch::<SessionRow>().map_err(away)?;
        let places: HashMap<_, _> =
            part.rows.iter().enumerate().map(|(place, row)| (&*row.session_id, place)).collect();
        let (mut is_met, mut doubts) = (vec![false; part.rows.len()], Vec::new());
        self.report.compared += part.rows.len() as u64;
        while let Some(found) = index.next().await.map_err(away)? {
            let place = places.get(&*found.session_id).copied().filter(|place| is_same_key(&part.rows[*place], &found));
            let Some(place) = place else {
                self.report.compared += 1;
                if found._version <= self.version {
                    self.differs(SessionRow { _is_deleted: 1, ..found }).await?;
                }
                continue;
            };
            is_met[place] = true;
            let row = &part.rows[place];
            if found._version > self.version {
                continue;
            }
            if !is_same_but_metadata(row, &found) {
                self.differs(row.clone()).await?;
            } else if !is_same_value(&row.metadata, &found.metadata) {
                doubts.push(Doubt { place, spelled: found.metadata });
            }
        }
        for doubts in by_bytes(&doubts, |doubt| part.rows[doubt.place].metadata.len()) {
            let texts: Vec<_> = doubts.iter().map(|doubt| &*part.rows[doubt.place].metadata).collect();
            let spelled = self.spell(&texts).await?;
            for (number, doubt) in doubts.iter().enumerate() {
                let is_same = spelled.get(&(number as u32)).is_some_and(|text| is_same_value(text, &doubt.spelled));
                if !is_same {
                    self.differs(part.rows[doubt.place].clone()).await?;
                }
            }
        }
        let missing: Vec<_> = (0..part.rows.len()).filter(|place| !is_met[*place]).collect();
        if !missing.is_empty() {
            let removed = self.removed_since(&part).await?;
            for place in missing.into_iter().filter(|place| !removed.contains(&part.rows[*place].session_id)) {
                self.differs(part.rows[place].clone()).await?;
            }
        }
        Ok(())
    }

    /// Writes what is left.
    pub(super) async fn finish(mut self) -> Result<Report> {
        self.write().await?;
        Ok(self.report)
    }

    async fn differs(&mut self, row: SessionRow) -> Result<()> {
        self.report.differing += 1;
        if self.writer.is_none() {
            return Ok(());
        }
        let (rows, bytes) = &mut self.differing;
        *bytes += row.metadata.len();
        rows.push(SessionRow { _version: self.version, ..row });
        if rows.len() >= self.rows_max || *bytes >= METADATA_BYTES { self.write().await } else { Ok(()) }
    }

    async fn write(&mut self) -> Result<()> {
        let (rows, _) = std::mem::take(&mut self.differing);
        let Some(writer) = self.writer.as_ref().filter(|_| !rows.is_empty()) else { return Ok(()) };
        writer.write(&rows).await?;
        let removed = rows.iter().filter(|row| row._is_deleted == 1).count() as u64;
        self.report.removed += removed;
        self.report.written += rows.len() as u64 - removed;
        Ok(())
    }

    /// Sessions of the part that were removed from the index by what the snapshot does not show.
    async fn removed_since(&self, part: &Part) -> Result<HashSet<String>> {
        let sql = format!(
            "SELECT DISTINCT session_id FROM {} WHERE {} AND _is_deleted = 1 AND _version > ?",
            self.table,
            range(part)
        );
        let query = bound(self.clickhouse.client().query(&sql), part).bind(self.version);
        Ok(query.fetch_all::<String>().await.map_err(away)?.into_iter().collect())
    }

    /// How the index spells these texts, by their numbers. One that it refuses has no spelling, and neither have those beside
    /// it: writing them will tell which.
    async fn spell(&self, texts: &[&str]) -> Result<HashMap<u32, String>> {
        let numbers: Vec<_> = (0..texts.len() as u32).collect();
        let sql = "SELECT CAST(tupleElement(pair, 1) AS UInt32) AS number, \
                   CAST(tupleElement(pair, 2) AS JSON(max_dynamic_paths=256)) AS metadata \
                   FROM (SELECT arrayJoin(arrayZip(?, ?)) AS pair)";
        let query = self.clickhouse.client().query(sql).with_setting("max_query_size", QUERY_BYTES_MAX);
        match query.bind(numbers).bind(texts).fetch_all::<Spelled>().await {
            Ok(spelled) => Ok(spelled.into_iter().map(|spelled| (spelled.number, spelled.metadata)).collect()),
            Err(ClickHouseError::BadResponse(_)) => Ok(HashMap::new()),
            Err(error) => Err(away(error)),
        }
    }
}

/// The part as a condition of the index, to be [`bound`].
fn range(part: &Part) -> &'static str {
    if part.is_last { "session_id > ?" } else { "session_id > ? AND session_id <= ?" }
}

fn bound(query: Query, part: &Part) -> Query {
    let query = query.bind(&part.after);
    match part.rows.last().filter(|_| !part.is_last) {
        Some(last) => query.bind(&last.session_id),
        None => query,
    }
}

/// Where in the index a session lies. One that lies elsewhere is another row there, for ever.
fn is_same_key(one: &SessionRow, other: &SessionRow) -> bool {
    one.organization_id == other.organization_id
        && one.project_id == other.project_id
        && one.environment_id == other.environment_id
        && one.created_at == other.created_at
        && one.session_id == other.session_id
}

/// Every other column. Taken apart, so that a new one is not forgotten.
fn is_same_but_metadata(row: &SessionRow, found: &SessionRow) -> bool {
    let SessionRow {
        environment_id: _,
        organization_id: _,
        project_id: _,
        session_id: _,
        environment_type,
        friendly_id,
        external_id,
        r#type,
        task_identifier,
        tags,
        metadata: _,
        closed_at,
        closed_reason,
        expires_at,
        created_at: _,
        updated_at,
        _version: _,
        _is_deleted: _,
        is_test,
    } = row;
    is_same_key(row, found)
        && (environment_type, friendly_id, external_id)
            == (&found.environment_type, &found.friendly_id, &found.external_id)
        && (r#type, task_identifier, tags) == (&found.r#type, &found.task_identifier, &found.tags)
        && (closed_at, closed_reason, expires_at) == (&found.closed_at, &found.closed_reason, &found.expires_at)
        && (updated_at, is_test) == (&found.updated_at, &found.is_test)
}

/// Do both parse to the same? Names in any order.
fn is_same_value(one: &str, other: &str) -> bool {
    let parse = |text| serde_json::from_str::<Value>(text).ok();
    one == other || parse(one).zip(parse(other)).is_some_and(|(one, other)| one == other)
}

/// In runs of about [`METADATA_BYTES`].
fn by_bytes<T>(all: &[T], bytes: impl Fn(&T) -> usize) -> Vec<&[T]> {
    let (mut runs, mut start, mut sum) = (Vec::new(), 0, 0);
    for (end, one) in all.iter().enumerate() {
        sum += bytes(one);
        if sum >= METADATA_BYTES {
            runs.push(&all[start..=end]);
            (start, sum) = (end + 1, 0);
        }
    }
    runs.push(&all[start..]);
    runs.retain(|run| !run.is_empty());
    runs
}
