//! The session's `.in`, understood and in order.

use std::collections::VecDeque;
use std::future::pending;
use std::time::Duration;

use continuo_proto::v1::Record;
use continuo_proto::worker::{ChannelReader, ReadEvent, RunContext, TaskError};
use tokio::time::{Instant, sleep_until};

use super::input::{self, Input};

/// Inputs read ahead while an answer is under way; beyond that the channel waits.
const AHEAD_MAX: usize = 100;

/// Reads from the first record on, because an answer says which message of the session it answers; a demo's sessions are
/// short. What was answered before is counted and skipped.
pub(super) struct Inbox {
    ctx: RunContext,
    reader: ChannelReader,
    unread_from: u64,
    idle: Duration,
    ahead: VecDeque<(u64, Input)>,
    messages: u64,
    last_message: String,
    last_seq_num: Option<u64>,
    is_caught_up: bool,
}

impl Inbox {
    pub(super) fn open(ctx: RunContext, unread_from: u64, idle: Duration) -> Self {
        Self {
            reader: ctx.read_in(0),
            ctx,
            unread_from,
            idle,
            ahead: VecDeque::new(),
            messages: 0,
            last_message: String::new(),
            // Also if retention has taken the record itself.
            last_seq_num: unread_from.checked_sub(1),
            is_caught_up: false,
        }
    }

    /// How many messages the session had, up to the input that was taken last.
    pub(super) fn messages(&self) -> u64 {
        self.messages
    }

    /// The message that was taken last.
    pub(super) fn last_message(&self) -> &str {
        &self.last_message
    }

    /// The newest record seen.
    pub(super) fn last_seq_num(&self) -> Option<u64> {
        self.last_seq_num
    }

    /// The next input, or `None` once nothing came for the idle time, or the run should wait elsewhere.
    pub(super) async fn next(&mut self) -> Result<Option<(u64, Input)>, TaskError> {
        let mut idle_until = None;
        while self.ahead.is_empty() {
            if self.is_caught_up {
                idle_until.get_or_insert_with(|| Instant::now() + self.idle);
            }
            tokio::select! {
                biased;
                event = self.reader.next() => self.take(event?),
                () = over(idle_until, &self.ctx) => return Ok(None),
            }
        }
        let next = self.ahead.pop_front();
        if let Some((_, input)) = &next {
            self.count(input);
        }
        Ok(next)
    }

    /// Reads ahead until somebody says stop.
    pub(super) async fn stopped(&mut self) -> Result<(), TaskError> {
        loop {
            if self.ahead.len() >= AHEAD_MAX {
                return pending().await;
            }
            let event = self.reader.next().await?;
            self.take(event);
            if let Some((_, Input::Stop)) = self.ahead.back() {
                self.ahead.pop_back();
                return Ok(());
            }
        }
    }

    fn take(&mut self, event: ReadEvent) {
        match event {
            ReadEvent::Record(record) => self.take_record(&record),
            ReadEvent::CaughtUp => self.is_caught_up = true,
            ReadEvent::Gap { .. } => {}
        }
    }

    fn take_record(&mut self, record: &Record) {
        let input = input::read(&record.body);
        if record.seq_num < self.unread_from {
            self.count(&input);
            return;
        }
        self.last_seq_num = Some(record.seq_num);
        self.ahead.push_back((record.seq_num, input));
    }

    fn count(&mut self, input: &Input) {
        if let Input::Message(text) = input {
            self.messages += 1;
            self.last_message.clone_from(text);
        }
    }
}

/// The idle time has passed, or there is a reason not to use it up. Never before everything there is was read.
async fn over(idle_until: Option<Instant>, ctx: &RunContext) {
    let Some(idle_until) = idle_until else { return pending().await };
    tokio::select! {
        () = ctx.stop_requested().cancelled() => {}
        () = ctx.draining().cancelled() => {}
        () = sleep_until(idle_until) => {}
    }
}
