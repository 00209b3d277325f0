//! What only the stream API can be sent: frames, protobuf, compressed bodies, commands, and its own queries.

use super::Cases;
use crate::support::http::Request;

pub(super) fn add(cases: &mut Cases<'_>) {
    if !cases.route.path.contains("{stream}") {
        return;
    }
    basins_and_formats(cases);
    match cases.route.method {
        "POST" => {
            appends(cases);
            encoded(cases);
            frames(cases);
        }
        _ => reads(cases),
    }
}

fn basins_and_formats(cases: &mut Cases<'_>) {
    for basin in ["", "other-basin", "CONTINUO", "../continuo", "\u{ff}"] {
        let request = cases.of_kept().header("s2-basin", basin);
        cases.denied(format!("the basin {basin:?}"), &request);
    }
    for format in ["base65", "\u{ff}", "raw,base64", "0"] {
        let request = cases.of_kept().header("s2-format", format);
        cases.refused(format!("the format {format:?}"), &request);
    }
}

/// Well-formed JSON that is no append, or one that cannot be granted.
fn appends(cases: &mut Cases<'_>) {
    let many = format!(r#"{{"records":[{}{{}}]}}"#, "{},".repeat(1_000));
    let large = format!(r#"{{"records":[{{"body":"{}"}}]}}"#, "x".repeat(1_048_569));
    let token = format!(r#"{{"records":[{{}}],"fencing_token":"{}"}}"#, "t".repeat(37));
    for body in [
        r#"{"records":[]}"#,
        r#"{"records":null}"#,
        r#"{"records":{}}"#,
        r#"{"records":[1]}"#,
        r#"{"records":[null]}"#,
        r#"{"records":[{"body":1}]}"#,
        r#"{"records":[{"body":"\ud800"}]}"#,
        r#"{"records":[{"headers":{}}]}"#,
        r#"{"records":[{"headers":[["a"]]}]}"#,
        r#"{"records":[{"headers":[["a","b","c"]]}]}"#,
        r#"{"records":[{"headers":[["a",1]]}]}"#,
        r#"{"records":[{"headers":[["",""]]}]}"#,
        r#"{"records":[{"headers":[["","nonsense"]]}]}"#,
        r#"{"records":[{"headers":[["","trim"]],"body":"short"}]}"#,
        r#"{"records":[{"headers":[["","trim"],["a","b"]],"body":"12345678"}]}"#,
        r#"{"records":[{}],"match_seq_num":999}"#,
        r#"{"records":[{}],"match_seq_num":-1}"#,
        r#"{"records":[{}],"match_seq_num":1.5}"#,
        r#"{"records":[{}],"match_seq_num":18446744073709551616}"#,
        r#"{"records":[{}],"fencing_token":"not this one"}"#,
        r#"{"records":[{}],"fencing_token":1}"#,
        many.as_str(),
        large.as_str(),
        token.as_str(),
    ] {
        let request = cases.of_kept().body(body);
        cases.denied(format!("the append {body:.80}"), &request);
    }
    let base64 = cases.of_kept().header("s2-format", "base64").body(r#"{"records":[{"body":"%%%"}]}"#);
    cases.denied("what is not base64", &base64);
}

fn encoded(cases: &mut Cases<'_>) {
    for (name, value) in [
        ("Content-Type", "text/plain"),
        ("Content-Type", "application/xml; charset=utf-8"),
        ("Content-Encoding", "br"),
        ("Content-Encoding", "gzip, gzip"),
        ("Content-Encoding", "gzip"),
        ("Content-Encoding", "zstd"),
    ] {
        let request = cases.of_kept().header(name, value);
        cases.denied(format!("{name}: {value}"), &request);
    }
    for encoding in ["gzip", "zstd"] {
        for magic in [&b"\x1f\x8b\x08\0\0\0\0\0\0\x03"[..], b"\x28\xb5\x2f\xfd\x24\xff", b""] {
            let body = [magic, &cases.random.bytes(60)].concat();
            let request = cases.of_kept().header("Content-Encoding", encoding).body(body);
            cases.denied(format!("a body that is no {encoding}"), &request);
        }
    }
    for _ in 0..20 {
        let n = cases.random.below(60);
        let bytes = cases.random.bytes(n);
        let request = cases.of_scratch().header("Content-Type", "application/protobuf").body(bytes);
        cases.borne("protobuf of noise", &request);
    }
    for bytes in
        [&b"\x0a\xff\xff\xff\xff\x0f"[..], b"\x0a\x80", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", b"\x0f", b""]
    {
        let request = cases.of_kept().header("Content-Type", "application/protobuf").body(bytes);
        cases.denied(format!("the protobuf {bytes:x?}"), &request);
    }
}

/// A session answers 200 at once; what it thinks of a frame is its own last frame.
fn frames(cases: &mut Cases<'_>) {
    let mut sent: Vec<Vec<u8>> = vec![
        vec![],
        vec![0],
        vec![0, 0, 0],
        vec![0, 0, 0, 0],
        vec![0xff, 0xff, 0xff, 0],
        vec![0, 0, 1, 0x80],
        vec![0, 0, 1, 0x60],
        vec![0, 0, 2, 0x20, 1],
        vec![0, 0, 5, 0, 0x0a, 0xff, 0xff, 0xff],
        vec![0, 0, 3, 0x40, 0x1f, 0x8b],
    ];
    for _ in 0..20 {
        let n = cases.random.below(40);
        let payload = cases.random.bytes(n);
        sent.push([&[0, 0, n as u8 + 1, cases.random.next() as u8][..], &payload].concat());
    }
    for frame in sent {
        let what = format!("the frame {frame:x?}");
        let request = cases.of_scratch().header("Content-Type", "s2s/proto").body(frame);
        cases.borne(what, &request);
    }
}

fn reads(cases: &mut Cases<'_>) {
    for name in ["seq_num", "timestamp", "tail_offset", "count", "bytes", "until", "wait", "clamp"] {
        for value in ["", "-1", "x", "1.5", "%00", "%ff", "99999999999999999999999", "1&seq_num=1"] {
            let kept = cases.of_kept();
            let path = format!("{}?{name}={value}", kept.path);
            cases.borne(format!("{name} is {value}"), &Request { path, ..kept });
        }
    }
    for id in ["", "x", "1", "1,2", "1,2,x", "1,2,3,4", "-1,0,0", "99999999999999999999,1,1", "\u{ff}"] {
        let request = cases.of_kept().header("Accept", "text/event-stream").header("Last-Event-ID", id);
        cases.borne(format!("the event id {id:?}"), &request);
    }
}
