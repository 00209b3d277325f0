//! What a task knows and holds while it executes.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio_util::sync::CancellationToken;
use tonic::Request;

use super::lease::Shared;
use crate::v1::channel_service_client::ChannelServiceClient;
use crate::v1::run_service_client::RunServiceClient;
use crate::v1::session_service_client::SessionServiceClient;
use crate::v1::{Assignment, Run, Session, Waitpoint};

/// Answers hold at most about 1 MiB of records, and a payload of 3 MiB.
pub(super) const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// One assignment: the run, its session, its token, and what can be done with them. Cheap to clone.
///
/// Every call is made with the run's own token, which is renewed behind it, so that a run which lost its lease can write
/// nothing any more (`ABORTED`, reason `FENCED`).
#[derive(Clone)]
pub struct RunContext {
    pub(super) shared: Arc<Shared>,
    run: Arc<Run>,
}

impl RunContext {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let run = Arc::new(shared.assignment.run.clone().unwrap_or_default());
        Self { shared, run }
    }

    /// The assignment as it came, without its token.
    pub fn assignment(&self) -> &Assignment {
        &self.shared.assignment
    }

    /// The run.
    pub fn run(&self) -> &Run {
        &self.run
    }

    /// The run's id.
    pub fn run_id(&self) -> &str {
        &self.shared.key.run_id
    }

    /// The payload as text; JSON unless [`Run::payload_type`] says otherwise.
    pub fn payload(&self) -> &str {
        &self.run.payload
    }

    /// The session, if the run has one.
    pub fn session(&self) -> Option<&Session> {
        self.shared.assignment.session.as_ref()
    }

    /// What the run waited for, if it goes on after a wait.
    pub fn resumed_by(&self) -> Option<&Waitpoint> {
        self.shared.assignment.resumed_by.as_ref()
    }

    /// Number of the attempt, from 1.
    pub fn attempt_number(&self) -> u32 {
        self.shared.assignment.attempt_number
    }

    /// Number of the lease: the execution snapshot it began with.
    pub fn lease(&self) -> u64 {
        self.shared.key.lease
    }

    /// Where `.in` is unread according to the server: records at or after this number.
    pub fn in_seq_num(&self) -> u64 {
        self.shared.assignment.in_seq_num
    }

    /// Cancelled when the lease is over: stop at once, nothing the run writes counts. A task that does not return is dropped
    /// a moment later.
    pub fn revoked(&self) -> &CancellationToken {
        &self.shared.revoked
    }

    /// Cancelled when the run should end by itself: another one takes over. It may still write its last records.
    pub fn stop_requested(&self) -> &CancellationToken {
        &self.shared.stop_requested
    }

    /// Cancelled when the worker is going away: finish what is begun, wait for nothing new here.
    pub fn draining(&self) -> &CancellationToken {
        &self.shared.draining
    }

    /// Everything of the session's `.in` below this number was read. The server boots no further run for it, so say so
    /// only once it will not be needed again. Never moves back; sent along with the next messages of the worker.
    pub fn note_read(&self, seq_num: u64) {
        if self.shared.read.fetch_max(seq_num, Ordering::AcqRel) < seq_num {
            let _ = self.shared.read_moved.try_send(self.shared.key.clone());
        }
    }

    /// A name for the next record of this lease, never given twice.
    pub(super) fn next_part_id(&self) -> String {
        let n = self.shared.next_part.fetch_add(1, Ordering::Relaxed);
        format!("{}.{}.{n}", self.shared.key.run_id, self.shared.key.lease)
    }

    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", self.shared.token.borrow().clone());
        request
    }

    pub(super) fn channels(&self) -> ChannelServiceClient<tonic::transport::Channel> {
        ChannelServiceClient::new(self.shared.data.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub(super) fn runs(&self) -> RunServiceClient<tonic::transport::Channel> {
        RunServiceClient::new(self.shared.data.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub(super) fn sessions(&self) -> SessionServiceClient<tonic::transport::Channel> {
        SessionServiceClient::new(self.shared.data.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }
}

impl fmt::Debug for RunContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunContext").field("run_id", &self.run_id()).field("lease", &self.lease()).finish()
    }
}
