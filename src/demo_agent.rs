//! The agent that `dev` starts: it answers every message of a session, token by token, and says which run is speaking, so
//! that one sees what a durable session is. It knows the public worker API only, needs no network and no model.
//!
//! It keeps nothing in memory that matters. What was answered stands on `.out` as turn-complete records; what was not is
//! answered by whichever run comes next, from the beginning.

mod answer;
mod chunks;
mod inbox;
mod input;

use std::time::Duration;

use anyhow::Context as _;
use continuo_proto::worker::{Outcome, RunContext, TaskError, Worker};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use self::answer::{Answer, Speaker};
use self::chunks::Voice;
use self::inbox::Inbox;
use self::input::{Input, message_text};
use crate::config::Demo;
use crate::server::InProcess;

/// The task's name.
pub const TASK: &str = "demo-agent";

/// Runs it executes at once; one that waits for input does not count.
const CAPACITY: u32 = 200;
/// Longest time a shutdown waits for answers that are under way.
const DRAIN_GRACE: Duration = Duration::from_secs(10);

/// How the agent behaves; a session's base payload may set `tokenDelayMs` for itself.
#[derive(Debug, Clone, Copy)]
pub struct DemoOptions {
    /// Milliseconds from one token to the next.
    pub token_ms: u32,
    /// Milliseconds a run stays awake for a quick follow-up before it suspends.
    pub idle_ms: u32,
}

impl From<&Demo> for DemoOptions {
    fn from(settings: &Demo) -> Self {
        Self { token_ms: settings.token_ms, idle_ms: settings.idle_ms }
    }
}

/// Serves the task, over a connection inside the process, until `shutdown` is cancelled.
pub async fn run(
    server: InProcess,
    secret_key: String,
    options: DemoOptions,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    Worker::builder("http://in-process", secret_key)
        .connect_with(move |endpoint| server.channel(endpoint))
        .capacity(CAPACITY)
        .drain_grace(DRAIN_GRACE)
        .version(env!("CARGO_PKG_VERSION"))
        .task(TASK, move |ctx| converse(ctx, options))
        .run(shutdown)
        .await
        .context("the demo agent ended")
}

async fn converse(ctx: RunContext, options: DemoOptions) -> Result<Outcome, TaskError> {
    if ctx.session().is_none() {
        return Err(TaskError::new("demo-agent speaks in sessions; this run belongs to none").into_final());
    }
    match Conversation::open(ctx.clone(), options).await?.go_on().await {
        // Another run has taken over while this one was speaking; what it could not say any more, that one says.
        Err(_) if ctx.stop_requested().is_cancelled() => Ok(Outcome::Completed(None)),
        result => result,
    }
}

/// One run's part of a session.
struct Conversation {
    ctx: RunContext,
    inbox: Inbox,
    speaker: Speaker,
    voice: Voice,
    /// The message that the payload of a session's first run may hold.
    first: Option<String>,
}

impl Conversation {
    async fn open(ctx: RunContext, options: DemoOptions) -> Result<Self, TaskError> {
        let payload: Value = serde_json::from_str(ctx.payload()).unwrap_or_default();
        let turn = ctx.last_turn().await?;
        let answered = turn.in_seq_num.map_or(0, |seq_num| seq_num + 1);
        let unread_from = answered.max(ctx.in_seq_num());
        let is_first_boot = turn.seq_num.is_none() && ctx.resumed_by().is_none() && payload["continuation"] != true;
        let first = is_first_boot.then(|| message_text(&payload)).flatten();
        let token_ms = payload["tokenDelayMs"].as_u64().unwrap_or(options.token_ms.into());
        let idle = Duration::from_millis(options.idle_ms.into());
        Ok(Self {
            inbox: Inbox::open(ctx.clone(), unread_from, idle),
            speaker: Speaker::new(&ctx, &payload, turn.is_cut_off),
            voice: Voice::new(ctx.clone(), Duration::from_millis(token_ms)),
            first,
            ctx,
        })
    }

    async fn go_on(mut self) -> Result<Outcome, TaskError> {
        if let Some(text) = self.first.take() {
            self.answer(&text, 1, None).await?;
        }
        while !self.ctx.stop_requested().is_cancelled() {
            let Some((seq_num, input)) = self.inbox.next().await? else {
                return self.wait().await;
            };
            match input {
                Input::Message(text) if is_upgrade(&text) => return self.hand_over(seq_num).await,
                Input::Message(text) => self.answer(&text, self.inbox.messages(), Some(seq_num)).await?,
                Input::Again => {
                    let text = self.inbox.last_message().to_owned();
                    self.answer(&text, self.inbox.messages(), Some(seq_num)).await?;
                }
                Input::Close => {
                    self.ctx.note_read(seq_num + 1);
                    return Ok(Outcome::Completed(None));
                }
                Input::Stop | Input::Nothing => {}
            }
        }
        Ok(Outcome::Completed(None))
    }

    async fn answer(&mut self, text: &str, number: u64, in_seq_num: Option<u64>) -> Result<(), TaskError> {
        let answer = self.speaker.answer(text, number);
        self.say(answer, in_seq_num).await
    }

    async fn say(&mut self, answer: Answer, in_seq_num: Option<u64>) -> Result<(), TaskError> {
        if self.voice.say(&answer, in_seq_num, &mut self.inbox).await? {
            self.ctx.turn_complete(in_seq_num).await?;
        }
        Ok(())
    }

    /// The answer first, then the new run: it must not find this message unanswered.
    async fn hand_over(mut self, in_seq_num: u64) -> Result<Outcome, TaskError> {
        let answer = self.speaker.farewell();
        self.say(answer, Some(in_seq_num)).await?;
        self.ctx.end_and_continue("upgrade").await?;
        Ok(Outcome::Completed(None))
    }

    async fn wait(self) -> Result<Outcome, TaskError> {
        let last = self.inbox.last_seq_num();
        if let Some(last) = last {
            self.ctx.note_read(last + 1);
        }
        self.ctx.wait_for_input(last).await
    }
}

fn is_upgrade(text: &str) -> bool {
    text.trim().eq_ignore_ascii_case("upgrade")
}
