//! Waitpoint rows and their registrations.

use super::{Row, at, int, ms, owned, uint};
use crate::entity::{Texts, registration, waitpoint};
use continuo_domain::channel::Direction;
use continuo_domain::waitpoint::{ChannelWait, Completion, WaitedSession, Waitpoint, WaitpointKind};
use continuo_domain::{EnvironmentId, Result, RunId, SessionId, Timestamp, WaitpointId};
use sea_orm::ActiveValue::{NotSet, Set};

pub(crate) fn waitpoint(row: waitpoint::Model) -> Result<Waitpoint> {
    let this = Row { table: "waitpoint", id: &row.id };
    let channel = match (row.direction.as_deref(), row.session_id.as_deref(), row.session_name) {
        (None, _, _) | (Some(_), None, None) => None,
        (Some(direction), id, name) => Some(ChannelWait {
            session: match (id, name) {
                (Some(id), _) => WaitedSession::Id(this.parsed(SessionId::parse(id))?),
                (None, name) => WaitedSession::Name(name.unwrap_or_default()),
            },
            direction: this.known("direction", parse_direction(direction))?,
            from_seq_num: uint(row.from_seq_num.unwrap_or(0)),
        }),
    };
    let completion = row.completed_at_ms.map(|_| Completion {
        output: row.output,
        output_type: row.output_type.unwrap_or_else(|| "application/json".into()),
        is_error: row.output_is_error,
    });
    Ok(Waitpoint {
        environment: this.parsed(EnvironmentId::parse(&row.environment_id))?,
        kind: this.known("kind", WaitpointKind::parse(&row.kind))?,
        run: this.parsed(row.run_id.as_deref().map(RunId::parse).transpose())?,
        id: this.parsed(WaitpointId::parse(&row.id))?,
        channel,
        awaited_run: this.parsed(row.awaited_run_id.as_deref().map(RunId::parse).transpose())?,
        idempotency_key: row.idempotency_key,
        idempotency_key_expires_at: at(row.idempotency_key_expires_at_ms),
        tags: row.tags.0,
        timeout_at: at(row.timeout_at_ms),
        completed_at: at(row.completed_at_ms),
        completion,
        created_at: Timestamp(row.created_at_ms),
    })
}

/// Every column but `idempotency_claim`, which is the store's own.
pub(crate) fn waitpoint_row(waitpoint: &Waitpoint) -> waitpoint::ActiveModel {
    let channel = waitpoint.channel.as_ref();
    let (session_id, session_name) = channel.map(waited).unwrap_or_default();
    let completion = waitpoint.completion.as_ref();
    waitpoint::ActiveModel {
        id: Set(waitpoint.id.to_string()),
        environment_id: Set(waitpoint.environment.to_string()),
        kind: Set(owned(waitpoint.kind.as_str())),
        run_id: Set(waitpoint.run.as_ref().map(RunId::to_string)),
        session_id: Set(session_id),
        session_name: Set(session_name),
        direction: Set(channel.map(|c| owned(c.direction.as_str()))),
        from_seq_num: Set(channel.map(|c| int(c.from_seq_num))),
        idempotency_key: Set(waitpoint.idempotency_key.clone()),
        idempotency_key_expires_at_ms: Set(ms(waitpoint.idempotency_key_expires_at)),
        idempotency_claim: NotSet,
        tags: Set(Texts(waitpoint.tags.clone())),
        timeout_at_ms: Set(ms(waitpoint.timeout_at)),
        completed_at_ms: Set(ms(waitpoint.completed_at)),
        created_at_ms: Set(waitpoint.created_at.0),
        output_type: Set(completion.map(|c| c.output_type.clone())),
        output_is_error: Set(completion.is_some_and(|c| c.is_error)),
        output: Set(completion.and_then(|c| c.output.clone())),
        awaited_run_id: Set(waitpoint.awaited_run.as_ref().map(RunId::to_string)),
    }
}

pub(crate) fn registration_row(waitpoint: &Waitpoint, wait: &ChannelWait) -> registration::ActiveModel {
    let (session_id, session_name) = waited(wait);
    registration::ActiveModel {
        waitpoint_id: Set(waitpoint.id.to_string()),
        environment_id: Set(waitpoint.environment.to_string()),
        session_id: Set(session_id),
        session_name: Set(session_name),
        direction: Set(owned(wait.direction.as_str())),
        from_seq_num: Set(int(wait.from_seq_num)),
    }
}

fn waited(wait: &ChannelWait) -> (Option<String>, Option<String>) {
    match &wait.session {
        WaitedSession::Id(id) => (Some(id.to_string()), None),
        WaitedSession::Name(name) => (None, Some(name.clone())),
    }
}

fn parse_direction(text: &str) -> Option<Direction> {
    [Direction::In, Direction::Out].into_iter().find(|d| d.as_str() == text)
}
