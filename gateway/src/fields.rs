//! Where a field of a message stands in an HTTP request: the services report violations by proto path
//! (`trigger_config.tags[3]`), people read them by the name they sent (`triggerConfig.tags.3`).

use http::StatusCode;
use tonic::Status;
use tonic_types::StatusExt;

use crate::{
    error::{self, Failure, Route},
    validate::{Issue, Step},
};

enum Place {
    Params,
    Query,
    Headers,
    Body,
}

/// The answer to INVALID_ARGUMENT.
pub(crate) fn invalid(status: &Status, route: Route) -> Failure {
    let violations = status.get_details_bad_request().map(|bad| bad.field_violations).unwrap_or_default();
    let Some(first) = violations.first() else { return without_fields(status, route) };
    let place = place(&first.field, route);
    let issues: Vec<Issue> =
        violations.iter().map(|v| Issue::new("custom", steps(&v.field, route), v.description.clone())).collect();
    match place {
        Place::Params => Failure::params(issues),
        Place::Query => Failure::query(issues),
        Place::Headers => Failure::headers(issues),
        // The body of an append is opaque, so its problems are not those of a form.
        Place::Body if matches!(route, Route::AppendIn | Route::AppendOther) => {
            let lines: Vec<String> = issues.iter().map(Issue::line).collect();
            Failure::not_ok(StatusCode::BAD_REQUEST, lines.join("; "))
        }
        // Clients of this route take only this status for too many tags; on any other they give the run up.
        Place::Body if route == Route::ChangeRun && first.field == "tags" => {
            Failure::validation(&issues).with_status(StatusCode::UNPROCESSABLE_ENTITY)
        }
        Place::Body => Failure::validation(&issues),
    }
}

fn without_fields(status: &Status, route: Route) -> Failure {
    match route {
        Route::AppendIn | Route::AppendOther => Failure::not_ok(
            StatusCode::BAD_REQUEST,
            error::public_text(status, continuo_proto::v1::ErrorReason::InvalidArgument),
        ),
        _others => Failure::error(
            StatusCode::BAD_REQUEST,
            error::public_text(status, continuo_proto::v1::ErrorReason::InvalidArgument),
        ),
    }
}

fn place(field: &str, route: Route) -> Place {
    let head = field.split(['.', '[']).next().unwrap_or_default();
    let of_channel = matches!(route, Route::Initialize | Route::ReadChannel | Route::AppendIn | Route::AppendOther);
    let of_session = of_channel
        || matches!(route, Route::ReadSession | Route::ChangeSession | Route::EndAndContinue | Route::Transcript);
    match head {
        "session" if of_session => Place::Params,
        "channel" | "name" | "direction" if of_channel => Place::Params,
        "run_id" | "waitpoint_id" | "target" => Place::Params,
        "content_type" | "size_bytes" => Place::Headers,
        "limit" | "before" if route == Route::Transcript => Place::Query,
        "task_identifier" if route == Route::Trigger => Place::Params,
        "part_id" | "start" | "idle_timeout_ms" => Place::Headers,
        "wait_as_of" => Place::Headers,
        "after_seq_num" => Place::Query,
        _ if matches!(route, Route::List(_)) => Place::Query,
        _ => Place::Body,
    }
}

fn steps(field: &str, route: Route) -> Vec<Step> {
    if let Some(name) = whole_path(field, route) {
        return vec![Step::key(name)];
    }
    let mut steps = Vec::new();
    if route == Route::Trigger && !matches!(field, "payload" | "task_identifier") {
        steps.push(Step::key("options"));
    }
    for part in field.split('.').filter(|part| !part.is_empty()) {
        let (name, indexes) = part.split_once('[').unwrap_or((part, ""));
        // `value.tags` of an update is the body's `tags`.
        if !(name == "value" && steps.is_empty()) {
            steps.push(Step::key(name_in_json(name)));
        }
        for index in indexes.split('[').map(|text| text.trim_end_matches(']')).filter(|text| !text.is_empty()) {
            steps.push(index.parse().map_or_else(|_| Step::key(index), Step::Index));
        }
    }
    steps
}

/// Fields that are called something else altogether.
fn whole_path(field: &str, route: Route) -> Option<&'static str> {
    let in_list = matches!(route, Route::List(_));
    Some(match field {
        "page_token" => match route {
            Route::List(cursor) => cursor,
            _ => "page[after]",
        },
        "page_size" => "page[size]",
        // Query parameters are not numbered.
        _ if in_list && field.ends_with(']') => return whole_path(field.split('[').next()?, route),
        "filter.types" => "filter[type]",
        "filter.tags" => "filter[tags]",
        "filter.task_identifiers" => "filter[taskIdentifier]",
        "filter.external_id" => "filter[externalId]",
        "filter.statuses" => "filter[status]",
        "filter.created_from" => "filter[createdAt][from]",
        "filter.created_to" => "filter[createdAt][to]",
        "statuses" if in_list => "filter[status]",
        "task_identifiers" if in_list => "filter[taskIdentifier]",
        "tags" if in_list => "filter[tag]",
        "created_from" if in_list => "filter[createdAt][from]",
        "created_to" if in_list => "filter[createdAt][to]",
        "after_seq_num" => "afterEventId",
        "wait_as_of" => "continuo-wait-as-of",
        "part_id" => "X-Part-Id",
        "idle_timeout_ms" => "Timeout-Seconds",
        "start" | "start.seq_num" => "Last-Event-ID",
        "channel.session" => "session",
        "channel.name" | "name" => "channel",
        "channel.direction" => "io",
        "target.session" => "session",
        "target.packet" => "packet",
        "content_type" => "Content-Type",
        "size_bytes" => "Content-Length",
        "run_id" => "runId",
        "waitpoint_id" => "waitpointId",
        "task_identifier" if route == Route::Trigger => "taskId",
        "output" => "data",
        "expires_at" if route == Route::Tokens => "expirationTime",
        _ => return None,
    })
}

/// The JSON name of one field.
fn name_in_json(name: &str) -> String {
    let known = match name {
        "metadata_json" => "metadata",
        "base_payload_json" => "basePayload",
        "max_duration_s" => "maxDuration",
        "idle_timeout_s" => "idleTimeoutInSeconds",
        "ttl_ms" => "ttl",
        "idempotency_key_ttl_ms" => "idempotencyKeyTTL",
        "delay_until" | "delay_ms" => "delay",
        "max_delay_ms" => "maxDelay",
        "batch_id" => "parentBatch",
        "queue_concurrency_limit" => "queue.concurrencyLimit",
        "realtime_json" => "realtime",
        "value_json" => "value",
        "verb" => "type",
        "timeout_at" => "timeout",
        "is_test" => "test",
        "direction" => "io",
        "until" => "date",
        name => return camel_case(name),
    };
    known.to_owned()
}

fn camel_case(name: &str) -> String {
    let mut words = name.split('_');
    let mut camel = words.next().unwrap_or_default().to_owned();
    for word in words {
        let mut letters = word.chars();
        camel.extend(letters.next().map(|c| c.to_ascii_uppercase()));
        camel.push_str(letters.as_str());
    }
    camel
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proto_paths_become_the_names_that_were_sent() {
        let line = |field: &str, route| Issue::new("custom", steps(field, route), "m").line();
        assert_eq!(line("trigger_config.tags[3]", Route::CreateSession), r#"m at "triggerConfig.tags.3""#);
        assert_eq!(
            line("trigger_config.base_payload_json", Route::CreateSession),
            r#"m at "triggerConfig.basePayload""#
        );
        assert_eq!(line("value.external_id", Route::ChangeSession), r#"m at "externalId""#);
        assert_eq!(line("max_attempts", Route::Trigger), r#"m at "options.maxAttempts""#);
        assert_eq!(line("payload", Route::Trigger), r#"m at "payload""#);
        assert_eq!(line("statuses[1]", Route::List("page[after]")), r#"m at "filter[status]""#);
        assert_eq!(line("filter.tags[0]", Route::List("page[after]")), r#"m at "filter[tags]""#);
        assert_eq!(line("page_token", Route::List("page[before]")), r#"m at "page[before]""#);
    }
}
