//! Headers: broken ones, too many, too long, and values nobody expects.

use super::Cases;

pub(super) fn add(cases: &mut Cases<'_>) {
    broken(cases);
    odd_values(cases);
}

fn broken(cases: &mut Cases<'_>) {
    let is_head = cases.route.method == "HEAD";
    for line in [
        "nonsense",
        ": no name",
        "X Y: 1",
        "X\0Y: 1",
        "X-A: a\0b",
        "X-A: a\rb",
        "X-A: a\u{1}b",
        "(comment): 1",
        "X-A : 1",
        "\u{e9}: 1",
        " X-A: folded",
        "X-A",
    ] {
        let mut bytes = cases.of_kept().bytes();
        let end = bytes.windows(2).position(|w| w == b"\r\n").unwrap();
        bytes.splice(end..end, [b"\r\n", line.as_bytes()].concat());
        cases.raw(format!("the header line {line:?}"), bytes, true, is_head);
    }
    let many = (0..101).fold(cases.of_kept(), |request, n| request.header(&format!("X-{n}"), "1"));
    cases.denied("more than 100 headers", &many);
    let huge = cases.of_kept().header("X-A", vec![b'a'; 600_000]);
    cases.denied("a header of 600 kB", &huge);
    let named = cases.of_kept().header(&"N".repeat(70_000), "1");
    cases.denied("a header's name of 70 kB", &named);
}

fn odd_values(cases: &mut Cases<'_>) {
    let long = "v".repeat(50_000);
    for name in [
        "Content-Type",
        "Accept",
        "Accept-Encoding",
        "Content-Encoding",
        "Last-Event-ID",
        "Timeout-Seconds",
        "X-Part-Id",
        "X-Peek-Settled",
        "X-Trigger-Stream-Start",
        "Origin",
        "Host",
        "Range",
        "If-None-Match",
        "Cookie",
        "Upgrade",
        "X-Forwarded-For",
        "X-Trigger-Branch",
        "Traceparent",
        "X-Channel-Max-Age-Seconds",
        "Grpc-Timeout",
    ] {
        for value in [
            "",
            "\u{0}",
            "-1",
            "0",
            "99999999999999999999",
            "\u{ff}\u{fe}",
            "application/grpc",
            "a,b;q=x",
            long.as_str(),
        ] {
            // Only some of all pairs each time.
            if cases.random.below(4) > 0 {
                continue;
            }
            let request = cases.of_scratch().header(name, value).header(name, "2");
            cases.borne(format!("{name}: {value:.20}"), &request);
        }
    }
    for (name, value) in [
        ("Content-Type", "application/grpc"),
        ("Content-Type", "application/grpc-web+proto"),
        ("Upgrade", "websocket"),
        ("Upgrade", "h2c"),
        ("Connection", "Upgrade, HTTP2-Settings"),
        ("HTTP2-Settings", "AAMAAABkAARAAAAAAAIAAAAA"),
        ("TE", "trailers, deflate;q=0.5"),
        ("Expect", "200-maybe"),
        ("X-HTTP-Method-Override", "DELETE"),
        ("Content-Encoding", "gzip"),
    ] {
        let request = cases.of_scratch().header(name, value);
        cases.borne(format!("{name}: {value}"), &request);
    }
    for value in ["p".repeat(1_025), "\u{e9}".repeat(600)] {
        let request = cases.of_kept().header("X-Part-Id", value);
        if cases.route.path.ends_with("/append") {
            cases.denied("a part id that is too long", &request);
        }
    }
}
