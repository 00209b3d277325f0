//! Paths and queries.

use super::Cases;
use crate::support::http::Request;
use crate::support::routes::Callers;

/// Nothing has such a name, and some of these are no names at all.
const NAMES: [&str; 34] = [
    "%",
    "%2",
    "%zz",
    "%%",
    "a%",
    "%00",
    "a%00b",
    "%01",
    "%0d%0aX-Injected:%201",
    "%7f",
    "%ff",
    "%c0%af",
    "%c0%ae%c0%ae",
    "%e0%80%af",
    "%ed%a0%80",
    "%f8%88%80%80%80",
    "..",
    ".",
    "%2e%2e",
    "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "%2F",
    "a%2Fb",
    "a;b=c",
    "a:channels:b",
    "session_",
    "session_%00",
    "session_x'--",
    "run_",
    "waitpoint_",
    "%F0%9F%98%80",
    "%20",
    "'%20OR%201=1",
    "{session}",
    "*",
];

pub(super) fn add(cases: &mut Cases<'_>) {
    parameters(cases);
    fixed_parts(cases);
    queries(cases);
}

fn parameters(cases: &mut Cases<'_>) {
    let long = "n".repeat(20_000);
    let wide = "%F0%9F%98%80".repeat(3_000);
    for parameter in [
        "{session}",
        "{run}",
        "{waitpoint}",
        "{task}",
        "{channel}",
        "{io}",
        "{*packet}",
        "{token}",
        "{stream}",
        "{field}",
    ] {
        if !cases.route.path.contains(parameter) {
            continue;
        }
        // Any task and any packet may be new; whether a name is one is its own table.
        let may_be_new = matches!(parameter, "{task}" | "{*packet}" | "{channel}");
        let world = if may_be_new { cases.scratch } else { cases.kept };
        for name in NAMES.into_iter().chain([long.as_str(), wide.as_str()]) {
            let path = match parameter {
                "{token}" if cases.route.callers == Callers::UrlHolders => format!("/blobs/{name}"),
                _ => cases.route.path_with(world, parameter, name),
            };
            let request = Request { path, ..cases.route.request(world) };
            let what = format!("{parameter} is {name:.60}");
            if may_be_new { cases.borne(what, &request) } else { cases.refused(what, &request) }
        }
    }
}

/// The path's own words, misspelled. A trailing slash is led back, everything else is not there.
fn fixed_parts(cases: &mut Cases<'_>) {
    let (kept, scratch) = (cases.of_kept(), cases.of_scratch());
    // Behind a wildcard and in a signed URL any spelling may be a good one.
    let has_signed_path = matches!(cases.route.callers, Callers::UrlHolders | Callers::CallbackHolders);
    let is_free = has_signed_path || cases.route.path.contains("{*");
    for path in misspelled(if is_free { &scratch.path } else { &kept.path }) {
        let what = format!("the path {path}");
        // Here it is the parameter that gets longer, and is a name of its own.
        let is_another = cases.route.path.ends_with('}') && (path.ends_with("%20") || path.ends_with('\\'));
        if is_free || is_another {
            cases.borne(what, &Request { path, ..scratch.clone() });
        } else {
            cases.refused(what, &Request { path, ..kept.clone() });
        }
    }
}

fn misspelled(path: &str) -> Vec<String> {
    let others = vec![
        path.to_uppercase(),
        path.replacen("/v", "/v0", 1),
        path.replacen("/v", "//v", 1),
        path.replacen("/v", "/./v", 1),
        path.replacen("/v", "/x/../v", 1),
        path.replacen("/v", "%2Fv", 1),
        path.replacen("/v", "/%76", 1),
        format!("/{path}"),
        format!("{path}/"),
        format!("{path}//"),
        format!("{path}/%20"),
        format!("{path}%20"),
        format!("{path}\\"),
        format!("http:/{path}"),
    ];
    others.into_iter().filter(|other| other != path).collect()
}

fn queries(cases: &mut Cases<'_>) {
    let long = format!("filter[type]={}", "t,".repeat(10_000));
    let many = "page[size]=1&".repeat(2_000);
    for query in [
        "%",
        "%zz",
        "%00=%00",
        "=",
        "&&&",
        "=&=",
        "?",
        "a=%ff",
        "page[size]",
        "page[size]=0",
        "page[size]=-0",
        "page[size]=1e2",
        "page[size]=%31",
        "page[size]=0x1",
        "page[size]=2147483648",
        "page[size]=NaN",
        "page[size][]=1",
        "page[after]=%ff",
        "page[after]=..",
        "page[after]=AAAA",
        "page[before]=%00",
        "page[after]=a&page[before]=b",
        "filter[status]=%00",
        "filter[status]=ACTIVE&filter[status]=X",
        "filter[type]=%ff",
        "filter[tags]='--",
        "filter[createdAt][from]=9223372036854775808",
        "filter[createdAt][from]=-9223372036854775808",
        "filter[createdAt][to]=9223372036854775807",
        "filter[createdAt][period]=99999999999999999999w",
        "filter[createdAt][period]=-1h",
        "filter[externalId]=%00",
        "filter[taskIdentifier]=,,,",
        "limit=-1",
        "limit=1e9",
        "before=%00",
        "before=",
        "afterEventId=-1",
        "afterEventId=99999999999999999999999",
        "afterEventId=%ff",
        "x[__proto__]=1",
        long.as_str(),
        many.as_str(),
    ] {
        // Routes that do not list do not read it.
        if cases.route.method != "GET" && cases.random.below(6) > 0 {
            continue;
        }
        let scratch = cases.of_scratch();
        let path = format!("{}?{query}", scratch.path);
        cases.borne(format!("the query {query:.80}"), &Request { path, ..scratch });
    }
}
