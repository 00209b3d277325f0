//! `sessions runs`, `end-and-continue` and `cancel-run`.

use clap::Args;
use continuo_proto::v1::{
    CancelRunRequest, EndAndContinueRequest, GetSessionRequest, ListSessionRunsRequest, SessionRun,
};
use serde_json::json;

use super::{CommonArgs, SessionArgs, json};
use crate::cli::client::Client;
use crate::cli::failure::Usage;
use crate::cli::output::Output;

#[derive(Debug, Args)]
pub(in crate::cli) struct EndAndContinueArgs {
    /// Session id or external id.
    session: String,
    /// The run that is to hand over; the current one if not given.
    #[arg(long, value_name = "RUN_ID")]
    run: Option<String>,
    /// Recorded with the new run: upgrade, continuation, or a word of yours, which is recorded as manual.
    #[arg(long, default_value = "manual", value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct CancelRunArgs {
    /// The run's id, or a session (id or external id) whose current run is meant.
    run: String,
    #[command(flatten)]
    common: CommonArgs,
}

pub(super) async fn list(args: SessionArgs, output: Output) -> anyhow::Result<()> {
    let request = ListSessionRunsRequest { session: args.session };
    let answer = args.common.client.connect()?.sessions().list_session_runs(request).await?.into_inner();
    if args.common.json {
        return answer.session_runs.iter().try_for_each(|row| output.json(&json::session_run(row)));
    }
    let rows = answer.session_runs.into_iter().map(row).collect();
    output.table(["VERSION", "RUN", "REASON", "STATUS", "CLAIMED", "ENDED", "ERROR"], rows)
}

fn row(row: SessionRun) -> [String; 7] {
    let run = row.run.unwrap_or_default();
    [
        row.version.to_string(),
        row.run_id,
        row.reason,
        run.status,
        json::time(row.triggered_at).unwrap_or_default(),
        json::time(run.finished_at).unwrap_or_default(),
        run.error.map(|error| error.message.lines().next().unwrap_or_default().to_owned()).unwrap_or_default(),
    ]
}

pub(super) async fn end_and_continue(args: EndAndContinueArgs, output: Output) -> anyhow::Result<()> {
    let client = args.common.client.connect()?;
    let calling_run_id = match args.run {
        Some(run) => run,
        None => current_run(&client, &args.session).await?,
    };
    let request = EndAndContinueRequest {
        session: args.session,
        calling_run_id: calling_run_id.clone(),
        reason: args.reason,
        external_deployment_id: None,
    };
    let answer = client.sessions().end_and_continue(request).await?.into_inner();
    if args.common.json {
        return output.json(&json!({"run_id": answer.run_id, "swapped": answer.swapped}));
    }
    match answer.swapped {
        true => output.line(&format!("{calling_run_id} hands over to {}", answer.run_id)),
        false => {
            output.line(&format!("{calling_run_id} was not current any more; the current run is {}", answer.run_id))
        }
    }
}

async fn current_run(client: &Client, session: &str) -> anyhow::Result<String> {
    let request = GetSessionRequest { session: session.to_owned() };
    let row = client.sessions().get_session(request).await?.into_inner().session.unwrap_or_default();
    let none = || Usage(format!("session {} never had a run", row.id));
    Ok(row.current_run_id.clone().ok_or_else(none)?)
}

pub(super) async fn cancel(args: CancelRunArgs, output: Output) -> anyhow::Result<()> {
    let client = args.common.client.connect()?;
    let run_id = if args.run.starts_with("run_") { args.run } else { current_run(&client, &args.run).await? };
    let answer = client.runs().cancel_run(CancelRunRequest { run_id }).await?.into_inner();
    let run = answer.run.unwrap_or_default();
    match args.common.json {
        true => output.json(&json::run(&run)),
        false => output.line(&format!("{} is {}", run.id, run.status)),
    }
}
