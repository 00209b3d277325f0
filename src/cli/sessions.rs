//! `continuo sessions`: everything one does with sessions.

mod channels;
mod create;
mod printer;
mod read;
mod runs;
mod send;
mod tail;

use clap::{Args, Subcommand};
use continuo_proto::v1::{CloseSessionRequest, Session};

use super::client::ClientArgs;
use super::json;
use super::output::Output;

/// Create, list, read, write and close sessions.
#[derive(Debug, Subcommand)]
pub(super) enum SessionsCommand {
    /// Make a session, or find the one with this external id; a run of its task is then alive.
    Create(create::CreateArgs),
    /// Show one session.
    Get(SessionArgs),
    /// List sessions, newest first.
    List(read::ListArgs),
    /// The channels of a session that were written, and how far.
    Channels(SessionArgs),
    /// Write a message to a session's `.in`; prints the record's number.
    Send(send::SendArgs),
    /// Print what stands on a session's `.out` and what comes, as a person reads it.
    Tail(tail::TailArgs),
    /// Close a session for good.
    Close {
        /// Why, at most 256 characters.
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        #[command(flatten)]
        session: SessionArgs,
    },
    /// Hand a session over from its run to a new one.
    EndAndContinue(runs::EndAndContinueArgs),
    /// The runs of a session, oldest first.
    Runs(SessionArgs),
    /// Cancel a run. The session stays; the next message starts a new run.
    CancelRun(runs::CancelRunArgs),
}

#[derive(Debug, Args)]
pub(super) struct SessionArgs {
    /// Session id or external id.
    session: String,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, Args)]
pub(super) struct CommonArgs {
    /// Print JSON, one value per line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn execute(command: SessionsCommand, output: Output) -> anyhow::Result<()> {
    match command {
        SessionsCommand::Create(args) => create::execute(args, output).await,
        SessionsCommand::Get(args) => read::get(args, output).await,
        SessionsCommand::List(args) => read::list(args, output).await,
        SessionsCommand::Channels(args) => channels::list(args, output).await,
        SessionsCommand::Send(args) => send::execute(args, output).await,
        SessionsCommand::Tail(args) => tail::execute(args, output).await,
        SessionsCommand::Close { reason, session: args } => {
            let request = CloseSessionRequest { session: args.session, reason, calling_run_id: None };
            let answer = args.common.client.connect()?.sessions().close_session(request).await?.into_inner();
            print(&answer.session.unwrap_or_default(), args.common.json, output)
        }
        SessionsCommand::EndAndContinue(args) => runs::end_and_continue(args, output).await,
        SessionsCommand::Runs(args) => runs::list(args, output).await,
        SessionsCommand::CancelRun(args) => runs::cancel(args, output).await,
    }
}

fn print(session: &Session, as_json: bool, output: Output) -> anyhow::Result<()> {
    if as_json {
        return output.json(&json::session(session));
    }
    let backoff = session.boot_backoff.as_ref();
    let backoff = backoff.map(|b| format!("{} in a row, the last: {}", b.failures, b.last_error));
    output.pairs([
        ("id", Some(session.id.clone())),
        ("external id", session.external_id.clone()),
        ("status", Some(json::status_name(session.status()).to_owned())),
        ("type", Some(session.r#type.clone())),
        ("task", Some(session.task_identifier.clone())),
        ("current run", session.current_run_id.clone()),
        ("runs", Some(session.current_run_version.to_string())),
        ("boot failures", backoff),
        ("tags", Some(session.tags.join(" ")).filter(|tags| !tags.is_empty())),
        ("metadata", session.metadata_json.clone()),
        ("created", json::time(session.created_at)),
        ("expires", json::time(session.expires_at)),
        ("closed", json::time(session.closed_at)),
        ("closed because", session.closed_reason.clone()),
    ])
}
