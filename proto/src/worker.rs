//! A worker in a few lines: it takes runs from the server, executes them, and keeps its leases while it does.
//!
//! It uses the public gRPC API only, so that it shows what a worker in another language has to do. The server sends
//! assignments while there is room; each becomes one call of the [`Task`] registered for its name, with a [`RunContext`]
//! to read the session's `.in`, write its `.out`, wait, and hand over.
//!
//! ```no_run
//! use continuo_proto::v1::NewRecord;
//! use continuo_proto::worker::{Outcome, ReadEvent, RunContext, TaskError, Worker};
//! use tokio_util::sync::CancellationToken;
//!
//! async fn echo(ctx: RunContext) -> Result<Outcome, TaskError> {
//!     let mut inbox = ctx.read_in(ctx.in_seq_num());
//!     let mut last = ctx.in_seq_num().checked_sub(1);
//!     while let ReadEvent::Record(record) = inbox.next().await? {
//!         let mut out = ctx.out_writer();
//!         out.send(NewRecord { headers: vec![], body: record.body }).await?;
//!         out.finish().await?;
//!         ctx.turn_complete(record.seq_num).await?;
//!         last = Some(record.seq_num);
//!     }
//!     ctx.wait_for_input(last).await // gives the place back; `echo` is called again when there is input
//! }
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let worker = Worker::builder("http://127.0.0.1:8080", "tr_dev_secret").capacity(100).task("echo", echo);
//! worker.run(CancellationToken::new()).await?;
//! # Ok(()) }
//! ```
//!
//! What it guarantees:
//!
//! * A run's records reach `.out` once and in order, also when the connection breaks between an append and its
//!   acknowledgement: every append has a part id and is repeated with it.
//! * A connection that breaks costs no run as long as it is back before the leases end. Leases that ended meanwhile cancel
//!   [`RunContext::revoked`], whoever noticed first.
//! * The end of a run is reported until the server knows it, and a panic is a failed attempt, not the end of the worker.

mod builder;
mod channels;
mod context;
mod event_loop;
mod lease;
mod link;
mod out_writer;
mod reader;
mod retry;
mod task;
#[cfg(test)]
mod tests;
mod turns;

pub use async_trait::async_trait;

pub use self::builder::{Worker, WorkerBuilder, WorkerError};
pub use self::context::RunContext;
pub use self::out_writer::OutWriter;
pub use self::reader::{ChannelReader, ReadEvent};
pub use self::task::{Outcome, Task, TaskError};
pub use self::turns::LastTurn;
