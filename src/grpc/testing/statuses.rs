//! Every error of the domain as a status.

use super::harness::{bad_fields, reason};
use crate::status::of_error;
use continuo_domain::error::{Cause, CredentialProblem};
use continuo_domain::{Error, Violation};
use continuo_proto::FILE_DESCRIPTOR_SET;
use prost::Message;
use prost_types::FileDescriptorSet;
use std::collections::BTreeSet;
use tonic::Code;
use tonic_types::StatusExt;

type Expected = (Error, Code, &'static str, Option<(&'static str, &'static str)>);

fn every_error() -> Vec<Expected> {
    let cause = || Cause::new("disk /dev/sda1 is on fire");
    vec![
        (Violation::new("tags", "is wrong").into(), Code::InvalidArgument, "INVALID_ARGUMENT", None),
        (Error::ExternalIdReserved("no"), Code::InvalidArgument, "EXTERNAL_ID_RESERVED", None),
        (Error::Unauthenticated(CredentialProblem::Missing), Code::Unauthenticated, "UNAUTHENTICATED", None),
        (Error::PermissionDenied, Code::PermissionDenied, "PERMISSION_DENIED", None),
        (Error::ConditionNeedsSecretKey, Code::PermissionDenied, "PERMISSION_DENIED", Some(("needs", "secret_key"))),
        (
            Error::ScopesExceedKey(vec!["admin".into(), "read:all".into()]),
            Code::PermissionDenied,
            "SCOPES_EXCEED_KEY",
            Some(("denied_scopes", "admin read:all")),
        ),
        (Error::OutNeedsSecretKey, Code::PermissionDenied, "OUT_NEEDS_SECRET_KEY", None),
        (Error::InNeedsSecretKey, Code::PermissionDenied, "IN_NEEDS_SECRET_KEY", None),
        (Error::SessionNotFound, Code::NotFound, "SESSION_NOT_FOUND", None),
        (
            Error::SessionClosed { closed_reason: Some("done".into()) },
            Code::FailedPrecondition,
            "SESSION_CLOSED",
            Some(("closed_reason", "done")),
        ),
        (Error::SessionExpired, Code::FailedPrecondition, "SESSION_EXPIRED", None),
        (Error::SessionAlreadyClosed, Code::AlreadyExists, "SESSION_ALREADY_CLOSED", None),
        (Error::SessionAlreadyExpired, Code::AlreadyExists, "SESSION_ALREADY_EXPIRED", None),
        (Error::ExternalIdTaken, Code::AlreadyExists, "EXTERNAL_ID_TAKEN", None),
        (
            Error::RecordTooLarge { metered_bytes: 9, limit_bytes: 8 },
            Code::InvalidArgument,
            "RECORD_TOO_LARGE",
            Some(("metered_bytes", "9")),
        ),
        (Error::SeqNumMismatch { tail_seq_num: 7 }, Code::Aborted, "SEQ_NUM_MISMATCH", Some(("tail_seq_num", "7"))),
        (Error::Fenced { fencing_token: "1.2".into() }, Code::Aborted, "FENCED", Some(("fencing_token", "1.2"))),
        (Error::PartIdReused { seq_num: 3 }, Code::AlreadyExists, "PART_ID_REUSED", Some(("seq_num", "3"))),
        (Error::PastTail { tail_seq_num: 7 }, Code::OutOfRange, "PAST_TAIL", Some(("tail_seq_num", "7"))),
        (Error::RunNotFound, Code::NotFound, "RUN_NOT_FOUND", None),
        (Error::StaleSnapshot { snapshot: 4 }, Code::Aborted, "STALE_SNAPSHOT", Some(("snapshot", "4"))),
        (
            Error::RunNotReady { status: "QUEUED" },
            Code::FailedPrecondition,
            "RUN_NOT_READY",
            Some(("status", "QUEUED")),
        ),
        (Error::TaskNotFound, Code::NotFound, "TASK_NOT_FOUND", None),
        (Error::RunNotClaimed, Code::Unavailable, "RUN_NOT_CLAIMED", None),
        (Error::BootBackoff { retry_after_ms: 1_500 }, Code::Unavailable, "BOOT_BACKOFF", None),
        (Error::IndexBehind, Code::Unavailable, "INDEX_BEHIND", None),
        (Error::WaitpointNotFound, Code::NotFound, "WAITPOINT_NOT_FOUND", None),
        (Error::BlobNotFound, Code::NotFound, "BLOB_NOT_FOUND", None),
        (Error::BlobTooLarge { limit_bytes: 5 }, Code::InvalidArgument, "BLOB_TOO_LARGE", Some(("limit_bytes", "5"))),
        (Error::TranscriptUnreadable("no"), Code::FailedPrecondition, "TRANSCRIPT_UNREADABLE", None),
        (Error::LimitExceeded { what: "x", retry_after_ms: 20 }, Code::ResourceExhausted, "LIMIT_EXCEEDED", None),
        (Error::Unavailable(cause()), Code::Unavailable, "BACKEND_UNAVAILABLE", None),
        (Error::OutcomeUnknown(cause()), Code::Unknown, "OUTCOME_UNKNOWN", None),
        (Error::Stopping, Code::Unavailable, "SERVER_STOPPING", None),
        (Error::Damaged(cause()), Code::DataLoss, "DATA_LOSS", None),
        (Error::Internal(cause()), Code::Internal, "INTERNAL", None),
    ]
}

#[test]
fn every_error_has_its_code_reason_and_details() {
    for (error, code, name, own) in every_error() {
        let status = of_error(error.clone());
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!((status.code(), info.reason.as_str(), info.domain.as_str()), (code, name, "continuo"));
        assert_eq!(status.message(), error.to_string());
        let side_effects = if error.had_no_side_effects() { "none" } else { "unknown" };
        assert_eq!(info.metadata["side_effects"], side_effects, "{name}");
        let other: Vec<_> = info.metadata.iter().filter(|(k, _)| *k != "side_effects").collect();
        let expected: Vec<_> = own.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        assert_eq!(other, expected.iter().map(|(k, v)| (k, v)).collect::<Vec<_>>(), "{name}");
        let retry_ms = details.retry_info().and_then(|r| r.retry_delay).map(|d| d.as_millis() as u64);
        assert_eq!(retry_ms, error.retry_after_ms(), "{name}");
        assert!(!format!("{status:?}").contains("sda1"), "the private half stays inside: {name}");
    }
}

#[test]
fn violations_are_field_by_field() {
    let error = Error::InvalidArgument(vec![Violation::new("a", "is x"), Violation::new("b.c[1]", "is y")]);
    assert_eq!(bad_fields(&of_error(error)), ["a", "b.c[1]"]);
}

#[test]
fn a_status_fits_into_headers_whatever_a_caller_sends() {
    let long = |i: usize| Violation::new(format!("f{i}"), "ü".repeat(100_000));
    let many = Error::InvalidArgument((0..5_000).map(long).collect());
    for error in [many, Error::ScopesExceedKey(vec!["x".repeat(1_000); 256])] {
        let headers = of_error(error).into_http::<()>().into_parts().0.headers;
        let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
        assert!(bytes < 16 << 10, "{bytes}");
    }
}

#[test]
fn reasons_are_the_ones_of_the_definitions() {
    let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
    let reasons = set.file.iter().flat_map(|f| &f.enum_type).find(|e| e.name() == "ErrorReason").unwrap();
    let defined: BTreeSet<_> =
        reasons.value.iter().map(|v| v.name().strip_prefix("ERROR_REASON_").unwrap().to_owned()).collect();
    let mut sent: BTreeSet<_> = every_error().into_iter().map(|(error, ..)| reason(&of_error(error))).collect();
    sent.insert("UNSPECIFIED".into());
    assert_eq!(sent, defined);
}
