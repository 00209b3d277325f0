//! Rows to the domain and back. What a row says that no version of ours writes is reported as damage, not guessed.

mod claim;
mod environment;
mod run;
mod session;
mod waitpoint;
mod worker;

pub(crate) use claim::{claim, claim_row, claimed_channel, whole_claim_row};
pub(crate) use environment::{api_key, api_key_row, environment, environment_row, rotated_row};
pub(crate) use run::{attempt, run, run_row};
pub(crate) use session::{session, session_row, session_run, session_run_row};
pub(crate) use waitpoint::{registration_row, waitpoint, waitpoint_row};
pub(crate) use worker::{listed_worker, worker_row};

use crate::error::damaged;
use continuo_domain::session::{EnvironmentType, Tenant};
use continuo_domain::{Error, Result, Timestamp};

/// A row under conversion, for the messages about what it holds.
#[derive(Clone, Copy)]
struct Row<'a> {
    table: &'static str,
    id: &'a str,
}

impl Row<'_> {
    fn damaged(self, what: impl std::fmt::Display) -> Error {
        damaged(self.table, self.id, what)
    }

    /// An identifier or a name that our own parser takes.
    fn parsed<T>(self, parsed: Result<T>) -> Result<T> {
        parsed.map_err(|e| self.damaged(e))
    }

    fn known<T>(self, column: &str, parsed: Option<T>) -> Result<T> {
        parsed.ok_or_else(|| self.damaged(format_args!("unknown {column}")))
    }

    fn tenant(self, organization: &str, project: &str, environment: &str, kind: &str) -> Result<Tenant> {
        Ok(Tenant {
            organization: self.parsed(continuo_domain::id::OrganizationId::parse(organization))?,
            project: self.parsed(continuo_domain::id::ProjectId::parse(project))?,
            environment: self.parsed(continuo_domain::EnvironmentId::parse(environment))?,
            environment_type: self.known("environment_type", EnvironmentType::parse(kind))?,
        })
    }
}

/// Unsigned numbers are stored as BIGINT; what does not fit is as good as endless.
pub(crate) fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn uint(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

fn small(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

fn usmall<T: TryInto<u32>>(value: T) -> u32 {
    value.try_into().unwrap_or(0)
}

pub(crate) fn ms(at: Option<Timestamp>) -> Option<i64> {
    at.map(|at| at.0)
}

fn at(ms: Option<i64>) -> Option<Timestamp> {
    ms.map(Timestamp)
}

fn owned<T: AsRef<str>>(text: T) -> String {
    text.as_ref().to_owned()
}
