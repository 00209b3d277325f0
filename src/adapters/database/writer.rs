//! The batching writer: one task owns the one writing connection, so writers never wait for a lock, only for their turn.
//!
//! Callers hand in jobs. The task opens a transaction, runs what has been queued meanwhile, each job in a savepoint of its
//! own, commits once, and only then answers. A job that fails rolls back itself and nothing else. Under load many jobs
//! share one sync; alone a job waits for nobody.

use crate::error::{failed, not_committed};
use crate::sqlite;
use continuo_domain::error::Cause;
use continuo_domain::{Error, Result};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sea_orm::{DatabaseConnection, DatabaseTransaction, DbErr, SqliteTransactionMode};
use sea_orm::{TransactionOptions, TransactionTrait};
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// Jobs in one transaction. Bounds how long the first one waits for the last one.
const BATCH_MAX: usize = 128;
/// Jobs that may stand in the queue; a caller beyond that waits for room.
const QUEUE_MAX: usize = 1_024;

/// What the writer has done since the database was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriterStats {
    /// Jobs that were run.
    pub jobs: u64,
    /// Transactions that were committed, each with one sync.
    pub commits: u64,
    /// Commits and savepoints that failed; the connection was replaced each time.
    pub failures: u64,
}

#[derive(Default)]
struct Counters {
    jobs: AtomicU64,
    commits: AtomicU64,
    failures: AtomicU64,
}

pub(crate) struct Writer {
    queue: mpsc::Sender<Message>,
    counters: Arc<Counters>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    /// Takes the connection over. The task ends when the last handle is dropped, or with `close`; what is queued by then
    /// is still written.
    pub(crate) fn start(connection: DatabaseConnection, path: PathBuf) -> Self {
        let (queue, jobs) = mpsc::channel(QUEUE_MAX);
        let counters = Arc::new(Counters::default());
        let task = WriterTask { connection, path, counters: counters.clone() };
        let task = tokio::spawn(task.run(jobs));
        Self { queue, counters, task: Mutex::new(Some(task)) }
    }

    /// Runs the job in a transaction and returns what it returned once that is durable. On an error nothing was written,
    /// except for `OutcomeUnknown`. A job may be dropped by its caller at any time: it runs as a whole or not at all.
    pub(crate) async fn write<T, F>(&self, run: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(&'t DatabaseTransaction) -> BoxFuture<'t, Result<T>> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job = Box::new(Write { run, reply });
        self.queue.send(Message::Job(job)).await.map_err(|_| Error::Stopping)?;
        answer.await.unwrap_or_else(|_| Err(Error::OutcomeUnknown(Cause::new("the writer was torn down"))))
    }

    pub(crate) async fn close(&self) {
        // Refused only if the task has ended already.
        let _ = self.queue.send(Message::Close).await;
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            let _ = task.await;
        }
    }

    pub(crate) fn stats(&self) -> WriterStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Counters { jobs, commits, failures } = &*self.counters;
        WriterStats { jobs: read(jobs), commits: read(commits), failures: read(failures) }
    }
}

enum Message {
    Job(Box<dyn Job>),
    Close,
}

/// A write whose result type is forgotten.
trait Job: Send {
    fn run<'t>(self: Box<Self>, transaction: &'t DatabaseTransaction) -> BoxFuture<'t, Ran>;
    fn refuse(self: Box<Self>, error: Error);
}

struct Ran {
    is_ok: bool,
    /// Tells the caller, given what became of the commit.
    answer: Box<dyn FnOnce(Result<()>) + Send>,
}

struct Write<T, F> {
    run: F,
    reply: oneshot::Sender<Result<T>>,
}

impl<T, F> Job for Write<T, F>
where
    T: Send + 'static,
    F: for<'t> FnOnce(&'t DatabaseTransaction) -> BoxFuture<'t, Result<T>> + Send + 'static,
{
    fn run<'t>(self: Box<Self>, transaction: &'t DatabaseTransaction) -> BoxFuture<'t, Ran> {
        let Self { run, reply } = *self;
        let run = AssertUnwindSafe(async move { run(transaction).await }).catch_unwind();
        async move {
            let result = run.await.unwrap_or_else(|_| Err(Error::internal("a write panicked")));
            // A caller that went away is not told; its write counts all the same.
            Ran { is_ok: result.is_ok(), answer: Box::new(move |commit| drop(reply.send(commit.and(result)))) }
        }
        .boxed()
    }

    fn refuse(self: Box<Self>, error: Error) {
        let _ = self.reply.send(Err(error));
    }
}

struct WriterTask {
    connection: DatabaseConnection,
    path: PathBuf,
    counters: Arc<Counters>,
}

impl WriterTask {
    async fn run(mut self, mut jobs: mpsc::Receiver<Message>) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        while jobs.recv_many(&mut batch, BATCH_MAX).await > 0 {
            let mut ready = Vec::with_capacity(batch.len());
            for message in batch.drain(..) {
                match message {
                    Message::Job(job) => ready.push(job),
                    Message::Close => jobs.close(),
                }
            }
            self.run_batch(ready).await;
        }
        if let Err(error) = self.connection.close().await {
            tracing::warn!(%error, "the database's writer did not close cleanly");
        }
    }

    async fn run_batch(&mut self, batch: Vec<Box<dyn Job>>) {
        if batch.is_empty() {
            return;
        }
        self.counters.jobs.fetch_add(batch.len() as u64, Ordering::Relaxed);
        let options = TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..Default::default()
        };
        let transaction = match self.connection.begin_with_options(options).await {
            Ok(transaction) => transaction,
            Err(error) => {
                let error = failed(error);
                batch.into_iter().for_each(|job| job.refuse(error.clone()));
                return self.replace_connection(&error).await;
            }
        };
        let mut answers = Vec::with_capacity(batch.len());
        let outcome = run_all(transaction, batch, &mut answers).await;
        if let Err(error) = &outcome {
            self.replace_connection(error).await;
        } else {
            self.counters.commits.fetch_add(1, Ordering::Relaxed);
        }
        answers.into_iter().for_each(|answer| answer(outcome.clone()));
    }

    /// After a failed begin, savepoint or commit the state of the connection is a guess; a fresh one is not. SQLite's log is
    /// a chain of checksums from its last good commit, so what a failed commit left behind is overwritten by the next.
    async fn replace_connection(&mut self, error: &Error) {
        self.counters.failures.fetch_add(1, Ordering::Relaxed);
        let cause = error.cause().map(Cause::for_log).unwrap_or_default();
        tracing::error!(cause, "a transaction of the database's writer failed; its connection is replaced");
        let old = std::mem::replace(&mut self.connection, sqlite::writer(&self.path));
        let _ = old.close().await;
    }
}

type Answer = Box<dyn FnOnce(Result<()>) + Send>;

/// Runs every job and commits. On an error nothing of the batch stays, or it is not known whether it does.
async fn run_all(transaction: DatabaseTransaction, batch: Vec<Box<dyn Job>>, answers: &mut Vec<Answer>) -> Result<()> {
    let mut broken: Option<Error> = None;
    for job in batch {
        if let Some(error) = &broken {
            job.refuse(error.clone());
            continue;
        }
        let savepoint = match transaction.begin().await {
            Ok(savepoint) => savepoint,
            Err(error) => {
                let error = failed(error);
                job.refuse(error.clone());
                broken = Some(error);
                continue;
            }
        };
        let ran = job.run(&savepoint).await;
        answers.push(ran.answer);
        broken = end(savepoint, ran.is_ok).await.err().map(failed);
    }
    match broken {
        None => transaction.commit().await.map_err(not_committed),
        Some(error) => {
            // SQLite may have rolled back already, which makes this one fail.
            let _ = transaction.rollback().await;
            Err(error)
        }
    }
}

async fn end(savepoint: DatabaseTransaction, is_ok: bool) -> Result<(), DbErr> {
    if is_ok { savepoint.commit().await } else { savepoint.rollback().await }
}
