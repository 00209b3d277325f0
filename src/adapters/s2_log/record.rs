//! Records as they stand in S2: ours, and on one that was claimed a last header with the claim's mark.

use bytes::Bytes;
use continuo_domain::channel::{APPEND_METERED_BYTES_MAX, Append, ChannelKey, Direction, Header, NewRecord, Record};
use continuo_domain::{Error, Result, Timestamp, Violation};
use s2_sdk::types::{self as s2, AppendRecord, AppendRecordBatch, SequencedRecord};
use sha2::{Digest, Sha256};

/// The last header of a claimed record; its value is the mark. On a record that was not claimed and whose own last header
/// has this name, an empty one is added, so that taking the last one off is always right.
pub(crate) const MARK_HEADER: &[u8] = b"continuo-claim";
/// Longest mark.
const MARK_BYTES_MAX: usize = 48;
/// What a mark adds to what S2 counts.
const MARK_METERED_BYTES: usize = 2 + MARK_HEADER.len() + MARK_BYTES_MAX;
/// A mark that stands in the claim only: begins with this, then the number of records, then a dot.
const BARE: char = '=';

/// Is a claim to be made before this append? For every part id, for everything a client says on `.in`, and for a record that
/// is too large to carry a mark: those are told apart by claims alone.
pub(crate) fn wants_claim(channel_is_input: bool, append: &Append) -> bool {
    let has_data = append.records.iter().any(|record| !is_command(record));
    append.part_id.is_some() || (has_data && (channel_is_input || !has_room(&append.records)))
}

pub(crate) fn is_input(channel: &ChannelKey) -> bool {
    channel.is_reserved() && channel.direction == Direction::In
}

fn is_command(record: &NewRecord) -> bool {
    matches!(record.command(), Ok(Some(_)))
}

/// Can a mark be put on one of the records?
pub(crate) fn has_room(records: &[NewRecord]) -> bool {
    let metered: usize = records.iter().map(NewRecord::metered_bytes).sum();
    metered + MARK_METERED_BYTES <= APPEND_METERED_BYTES_MAX && records.iter().any(|record| !is_command(record))
}

/// How many commands come before the record that carries the mark.
pub(crate) fn leading_commands(records: &[NewRecord]) -> u64 {
    records.iter().take_while(|record| is_command(record)).count() as u64
}

/// A mark for records without room for one.
pub(crate) fn bare_mark(mark: &str, records: usize) -> String {
    format!("{BARE}{records}.{mark}")
}

/// How many records were claimed by a mark that none of them carries.
pub(crate) fn bare_records(mark: &str) -> Option<usize> {
    mark.strip_prefix(BARE)?.split_once('.')?.0.parse().ok()
}

/// What tells a repeat from another record.
pub(crate) fn digest(records: &[NewRecord]) -> [u8; 32] {
    digest_of(records.iter().map(|record| (record.headers.as_slice(), record.body.as_ref())))
}

/// As [`digest`], of records that were read.
pub(crate) fn digest_read(records: &[Record]) -> [u8; 32] {
    digest_of(records.iter().map(|record| (record.headers.as_slice(), record.body.as_ref())))
}

fn digest_of<'a>(records: impl Iterator<Item = (&'a [Header], &'a [u8])>) -> [u8; 32] {
    let mut sha = Sha256::new();
    let mut put = |bytes: &[u8]| {
        sha.update((bytes.len() as u64).to_be_bytes());
        sha.update(bytes);
    };
    for (headers, body) in records {
        put(&(headers.len() as u64).to_be_bytes());
        for header in headers {
            put(&header.name);
            put(&header.value);
        }
        put(body);
    }
    sha.finalize().into()
}

/// The records of an append, the first that is no command with the mark.
pub(crate) fn to_s2(records: &[NewRecord], mark: Option<&str>) -> Result<AppendRecordBatch> {
    let mut mark = mark;
    let mut batch = Vec::with_capacity(records.len());
    for record in records {
        let own = if is_command(record) { None } else { mark.take() };
        batch.push(one_to_s2(&record.headers, &record.body, own)?);
    }
    AppendRecordBatch::try_from_iter(batch).map_err(|_| reserved())
}

/// Records of another log, with the times they have there.
pub(crate) fn to_s2_at(records: &[Record]) -> Result<AppendRecordBatch> {
    let mut batch = Vec::with_capacity(records.len());
    for record in records {
        let ms = u64::try_from(record.timestamp.0).unwrap_or_default();
        batch.push(one_to_s2(&record.headers, &record.body, None)?.with_timestamp(ms));
    }
    AppendRecordBatch::try_from_iter(batch).map_err(|_| reserved())
}

fn one_to_s2(headers: &[Header], body: &Bytes, mark: Option<&str>) -> Result<AppendRecord> {
    let mut all: Vec<_> = headers.iter().map(|h| s2::Header::new(h.name.clone(), h.value.clone())).collect();
    let is_mistakable = headers.last().is_some_and(|h| h.name == MARK_HEADER);
    if let Some(mark) = mark.or(is_mistakable.then_some("")) {
        all.push(s2::Header::new(MARK_HEADER, mark.to_owned()));
    }
    AppendRecord::new(body.clone()).and_then(|record| record.with_headers(all)).map_err(|_| reserved())
}

/// Every limit was checked before, so only an added header can break one.
fn reserved() -> Error {
    Violation::new("records.headers", "ends with the header continuo-claim, which is the server's own").into()
}

/// The mark that a record carries.
pub(crate) fn mark(record: &SequencedRecord) -> Option<&[u8]> {
    let last = record.headers.last()?;
    (last.name == MARK_HEADER && !last.value.is_empty()).then_some(last.value.as_ref())
}

/// The record as its writer meant it.
pub(crate) fn from_s2(record: SequencedRecord) -> Record {
    let mut headers: Vec<Header> =
        record.headers.into_iter().map(|h| Header { name: h.name, value: h.value }).collect();
    headers.pop_if(|last| last.name == MARK_HEADER);
    Record { seq_num: record.seq_num, timestamp: timestamp(record.timestamp), headers, body: record.body }
}

pub(crate) fn timestamp(ms: u64) -> Timestamp {
    Timestamp(i64::try_from(ms).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(records: &[NewRecord], mark: Option<&str>) -> Vec<SequencedRecord> {
        let batch = to_s2(records, mark).unwrap();
        let stored = |r: &AppendRecord| SequencedRecord::from_parts(0, 0, r.headers().to_vec(), r.body().to_vec());
        batch.iter().map(stored).collect()
    }

    #[test]
    fn what_is_added_is_taken_off_again() {
        let named = NewRecord { headers: vec![Header::new(MARK_HEADER, "x")], body: "b".into() };
        let records = [NewRecord::trim(1), named.clone(), NewRecord::data("c"), named];
        for set in [None, Some("m")] {
            let stored = stored(&records, set);
            assert_eq!(stored.iter().map(mark).collect::<Vec<_>>(), [None, set.map(str::as_bytes), None, None]);
            for (record, stored) in records.iter().zip(stored) {
                let read = from_s2(stored);
                assert_eq!((&read.headers, &read.body), (&record.headers, &record.body));
            }
        }
    }

    #[test]
    fn the_digest_tells_where_one_part_ends() {
        let of = |name: &'static str, value: &'static str, body: &'static str| {
            digest(&[NewRecord { headers: vec![Header::new(name, value)], body: body.into() }])
        };
        assert_eq!(of("a", "b", "c"), of("a", "b", "c"));
        assert_ne!(of("ab", "", "c"), of("a", "b", "c"));
        assert_ne!(of("a", "bc", ""), of("a", "b", "c"));
        assert_ne!(digest(&[NewRecord::data("ab")]), digest(&[NewRecord::data("a"), NewRecord::data("b")]));
    }

    #[test]
    fn a_record_at_the_limit_has_no_room_and_its_mark_says_how_many() {
        let body = |n: usize| NewRecord::data(vec![b'x'; n - 8]);
        assert!(has_room(&[body(APPEND_METERED_BYTES_MAX - MARK_METERED_BYTES)]));
        assert!(!has_room(&[body(APPEND_METERED_BYTES_MAX - MARK_METERED_BYTES + 1)]));
        assert!(!has_room(&[NewRecord::trim(1)]));
        assert_eq!(bare_records(&bare_mark("ab", 12)), Some(12));
        assert_eq!(bare_records("ab"), None);
    }
}
