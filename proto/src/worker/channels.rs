//! What a run does with its session: read, write, wait, hand over.

use tonic::{Code, Status};

use super::context::RunContext;
use super::out_writer::OutWriter;
use super::reader::{ChannelReader, from_seq_num};
use super::retry::until_answered;
use super::task::{Outcome, TaskError};
use crate::v1::{
    AppendRequest, AppendResponse, ChannelRef, Direction, EndAndContinueRequest, EndAndContinueResponse,
    ListRecordsRequest, NewRecord, Record, SuspendOnWaitpointRequest, WaitOnChannelRequest,
};

/// Most records that `unread_in` answers with at once.
const UNREAD_RECORDS_MAX: usize = 1_000;

impl RunContext {
    /// The session's `.in` from a number on, then live.
    pub fn read_in(&self, from_seq_num_: u64) -> ChannelReader {
        ChannelReader::new(self.clone(), self.channel(Direction::In), from_seq_num(from_seq_num_))
    }

    /// What the server holds for unread on `.in` (see [`in_seq_num`](Self::in_seq_num)), without waiting: at most 1000
    /// records. For more, follow with [`read_in`](Self::read_in).
    pub async fn unread_in(&self) -> Result<Vec<Record>, Status> {
        let after_seq_num = self.in_seq_num().checked_sub(1);
        until_answered(self.revoked(), || async {
            let request = ListRecordsRequest { channel: Some(self.channel(Direction::In)), after_seq_num };
            let mut stream = self.channels().list_records(self.request(request)).await?.into_inner();
            let mut unread = Vec::new();
            while let Some(answer) = stream.message().await? {
                unread.extend(answer.records);
                if unread.len() >= UNREAD_RECORDS_MAX {
                    break;
                }
            }
            unread.truncate(UNREAD_RECORDS_MAX);
            Ok(unread)
        })
        .await
    }

    /// Writes one record to the session's `.out` and waits until it is durable. For many, take
    /// [`out_writer`](Self::out_writer); finish that one first where the order matters.
    pub async fn append_out(&self, record: NewRecord) -> Result<AppendResponse, Status> {
        let request = AppendRequest {
            channel: Some(self.channel(Direction::Out)),
            records: vec![record],
            part_id: Some(self.next_part_id()),
            ..Default::default()
        };
        until_answered(self.revoked(), || async {
            Ok(self.channels().append(self.request(request.clone())).await?.into_inner())
        })
        .await
    }

    /// Writes many records to the session's `.out`.
    pub fn out_writer(&self) -> OutWriter {
        OutWriter::new(self.clone(), self.channel(Direction::Out))
    }

    /// Suspends the run until there is a record on `.in` after `last_seq_num` (any record if `None`), and answers with what
    /// the task is to return. The run then holds no place here; its task is called again, maybe on another worker, with
    /// [`resumed_by`](Self::resumed_by) set.
    pub async fn wait_for_input(&self, last_seq_num: Option<u64>) -> Result<Outcome, TaskError> {
        let wait = WaitOnChannelRequest {
            run_id: self.run_id().to_owned(),
            session: self.session_id().to_owned(),
            direction: Direction::In.into(),
            last_seq_num,
            // A repeat after a lost answer finds the same waitpoint.
            idempotency_key: Some(self.next_part_id()),
            ..Default::default()
        };
        let answer = until_answered(self.revoked(), || async {
            Ok(self.runs().wait_on_channel(self.request(wait.clone())).await?.into_inner())
        });
        let waitpoint_id = answer.await?.waitpoint.map(|waitpoint| waitpoint.id).unwrap_or_default();
        self.suspend_on(waitpoint_id).await
    }

    /// Suspends the run until a waitpoint completes, and answers with what the task is to return.
    pub async fn suspend_on(&self, waitpoint_id: String) -> Result<Outcome, TaskError> {
        let run_id = self.run_id().to_owned();
        let suspend = SuspendOnWaitpointRequest { run_id, waitpoint_id, lease: Some(self.lease()) };
        let answer = until_answered(self.revoked(), || async {
            self.runs().suspend_on_waitpoint(self.request(suspend.clone())).await
        });
        match answer.await {
            // Aborted: the lease is over. Either an earlier try, whose answer was lost, has suspended the run, or it is lost
            // for another reason; in both cases there is nothing left to do here and the report has no effect.
            Err(status) if status.code() != Code::Aborted => Err(status.into()),
            _ => Ok(Outcome::Suspended),
        }
    }

    /// Hands the session over to a new run, if this run is still its current one; return soon after it. `reason` is
    /// `upgrade`, `continuation`, or a word of your own. Input that this run did not [note as read](Self::note_read) is for
    /// the new run.
    pub async fn end_and_continue(&self, reason: &str) -> Result<EndAndContinueResponse, Status> {
        let request = EndAndContinueRequest {
            session: self.session_id().to_owned(),
            calling_run_id: self.run_id().to_owned(),
            reason: reason.to_owned(),
            external_deployment_id: None,
        };
        until_answered(self.revoked(), || async {
            Ok(self.sessions().end_and_continue(self.request(request.clone())).await?.into_inner())
        })
        .await
    }

    /// Empty for a run without a session, which the server then refuses by name.
    fn session_id(&self) -> &str {
        self.session().map_or("", |session| &session.id)
    }

    pub(super) fn channel(&self, direction: Direction) -> ChannelRef {
        ChannelRef { session: self.session_id().to_owned(), name: String::new(), direction: direction.into() }
    }
}
