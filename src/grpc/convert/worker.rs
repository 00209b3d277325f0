//! What workers say and hear.

use super::{list_size, named, or_json_type, page_token, run, session, time, waitpoint};
use continuo_domain::error::Violations;
use continuo_domain::run::RunStatus;
use continuo_domain::{EnvironmentId, Result, RunId, Timestamp, Violation};
use continuo_ports::worker_store::{ListedWorker, WorkerPage, WorkerPosition};
use continuo_proto::v1;
use continuo_proto::v1::work_request::Message as In;
use continuo_proto::v1::work_response::Message as Out;
use continuo_usecases::{Assigned, LeaseRef, RunTokens, WORKERS_PAGE_MAX, WorkerEvent, WorkerHello, WorkerMessage};

/// Reads the first message.
pub(crate) fn parse_hello(wire: v1::WorkRequest) -> Result<WorkerHello> {
    let Some(In::Hello(hello)) = wire.message else {
        return Err(Violation::new("message", "must be hello in the first message").into());
    };
    Ok(WorkerHello {
        held_leases: parse_leases("hello.held_leases", hello.held_leases)?,
        worker_id: hello.worker_id,
        version: hello.version,
        task_identifiers: hello.task_identifiers,
        capacity: hello.capacity,
    })
}

/// Reads any other message.
pub(crate) fn parse_message(wire: v1::WorkRequest) -> Result<WorkerMessage> {
    let message = wire.message.ok_or_else(|| Violation::new("message", "is of no kind this server knows"))?;
    Ok(match message {
        In::Hello(_) => return Err(Violation::new("message", "may be hello only once, first").into()),
        In::Started(started) => WorkerMessage::Started(parse_lease("started.lease", started.lease)?),
        In::Heartbeat(beat) => WorkerMessage::Heartbeat(parse_leases("heartbeat.leases", beat.leases)?),
        In::ReadPosition(read) => WorkerMessage::Read(parse_lease("read_position.lease", read.lease)?, read.seq_num),
        In::Suspended(suspended) => WorkerMessage::Suspended(parse_lease("suspended.lease", suspended.lease)?),
        In::Completed(done) => WorkerMessage::Completed {
            lease: parse_lease("completed.lease", done.lease)?,
            output_type: done.output.is_some().then(|| or_json_type(done.output_type)),
            output: done.output,
        },
        In::Failed(failed) => WorkerMessage::Failed {
            lease: parse_lease("failed.lease", failed.lease)?,
            error: run::parse_error(failed.error),
            may_retry: !failed.is_final,
        },
        In::Drain(v1::WorkerDrain {}) => WorkerMessage::Drain,
    })
}

fn parse_leases(field: &str, wire: Vec<v1::LeaseRef>) -> Result<Vec<LeaseRef>> {
    wire.into_iter().map(|lease| parse_lease(field, Some(lease))).collect()
}

fn parse_lease(field: &str, wire: Option<v1::LeaseRef>) -> Result<LeaseRef> {
    let wire = wire.ok_or_else(|| Violation::new(field, "is required"))?;
    Ok(LeaseRef { run: named(field, RunId::parse(&wire.run_id))?, number: wire.lease })
}

/// Prints what a worker hears.
pub(crate) fn print_event(event: WorkerEvent, now: Timestamp) -> v1::WorkResponse {
    let message = match event {
        WorkerEvent::Welcome { lease_ms, heartbeat_ms } => Out::Welcome(v1::WorkerWelcome { lease_ms, heartbeat_ms }),
        WorkerEvent::Assigned(assigned) => Out::Assignment(print_assigned(*assigned, now)),
        WorkerEvent::Renewed(leases) => Out::Renewed(v1::LeasesRenewed {
            leases: leases.into_iter().map(|(lease, tokens)| print_renewed(&lease, tokens)).collect(),
        }),
        WorkerEvent::Revoked(lease, reason) => {
            Out::Revoked(v1::LeaseRevoked { lease: Some(print_lease(&lease)), reason: reason.as_str().to_owned() })
        }
        WorkerEvent::Stop(lease, grace_ms) => Out::Stop(v1::StopRequested {
            lease: Some(print_lease(&lease)),
            grace_ms: u32::try_from(grace_ms).unwrap_or(u32::MAX),
        }),
    };
    v1::WorkResponse { message: Some(message) }
}

fn print_lease(lease: &LeaseRef) -> v1::LeaseRef {
    v1::LeaseRef { run_id: lease.run.as_str().to_owned(), lease: lease.number }
}

fn print_renewed(lease: &LeaseRef, tokens: RunTokens) -> v1::RenewedLease {
    let RunTokens { run_token, sdk_run_token } = tokens;
    v1::RenewedLease { lease: Some(print_lease(lease)), run_token, sdk_run_token: sdk_run_token.unwrap_or_default() }
}

fn print_assigned(assigned: Assigned, now: Timestamp) -> v1::Assignment {
    let Assigned { assignment, lease, tokens, session: row, lease_ms } = assigned;
    let run = &assignment.run;
    // One that goes on is in the attempt it was in; a fresh one is about to begin the next.
    let is_fresh = run.status == RunStatus::Dequeued;
    let read_seq_num = row.as_ref().map_or(0, |s| s.boot.read_seq_num);
    v1::Assignment {
        lease: lease.number,
        run_token: tokens.run_token,
        sdk_run_token: tokens.sdk_run_token.unwrap_or_default(),
        attempt_number: run.attempt_number + u32::from(is_fresh),
        session: row.as_ref().map(|s| session::print(s, now)),
        resumed_by: assignment.resumed_by.as_ref().map(waitpoint::print),
        lease_ms,
        in_seq_num: read_seq_num.max(run.read_seq_num),
        run: Some(run::print(run, now)),
    }
}

/// Reads a list of workers: where it goes on, and how long it may be.
pub(crate) fn parse_list(
    environment: &EnvironmentId,
    wire: &v1::ListWorkersRequest,
) -> Result<(Option<WorkerPosition>, u32)> {
    let mut found = Violations::new();
    let size = found.take(list_size("page_size", wire.page_size, WORKERS_PAGE_MAX))?;
    let after = found.take(page_token::parse_workers(environment, &wire.page_token))?.flatten();
    found.finish()?;
    Ok((after, size.unwrap_or_default()))
}

/// Prints a page of workers.
pub(crate) fn print_page(environment: &EnvironmentId, page: WorkerPage) -> v1::ListWorkersResponse {
    let last = page.workers.last().filter(|_| page.has_older);
    let next = last.map(|listed| page_token::older_workers(environment, &listed.worker.position()));
    v1::ListWorkersResponse {
        next_page_token: next.unwrap_or_default(),
        workers: page.workers.into_iter().map(print_listed).collect(),
    }
}

fn print_listed(listed: ListedWorker) -> v1::Worker {
    let ListedWorker { worker, held_leases } = listed;
    v1::Worker {
        worker_id: worker.id,
        version: worker.version,
        task_identifiers: worker.task_identifiers,
        capacity: worker.capacity,
        held_leases,
        is_draining: worker.is_draining,
        connected_at: Some(time::print(worker.connected_at)),
        seen_at: Some(time::print(worker.seen_at)),
    }
}
