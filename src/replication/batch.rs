//! Rows on their way into one insert.

use crate::Lsn;
use crate::transaction::Transaction;
use continuo_clickhouse::SessionRow;
use hashbrown::HashTable;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;
use tokio::time::Instant;

/// A batch of so many bytes is full, however few rows it has.
pub(crate) const BATCH_BYTES: usize = 4 << 20;
/// What a row takes beside its texts: its fields, and what the allocator adds for each text.
const ROW_BYTES: usize = size_of::<SessionRow>() + 12 * 16;

/// When a batch leaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) rows: usize,
    pub(crate) bytes: usize,
    pub(crate) interval: Duration,
}

/// The sessions that the last transactions changed, each as the last of them left it.
///
/// A batch normally ends where a transaction does. One that is twice full leaves within a transaction; the rest of that
/// transaction comes in the next ones. Each of those [`Batch::is_continued`] and must not overtake the one before: their rows
/// have the same version, and of such rows the index shows what was stored last.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    rows: Vec<SessionRow>,
    /// Where in `rows` each session is.
    places: HashTable<usize>,
    hasher: RandomState,
    bytes: usize,
    first_at: Option<Instant>,
    /// The transactions that end in it and that the database has notes of.
    noted: Vec<u32>,
    /// When the transactions that end in it were committed.
    committed_at: Vec<i64>,
    end_lsn: Option<Lsn>,
    is_continued: bool,
}

/// A batch that takes no more rows.
#[derive(Debug)]
pub(crate) struct Cargo {
    pub(crate) rows: Vec<SessionRow>,
    pub(crate) noted: Vec<u32>,
    pub(crate) committed_at: Vec<i64>,
    /// The end of the last transaction that ends in it.
    pub(crate) end_lsn: Option<Lsn>,
}

impl Batch {
    /// A session as the transaction leaves it, which is what counts of it.
    pub(crate) fn put(&mut self, row: SessionRow) {
        self.first_at.get_or_insert_with(Instant::now);
        self.bytes += bytes_of(&row);
        let hash = self.hasher.hash_one(&row.session_id);
        match self.places.find(hash, |place| self.rows[*place].session_id == row.session_id) {
            Some(place) => {
                let before = std::mem::replace(&mut self.rows[*place], row);
                self.bytes -= bytes_of(&before);
            }
            None => {
                self.rows.push(row);
                let of = |place: &usize| self.hasher.hash_one(&self.rows[*place].session_id);
                self.places.insert_unique(hash, self.rows.len() - 1, of);
            }
        }
    }

    /// The transaction that was read last is complete.
    pub(crate) fn commit(&mut self, transaction: &Transaction, end_lsn: Lsn) {
        self.end_lsn = Some(end_lsn);
        if transaction.is_noted {
            self.first_at.get_or_insert_with(Instant::now);
            self.noted.push(transaction.id);
            self.committed_at.push(transaction.committed_at);
        }
    }

    /// Nothing to store, and no note to remove.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.noted.is_empty()
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows.len()
    }

    /// The end of the last transaction that ends in it.
    pub(crate) fn end_lsn(&self) -> Option<Lsn> {
        self.end_lsn
    }

    /// Does it go on with a transaction that began in the batch before?
    pub(crate) fn is_continued(&self) -> bool {
        self.is_continued
    }

    /// Is there enough for it to leave, between transactions?
    pub(crate) fn is_full(&self, limits: &Limits) -> bool {
        self.rows.len() >= limits.rows || self.bytes >= limits.bytes
    }

    /// Is there so much that no more is read before it has left, also within a transaction? A transaction that is in parts
    /// already has no reason to wait for its end.
    pub(crate) fn is_overfull(&self, limits: &Limits) -> bool {
        let times = if self.is_continued { 1 } else { 2 };
        self.rows.len() >= times * limits.rows || self.bytes >= times * limits.bytes
    }

    /// When it leaves although it is not full.
    pub(crate) fn due_at(&self, limits: &Limits) -> Option<Instant> {
        self.first_at.map(|at| at + limits.interval)
    }

    /// Hands over what is in it and begins anew; within a transaction, with the rest of it.
    pub(crate) fn take(&mut self, is_in_transaction: bool) -> Cargo {
        let next = Self { is_continued: is_in_transaction, ..Self::default() };
        let taken = std::mem::replace(self, next);
        Cargo { rows: taken.rows, noted: taken.noted, committed_at: taken.committed_at, end_lsn: taken.end_lsn }
    }
}

fn bytes_of(row: &SessionRow) -> usize {
    let texts = [
        &row.environment_id,
        &row.organization_id,
        &row.project_id,
        &row.environment_type,
        &row.friendly_id,
        &row.external_id,
        &row.r#type,
        &row.task_identifier,
        &row.metadata,
        &row.closed_reason,
    ];
    let texts = texts.iter().map(|text| text.len()).sum::<usize>() + row.session_id.len();
    let tags = row.tags.iter().map(|tag| tag.len() + size_of::<String>() + 16).sum::<usize>();
    ROW_BYTES + texts + tags
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { rows: 2, bytes: 10_000, interval: Duration::from_millis(50) };

    fn row(id: &str, metadata_bytes: usize) -> SessionRow {
        SessionRow {
            environment_id: "env_a".into(),
            organization_id: "org_a".into(),
            project_id: "proj_a".into(),
            session_id: id.into(),
            environment_type: "PRODUCTION".into(),
            friendly_id: id.into(),
            external_id: String::new(),
            r#type: "chat.agent".into(),
            task_identifier: "agent".into(),
            tags: vec!["tag".into()],
            metadata: "x".repeat(metadata_bytes),
            closed_at: None,
            closed_reason: String::new(),
            expires_at: None,
            created_at: 1,
            updated_at: 1,
            _version: 1,
            _is_deleted: 0,
            is_test: 0,
        }
    }

    fn transaction(id: u32, is_noted: bool) -> Transaction {
        Transaction { is_noted, ..Transaction::begin(1, 100, 0, id) }
    }

    #[tokio::test]
    async fn it_is_full_by_rows_and_by_bytes() {
        let mut batch = Batch::default();
        batch.put(row("a", 0));
        assert!(!batch.is_full(&LIMITS) && batch.due_at(&LIMITS).is_some());
        batch.put(row("a", 9_900));
        assert!(batch.is_full(&LIMITS) && !batch.is_overfull(&LIMITS), "by bytes");
        batch.put(row("a", 0));
        assert!(!batch.is_full(&LIMITS), "what was replaced takes nothing");
        for (id, (is_full, is_overfull)) in [("b", (true, false)), ("c", (true, false)), ("d", (true, true))] {
            batch.put(row(id, 0));
            assert_eq!((batch.is_full(&LIMITS), batch.is_overfull(&LIMITS)), (is_full, is_overfull), "{id}");
        }
        assert_eq!(batch.take(false).rows.len(), 4);
        assert_eq!((batch.rows(), batch.bytes, batch.due_at(&LIMITS)), (0, 0, None));
    }

    #[tokio::test]
    async fn what_leaves_within_a_transaction_is_gone_on_with() {
        let mut batch = Batch::default();
        batch.put(row("a", 0));
        batch.commit(&transaction(7, true), 150);
        batch.put(row("b", 0));
        let first = batch.take(true);
        assert_eq!((first.rows.len(), first.noted, first.end_lsn), (2, vec![7], Some(150)));
        assert!(batch.is_continued() && batch.is_empty());
        // Its end alone is a batch: the notes of the whole transaction go now.
        batch.commit(&transaction(8, true), 250);
        assert!(!batch.is_empty() && batch.due_at(&LIMITS).is_some());
        let second = batch.take(false);
        assert_eq!((second.rows.len(), second.noted, second.end_lsn), (0, vec![8], Some(250)));
        assert!(!batch.is_continued());
    }

    #[tokio::test]
    async fn a_transaction_without_notes_needs_no_insert() {
        let mut batch = Batch::default();
        batch.commit(&transaction(7, false), 150);
        assert!(batch.is_empty() && batch.due_at(&LIMITS).is_none());
        assert_eq!(batch.end_lsn(), Some(150));
    }
}
