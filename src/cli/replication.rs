//! `continuo replication`: the copy of sessions in ClickHouse, looked at and mended without a server.

use clap::{Args, Subcommand};
use continuo_domain::Timestamp;
use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::output::{Output, note, spinner};
use super::server::SettingsArgs;
use crate::app::{self, ParkedSession, ReplicationStatus, Report, Scope, Step};

/// The copy of all sessions in ClickHouse.
#[derive(Debug, Subcommand)]
pub(super) enum ReplicationCommand {
    /// Say how replication stands: 0 if ClickHouse has a whole copy and is kept up to date, 1 otherwise. What is parked, because
    /// ClickHouse refuses it, is shown with the reason.
    Status(ReplicationArgs),
    /// Copy to ClickHouse what it has not, and remove what it has too much. A server that replicates does so by itself when it
    /// finds the copy incomplete. Makes the replication slot if there is none: from then on Postgres keeps its log until a server
    /// reads it. May be broken off and started again at any time.
    Backfill(ReplicationArgs),
    /// Compare every session in ClickHouse with Postgres and mend what differs. Nobody has to stop writing.
    Reconcile(ReconcileArgs),
    /// Take back what replication made in Postgres: the slot, the publication, the triggers and their notes. Servers have to be
    /// stopped, or started without ClickHouse, before. What is in ClickHouse stays there.
    Drop(ReplicationArgs),
}

#[derive(Debug, Args)]
pub(super) struct ReplicationArgs {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: SettingsArgs,
}

#[derive(Debug, Args)]
pub(super) struct ReconcileArgs {
    /// Only compare: 0 if nothing differs, 1 if something does. Needs a server that replicates.
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    rest: ReplicationArgs,
}

pub(super) async fn execute(command: ReplicationCommand, output: Output) -> anyhow::Result<()> {
    match command {
        ReplicationCommand::Status(args) => {
            let status = app::replication_status(&args.settings.load_for_migration()?).await?;
            match args.json {
                true => output.json(&json_of(&status))?,
                false => print(&status, output)?,
            }
            trouble(&status).map_or(Ok(()), |trouble| Err(anyhow::anyhow!(trouble)))
        }
        ReplicationCommand::Backfill(args) => {
            let config = args.settings.load_for_migration()?;
            app::prepare_replication(&config).await?;
            compare(&config, Scope::Mend, args.json, output).await
        }
        ReplicationCommand::Reconcile(ReconcileArgs { check, rest }) => {
            let scope = if check { Scope::Check } else { Scope::Mend };
            compare(&rest.settings.load_for_migration()?, scope, rest.json, output).await
        }
        ReplicationCommand::Drop(args) => {
            app::drop_replication(&args.settings.load_for_migration()?).await?;
            match args.json {
                true => output.json(&json!({"dropped": true})),
                false => output.line(
                    "dropped; lists come from the database: `continuo migrate up` without ClickHouse makes its index for them",
                ),
            }
        }
    }
}

async fn compare(config: &crate::config::Config, scope: Scope, as_json: bool, output: Output) -> anyhow::Result<()> {
    let bar = spinner("looking");
    let report = app::reconcile(config, scope, &|step| show(&bar, step)).await;
    bar.finish_and_clear();
    let report = report?;
    let Report { compared, differing, written, removed } = report;
    if as_json {
        output.json(&json!({"compared": compared, "differing": differing, "written": written, "removed": removed}))?;
    } else {
        output.line(&match scope {
            Scope::Check => format!("{compared} sessions compared, {differing} differ"),
            Scope::Mend => format!("{compared} sessions compared, {written} written, {removed} removed"),
        })?;
    }
    match scope {
        Scope::Check if differing > 0 => anyhow::bail!("ClickHouse is not right: run `continuo replication reconcile`"),
        _ => Ok(()),
    }
}

fn show(bar: &ProgressBar, step: Step) {
    bar.set_message(match step {
        Step::AwaitsTransactions => "waiting for open transactions of the database".to_owned(),
        Step::AwaitsStream => "waiting for the stream".to_owned(),
        Step::Compares(Report { compared, differing, .. }) => format!("{compared} compared, {differing} differ"),
    });
}

/// Why lists do not come from ClickHouse, or will be late.
fn trouble(status: &ReplicationStatus) -> Option<&'static str> {
    let Some(slot) = &status.slot else {
        return Some("there is no replication slot: a server that replicates makes it when it starts");
    };
    if slot.is_lost {
        Some("the replication slot is lost: a server that replicates makes it anew and compares everything")
    } else if !status.is_published || !status.is_noted {
        Some(
            "the publication or the triggers are not as they should be: a server that replicates mends them when it starts",
        )
    } else if slot.reader_pid.is_none() {
        Some("nobody reads the replication slot: start a server that replicates")
    } else if !status.is_complete {
        Some("the copy in ClickHouse is not complete yet; lists come from the database")
    } else {
        None
    }
}

fn print(status: &ReplicationStatus, output: Output) -> anyhow::Result<()> {
    let slot = status.slot.as_ref();
    output.pairs([
        ("slot", slot.map(|slot| slot.wal_status.clone())),
        ("lost by", slot.and_then(|slot| slot.invalidation_reason.clone())),
        ("leader", slot.and_then(|slot| Some(format!("{} (pid {})", slot.reader_name.as_deref()?, slot.reader_pid?)))),
        ("lag", status.lag_bytes.map(|bytes| format!("{bytes} bytes"))),
        ("as of", status.as_of.map(|as_of| as_of.to_string())),
        ("complete", Some(if status.is_complete { "yes" } else { "no" }.to_owned())),
        ("reconciled", status.reconciled_at_ms.map(iso)),
        ("notes", Some(status.notes.to_string())),
        ("parked", Some(status.parked_count.to_string())),
    ])?;
    if status.parked.is_empty() {
        return Ok(());
    }
    let rows = status.parked.iter().map(|parked| {
        let ParkedSession { session_id, error, attempts, parked_at_ms, retry_at_ms } = parked;
        [session_id.clone(), iso(*parked_at_ms), attempts.to_string(), iso(*retry_at_ms), one_line(error)]
    });
    output.table(["PARKED SESSION", "SINCE", "TRIES", "NEXT TRY", "REASON"], rows.collect())?;
    let left = status.parked_count.saturating_sub(status.parked.len() as u64);
    if left > 0 {
        note(&format!("and {left} more"));
    }
    Ok(())
}

fn json_of(status: &ReplicationStatus) -> Value {
    let slot = status.slot.as_ref().map(|slot| {
        json!({
            "wal_status": slot.wal_status,
            "is_lost": slot.is_lost,
            "invalidation_reason": slot.invalidation_reason,
            "lag_bytes": status.lag_bytes,
            "leader": slot.reader_name,
            "leader_pid": slot.reader_pid,
        })
    });
    let parked = status.parked.iter().map(|parked| {
        json!({
            "session_id": parked.session_id,
            "parked_at": iso(parked.parked_at_ms),
            "attempts": parked.attempts,
            "retry_at": iso(parked.retry_at_ms),
            "reason": parked.error,
        })
    });
    json!({
        "slot": slot,
        "is_published": status.is_published,
        "is_noted": status.is_noted,
        "as_of": status.as_of.map(|as_of| as_of.to_string()),
        "epoch": status.epoch,
        "is_complete": status.is_complete,
        "reconciled_at": status.reconciled_at_ms.map(iso),
        "notes": status.notes,
        "parked_count": status.parked_count,
        "parked": parked.collect::<Vec<_>>(),
    })
}

fn iso(ms: i64) -> String {
    Timestamp(ms).to_iso()
}

/// The beginning, which names the kind of refusal.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(120).collect()
}
