//! `sessions tail`: follows a channel, through lost connections, without gap or repeat.

use std::time::Duration;

use anyhow::bail;
use clap::Args;
use continuo_proto::v1::read_response::Event;
use continuo_proto::v1::read_start::Start;
use continuo_proto::v1::{ChannelRef, Direction, ReadRequest, ReadResponse, ReadStart, Record};
use tokio::time::{sleep, timeout};
use tonic::Status;

use super::CommonArgs;
use super::printer::{Printer, turn_complete};
use crate::cli::client::Client;
use crate::cli::failure::is_transient;
use crate::cli::output::{Output, note, spinner};

const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub(in crate::cli) struct TailArgs {
    /// Session id or external id; it need not exist yet.
    session: String,
    /// Begin at this record number.
    #[arg(long, default_value_t = 0, value_name = "SEQ_NUM")]
    from: u64,
    /// Named channel instead of the reserved one.
    #[arg(long, value_name = "NAME")]
    channel: Option<String>,
    /// Follow `.in` instead of `.out`.
    #[arg(long = "in")]
    is_in: bool,
    /// Return after the first complete turn.
    #[arg(long)]
    until_turn_complete: bool,
    /// With --until-turn-complete: only a turn counts that answers this `.in` record, or a later one.
    #[arg(long, requires = "until_turn_complete", value_name = "SEQ_NUM")]
    answers: Option<u64>,
    /// Give up after so many seconds, with an error; 0 follows for ever.
    #[arg(long, default_value_t = 0, value_name = "SECONDS")]
    timeout: u64,
    #[command(flatten)]
    common: CommonArgs,
}

pub(super) async fn execute(args: TailArgs, output: Output) -> anyhow::Result<()> {
    let client = args.common.client.connect()?;
    let direction = if args.is_in { Direction::In } else { Direction::Out };
    let follow = Follow {
        channel: ChannelRef {
            session: args.session,
            name: args.channel.unwrap_or_default(),
            direction: direction.into(),
        },
        from: args.from,
        is_turn_awaited: args.until_turn_complete,
        answers: args.answers,
        timeout_s: args.timeout,
        as_json: args.common.json,
    };
    Tail::new(client, follow, output).run().await
}

/// What to follow, and until when.
pub(super) struct Follow {
    pub(super) channel: ChannelRef,
    pub(super) from: u64,
    pub(super) is_turn_awaited: bool,
    /// The `.in` record that the awaited turn must have answered.
    pub(super) answers: Option<u64>,
    pub(super) timeout_s: u64,
    pub(super) as_json: bool,
}

pub(super) struct Tail {
    client: Client,
    follow: Follow,
    printer: Printer,
    next: u64,
    wait: Duration,
    was_connected: bool,
}

impl Tail {
    pub(super) fn new(client: Client, follow: Follow, output: Output) -> Self {
        let printer = Printer::new(output, follow.as_json);
        Self { client, next: follow.from, follow, printer, wait: FIRST_WAIT, was_connected: false }
    }

    pub(super) async fn run(mut self) -> anyhow::Result<()> {
        match self.follow.timeout_s {
            0 => self.until_done().await,
            seconds => match timeout(Duration::from_secs(seconds), self.until_done()).await {
                Ok(result) => result,
                Err(_) if self.follow.is_turn_awaited => bail!("no turn was complete within {seconds} s"),
                Err(_) => bail!("{seconds} s are over"),
            },
        }
    }

    async fn until_done(&mut self) -> anyhow::Result<()> {
        loop {
            let status = match self.until_broken().await? {
                None => return self.printer.end(),
                Some(status) => status,
            };
            // A server that was never there is an error, not something to wait for.
            if !self.was_connected || !is_transient(&status) {
                self.printer.end()?;
                return Err(status.into());
            }
            let spinner = spinner("the connection is lost; trying again");
            sleep(self.wait).await;
            spinner.finish_and_clear();
            self.wait = (self.wait * 2).min(LONGEST_WAIT);
        }
    }

    /// Prints until there is nothing more to do (`None`) or the stream breaks.
    async fn until_broken(&mut self) -> anyhow::Result<Option<Status>> {
        let start = ReadStart { start: Some(Start::SeqNum(self.next)), ..Default::default() };
        let request =
            ReadRequest { channel: Some(self.follow.channel.clone()), start: Some(start), ..Default::default() };
        let mut stream = match self.client.channels().read(request).await {
            Ok(answer) => answer.into_inner(),
            Err(status) => return Ok(Some(status)),
        };
        self.was_connected = true;
        loop {
            match stream.message().await {
                Ok(Some(response)) => {
                    if self.take(response)? {
                        return Ok(None);
                    }
                }
                Ok(None) => return Ok(Some(Status::unavailable("the server ended the stream"))),
                Err(status) => return Ok(Some(status)),
            }
        }
    }

    /// True if that was the end of what is awaited.
    fn take(&mut self, response: ReadResponse) -> anyhow::Result<bool> {
        self.wait = FIRST_WAIT;
        match response.event {
            Some(Event::Batch(batch)) => {
                for record in &batch.records {
                    self.next = record.seq_num + 1;
                    self.printer.record(record)?;
                    if self.is_awaited(record) {
                        return Ok(true);
                    }
                }
            }
            Some(Event::Gap(gap)) => {
                note(&format!("records {} to {} were trimmed away", gap.requested_seq_num, gap.earliest_seq_num));
                self.next = gap.earliest_seq_num;
            }
            Some(Event::Heartbeat(_) | Event::Settled(_)) | None => {}
        }
        Ok(false)
    }

    fn is_awaited(&self, record: &Record) -> bool {
        let Some(turn) = turn_complete(record) else { return false };
        let is_answer = match (self.follow.answers, turn.in_seq_num) {
            (Some(awaited), Some(answered)) => answered >= awaited,
            (Some(_), None) => false,
            (None, _) => true,
        };
        self.follow.is_turn_awaited && is_answer
    }
}
