//! Waitpoints.

use super::{channel, looked_up, or_json_type, run, session, time};
use continuo_domain::error::Violations;
use continuo_domain::waitpoint::{Completion, Waitpoint, WaitpointKind};
use continuo_domain::{Result, Violation, WaitpointId};
use continuo_ports::run_store::{WaitpointFilter, WaitpointState};
use continuo_proto::v1;
use continuo_usecases::{NewManualWaitpoint, WaitForDuration, WaitOnChannel};

/// Reads a waitpoint's id.
pub(crate) fn parse_id(text: &str) -> Result<WaitpointId> {
    looked_up("waitpoint_id", text, WaitpointId::PREFIX, WaitpointId::parse, WaitpointId::from_body)
}

/// Reads a wait on a channel.
pub(crate) fn parse_wait_on_channel(wire: v1::WaitOnChannelRequest) -> Result<WaitOnChannel> {
    let mut found = Violations::new();
    let run = found.take(run::parse_id(&wire.run_id))?;
    let session = found.take(session::parse_ref("session", &wire.session))?;
    let direction = found.take(channel::parse_direction("direction", wire.direction))?;
    let timeout_at = found.take(time::parse("timeout_at", wire.timeout_at))?.flatten();
    found.finish()?;
    let (Some(run), Some(session), Some(direction)) = (run, session, direction) else {
        return Err(session::nothing_parsed());
    };
    let waitpoint = NewManualWaitpoint {
        timeout_at,
        idempotency_key: wire.idempotency_key,
        idempotency_key_ttl_ms: wire.idempotency_key_ttl_ms,
        tags: wire.tags,
    };
    Ok(WaitOnChannel { run, session, direction, last_seq_num: wire.last_seq_num, waitpoint })
}

/// Reads a wait for a moment.
pub(crate) fn parse_wait_for_duration(wire: v1::WaitForDurationRequest) -> Result<WaitForDuration> {
    let mut found = Violations::new();
    let run = found.take(run::parse_id(&wire.run_id))?;
    let until = time::parse("until", wire.until).and_then(|at| Ok(at.ok_or(Violation::new("until", "is required"))?));
    let until = found.take(until)?;
    found.finish()?;
    let (Some(run), Some(until)) = (run, until) else { return Err(session::nothing_parsed()) };
    let v1::WaitForDurationRequest { idempotency_key, idempotency_key_ttl_ms, .. } = wire;
    Ok(WaitForDuration { run, until, idempotency_key, idempotency_key_ttl_ms })
}

/// Reads a waitpoint that a caller completes.
pub(crate) fn parse_new(wire: v1::CreateWaitpointRequest) -> Result<NewManualWaitpoint> {
    Ok(NewManualWaitpoint {
        timeout_at: time::parse("timeout_at", wire.timeout_at)?,
        idempotency_key: wire.idempotency_key,
        idempotency_key_ttl_ms: wire.idempotency_key_ttl_ms,
        tags: wire.tags,
    })
}

/// Reads a completion.
pub(crate) fn parse_completion(wire: v1::CompleteWaitpointRequest) -> Result<(WaitpointId, Completion)> {
    let id = parse_id(&wire.waitpoint_id)?;
    let output_type = or_json_type(wire.output_type);
    Ok((id, Completion { output: wire.output, output_type, is_error: wire.is_error }))
}

/// Prints a waitpoint.
pub(crate) fn print(row: &Waitpoint) -> v1::Waitpoint {
    let completion = row.completion.as_ref();
    v1::Waitpoint {
        id: row.id.as_str().to_owned(),
        kind: row.kind.as_str().to_owned(),
        completed_at: row.completed_at.map(time::print),
        output: completion.and_then(|c| c.output.clone()),
        output_type: completion.map(|c| c.output_type.clone()),
        output_is_error: completion.is_some_and(|c| c.is_error),
        tags: row.tags.clone(),
        timeout_at: row.timeout_at.map(time::print),
        idempotency_key: row.idempotency_key.clone(),
        idempotency_key_expires_at: row.idempotency_key_expires_at.map(time::print),
        created_at: Some(time::print(row.created_at)),
        awaited_run_id: row.awaited_run.as_ref().map(|run| run.as_str().to_owned()),
        callback_token: None,
    }
}

/// Reads which waitpoints a list wants.
pub(crate) fn parse_filter(wire: v1::ListWaitpointsRequest) -> Result<WaitpointFilter> {
    let mut found = Violations::new();
    let (mut kinds, mut states) = (Vec::new(), Vec::new());
    for (i, name) in wire.kinds.iter().enumerate() {
        match WaitpointKind::parse(name) {
            Some(kind) => kinds.push(kind),
            None => found.add(format!("kinds[{i}]"), "must be MANUAL, DATETIME or RUN"),
        }
    }
    for (i, name) in wire.statuses.iter().enumerate() {
        match name.as_str() {
            "WAITING" => states.push(WaitpointState::Open),
            "COMPLETED" => states.push(WaitpointState::Completed),
            "TIMED_OUT" => states.push(WaitpointState::Failed),
            _ => found.add(format!("statuses[{i}]"), "must be WAITING, COMPLETED or TIMED_OUT"),
        }
    }
    let filter = WaitpointFilter {
        kinds,
        states,
        idempotency_key: wire.idempotency_key,
        tags: wire.tags,
        created_from: found.take(time::parse("created_from", wire.created_from))?.flatten(),
        created_to: found.take(time::parse("created_to", wire.created_to))?.flatten(),
    };
    found.finish()?;
    Ok(filter)
}
