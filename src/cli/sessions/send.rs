//! `sessions send`.

use std::hash::{BuildHasher, RandomState};
use std::io::{Read, stdin};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use continuo_proto::v1::{AppendRequest, AppendResponse, Boot, ChannelRef, CheckTailRequest, Direction, NewRecord};
use serde_json::json;
use tokio::time::sleep;

use super::CommonArgs;
use super::tail::{Follow, Tail};
use crate::cli::client::Client;
use crate::cli::failure::{Usage, is_transient};
use crate::cli::output::Output;

/// Tries of one append; a repeat with its part id writes nothing twice.
const TRIES: u32 = 5;
const FIRST_WAIT: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
pub(in crate::cli) struct SendArgs {
    /// Session id or external id.
    session: String,
    /// The text; `-` reads it from stdin.
    text: String,
    /// Follow the answer and return when its turn is complete.
    #[arg(long, conflicts_with = "channel")]
    wait: bool,
    /// With --wait: give up after so many seconds; 0 waits for ever.
    #[arg(long, default_value_t = 0, value_name = "SECONDS")]
    timeout: u64,
    /// Named channel instead of the reserved one.
    #[arg(long, value_name = "NAME")]
    channel: Option<String>,
    /// Your name for this record: sent again with the same text it is written once. Random if not given.
    #[arg(long, value_name = "ID")]
    part_id: Option<String>,
    /// Start no run for it.
    #[arg(long)]
    no_boot: bool,
    #[command(flatten)]
    common: CommonArgs,
}

pub(super) async fn execute(args: SendArgs, output: Output) -> anyhow::Result<()> {
    let client = args.common.client.connect()?;
    let text = match args.text.as_str() {
        "-" => read_stdin()?,
        text => text.to_owned(),
    };
    // Before the message is there: its answer cannot be before this place.
    let out_tail = match args.wait {
        true => Some(tail_of_out(&client, &args.session).await?),
        false => None,
    };
    let part_id = args.part_id.clone().unwrap_or_else(random_id);
    let request = append_request(&args, &text, &part_id);
    let answer = append(&client, request).await?;
    let seq_num = answer.start.unwrap_or_default().seq_num;
    match (out_tail, args.common.json) {
        (None, true) => output.json(&json!({"seq_num": seq_num, "part_id": part_id, "repeated": answer.repeated})),
        (None, false) => output.line(&seq_num.to_string()),
        (Some(from), as_json) => {
            let channel = out_channel(&args.session);
            let until = Some(seq_num);
            let follow =
                Follow { channel, from, is_turn_awaited: true, answers: until, timeout_s: args.timeout, as_json };
            Tail::new(client, follow, output).run().await
        }
    }
}

fn read_stdin() -> anyhow::Result<String> {
    let mut text = String::new();
    stdin().read_to_string(&mut text).context("cannot read stdin")?;
    match text.trim_end_matches('\n') {
        "" => Err(Usage("there is nothing on stdin to send".to_owned()).into()),
        text => Ok(text.to_owned()),
    }
}

fn append_request(args: &SendArgs, text: &str, part_id: &str) -> AppendRequest {
    let body = json!({"data": text, "id": part_id}).to_string();
    let boot = if args.no_boot { Boot::Never } else { Boot::Default };
    AppendRequest {
        channel: Some(ChannelRef {
            session: args.session.clone(),
            name: args.channel.clone().unwrap_or_default(),
            direction: Direction::In.into(),
        }),
        records: vec![NewRecord { headers: Vec::new(), body: body.into() }],
        part_id: Some(part_id.to_owned()),
        boot: boot.into(),
        ..Default::default()
    }
}

async fn append(client: &Client, request: AppendRequest) -> anyhow::Result<AppendResponse> {
    let mut wait = FIRST_WAIT;
    for _ in 1..TRIES {
        match client.channels().append(request.clone()).await {
            Err(status) if is_transient(&status) => sleep(wait).await,
            answer => return Ok(answer?.into_inner()),
        }
        wait *= 2;
    }
    Ok(client.channels().append(request).await?.into_inner())
}

async fn tail_of_out(client: &Client, session: &str) -> anyhow::Result<u64> {
    let request = CheckTailRequest { channel: Some(out_channel(session)) };
    let answer = client.channels().check_tail(request).await?.into_inner();
    Ok(answer.tail.unwrap_or_default().seq_num)
}

fn out_channel(session: &str) -> ChannelRef {
    ChannelRef { session: session.to_owned(), name: String::new(), direction: Direction::Out.into() }
}

fn random_id() -> String {
    format!("{:016x}", RandomState::new().hash_one(std::process::id()))
}
