//! Errors, as a person reads them: one line with what is wrong, the reason's name, and what to do.

use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind};
use std::process::ExitCode;

use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::output::note;
use crate::config::ConfigError;

/// Exit code for wrong usage or settings.
pub(super) const USAGE: u8 = 2;

/// The command was not used as it is meant to be.
#[derive(Debug)]
pub(super) struct Usage(pub(super) String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Usage {}

pub(super) fn report(error: &anyhow::Error) -> ExitCode {
    let is_reader_gone = |cause: &(dyn Error + 'static)| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
    };
    if error.chain().next().is_some_and(is_reader_gone) {
        return ExitCode::SUCCESS;
    }
    note(&format!("error: {}", explain(error)));
    match error.is::<Usage>() || error.is::<ConfigError>() {
        true => ExitCode::from(USAGE),
        false => ExitCode::FAILURE,
    }
}

fn explain(error: &anyhow::Error) -> String {
    match error.downcast_ref::<Status>() {
        Some(status) => explain_status(status),
        None => format!("{error:#}"),
    }
}

/// May the same call succeed a moment later? A status with a source comes from a connection that broke.
pub(super) fn is_transient(status: &Status) -> bool {
    status.code() == Code::Unavailable || status.source().is_some()
}

pub(super) fn explain_status(status: &Status) -> String {
    if let Some(source) = status.source() {
        let cause = anyhow::Chain::new(source).last();
        let cause = cause.map(ToString::to_string).unwrap_or_default();
        let remedy = match cause.contains("certificate") {
            true => {
                "If it was signed by an authority of yours, or by itself, name that one with --ca-file (CONTINUO_CA_FILE)."
            }
            false => remedy(Code::Unavailable, ""),
        };
        return format!("the server cannot be reached: {cause}. {remedy}");
    }
    let reason = status.get_details_error_info().map(|info| info.reason).unwrap_or_default();
    let mut text = match status.message() {
        "" => format!("{:?}", status.code()),
        message => message.trim_end_matches('.').to_owned(),
    };
    let violations = status.get_details_bad_request().map(|request| request.field_violations).unwrap_or_default();
    // A message that names the one field already is not repeated.
    let violations = violations.iter().map(|v| format!("{} {}", v.field, v.description)).filter(|v| !text.contains(v));
    let violations = violations.collect::<Vec<_>>();
    if !violations.is_empty() {
        text = format!("{text}: {}", violations.join("; "));
    }
    if !reason.is_empty() {
        text = format!("{text} [{reason}]");
    }
    match remedy(status.code(), &reason) {
        "" => text,
        remedy => format!("{text}. {remedy}"),
    }
}

fn remedy(code: Code, reason: &str) -> &'static str {
    match reason {
        "SESSION_CLOSED" | "SESSION_ALREADY_CLOSED" | "SESSION_EXPIRED" | "SESSION_ALREADY_EXPIRED" => {
            "Nothing can be added to it; create one under another external id."
        }
        "OUT_NEEDS_SECRET_KEY" | "IN_NEEDS_SECRET_KEY" => "Use the environment's secret key instead of a token.",
        "SCOPES_EXCEED_KEY" => "Ask for fewer scopes, or use the root key.",
        "EXTERNAL_ID_RESERVED" | "EXTERNAL_ID_TAKEN" => "Choose another external id.",
        "PART_ID_REUSED" => "Use a new part id for a new text.",
        "BOOT_BACKOFF" => "The task's runs crash when they start: see `continuo sessions runs`.",
        "OUTCOME_UNKNOWN" => "Repeat it with the same --part-id: it is not written twice.",
        _ => match code {
            Code::Unauthenticated => {
                "Give the key with --key or CONTINUO_SECRET_KEY (--admin-key or CONTINUO_ADMIN_KEY for `keys`), or point \
                 --data-dir at the server's data directory."
            }
            Code::PermissionDenied => "Use a key or a token that may do this.",
            Code::Unavailable => "Is it running, and is --url (CONTINUO_URL) right? `continuo dev` starts one here.",
            _ => "",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::ErrorDetails;

    #[test]
    fn a_refusal_is_one_line_with_reason_violations_and_remedy() {
        let mut details = ErrorDetails::with_error_info("EXTERNAL_ID_RESERVED", "continuo", []);
        details.add_bad_request_violation("external_id", "may not start with session_");
        let status = Status::with_error_details(Code::InvalidArgument, "the request is not valid", details);
        let text = explain(&status.into());
        assert_eq!(
            text,
            "the request is not valid: external_id may not start with session_ [EXTERNAL_ID_RESERVED]. Choose another \
             external id."
        );
    }

    #[test]
    fn an_error_of_ours_shows_its_causes() {
        let error = anyhow::anyhow!("deep").context("shallow");
        assert_eq!(explain(&error), "shallow: deep");
    }
}
