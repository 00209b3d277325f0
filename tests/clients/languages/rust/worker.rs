//! A worker: serves the sessions of a task by repeating what is said, word by word.
//!
//!     worker my-task
//!
//! With nothing to do a run waits without holding a place. `/hand-over` makes it hand the session to a new run, as for an
//! upgrade; `/close` makes it close the session. The worker loop of the crate keeps the leases, comes back when the network
//! breaks or the server restarts, and asks again for what was left open.

use std::env;
use std::process::ExitCode;

use anyhow::{Context, Result};
use continuo_proto::v1::session_service_client::SessionServiceClient;
use continuo_proto::v1::{CloseSessionRequest, NewRecord};
use continuo_proto::worker::{Outcome, ReadEvent, RunContext, TaskError, Worker, WorkerError};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tonic::Request;
use tonic_types::StatusExt;

fn report(event: &str, mut fields: Value) {
    fields["event"] = event.into();
    println!("{fields}");
}

/// Called for a fresh run, and again whenever a run that waited goes on.
async fn echo(ctx: RunContext) -> Result<Outcome, TaskError> {
    let run = ctx.run_id();
    if ctx.resumed_by().is_some() {
        report("resumed", json!({ "run": run }));
    } else {
        let payload: Value = serde_json::from_str(ctx.payload())?;
        report("took", json!({ "run": run, "continuation": payload["continuation"] == true }));
    }
    let mut last = ctx.in_seq_num().checked_sub(1);
    let mut inbox = ctx.read_in(ctx.in_seq_num());
    while let ReadEvent::Record(record) = inbox.next().await? {
        let said = String::from_utf8_lossy(&record.body).into_owned();
        let mut out = ctx.out_writer();
        for word in said.split_whitespace() {
            out.send(NewRecord { body: word.to_owned().into(), ..Default::default() }).await?;
        }
        out.finish().await?;
        ctx.turn_complete(record.seq_num).await?;
        last = Some(record.seq_num);
        match said.as_str() {
            "/hand-over" => {
                let next = ctx.end_and_continue("upgrade").await?.run_id;
                report("handed over", json!({ "run": run, "next": next }));
                return Ok(Outcome::Completed(Some(json!("handed over").to_string())));
            }
            "/close" => {
                close(&ctx).await?;
                report("closed", json!({ "run": run }));
                return Ok(Outcome::Completed(Some(json!("closed").to_string())));
            }
            _ => {}
        }
    }
    // Nothing more is there: give the place back, and be called again when there is.
    let waiting = ctx.wait_for_input(last).await?;
    report("suspended", json!({ "run": run }));
    Ok(waiting)
}

/// A run may not close its session, whoever holds the key may.
async fn close(ctx: &RunContext) -> Result<(), TaskError> {
    let mut sessions = SessionServiceClient::connect(env::var("CONTINUO_URL")?).await?;
    let mut request = Request::new(CloseSessionRequest {
        session: ctx.session().ok_or_else(|| TaskError::new("a run without a session"))?.id.clone(),
        reason: Some("said so".to_owned()),
        calling_run_id: Some(ctx.run_id().to_owned()),
    });
    let bearer = format!("Bearer {}", env::var("CONTINUO_SECRET_KEY")?);
    request.metadata_mut().insert("authorization", bearer.parse()?);
    sessions.close_session(request).await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let task = env::args().nth(1).context("worker <task>")?;
    let worker =
        Worker::builder(env::var("CONTINUO_URL")?, env::var("CONTINUO_SECRET_KEY")?).capacity(10).task(task, echo);
    let Err(error) = worker.run(CancellationToken::new()).await else { return Ok(ExitCode::SUCCESS) };
    let WorkerError::Refused(status) = error else { return Err(error.into()) };
    let info = status.get_details_error_info();
    let (reason, metadata) = info.map(|info| (info.reason, info.metadata)).unwrap_or_default();
    report("refused", json!({ "code": status.code() as i32, "reason": reason, "metadata": metadata }));
    Ok(ExitCode::FAILURE)
}
