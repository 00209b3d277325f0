//! Request lines, methods, lengths and codings; requests that break off; noise.

use super::Cases;
use crate::support::http::{Body, Request};
use crate::support::routes::{Payload, Route};

pub(super) fn add(cases: &mut Cases<'_>) {
    methods(cases);
    request_lines(cases);
    lengths(cases);
    cut_off(cases);
}

fn methods(cases: &mut Cases<'_>) {
    let known = Route::methods(cases.route.path);
    let odd =
        ["GETT", "get", "PO ST", "P\u{7f}ST", "", "\u{1F600}", "TRACE", "CONNECT", "PROPFIND", "PRI", "POST\t", "\0"];
    let usual = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];
    for method in usual.into_iter().filter(|method| !known.contains(method)).chain(odd) {
        let request = Request { method: method.to_owned(), ..cases.of_kept() };
        cases.denied(format!("method {method:?}"), &request);
    }
    let long = Request { method: "M".repeat(10_000), ..cases.of_kept() };
    cases.denied("a method of 10 kB", &long);
}

/// The head of the accepted request with another first line.
fn with_line(request: &Request, line: &[u8]) -> Vec<u8> {
    let bytes = request.bytes();
    let end = bytes.windows(2).position(|w| w == b"\r\n").unwrap();
    [line, &bytes[end..]].concat()
}

fn request_lines(cases: &mut Cases<'_>) {
    let request = cases.of_kept();
    let (method, path) = (request.method.clone(), request.path.clone());
    let is_head = method == "HEAD";
    let lines = [
        format!("{method} {path}"),
        format!("{method} {path} HTTP/1.2"),
        format!("{method} {path} HTTP/3.0"),
        format!("{method} {path} HTTP/1.1 extra"),
        format!("{method} {path} http/1.1"),
        format!("{method} {path} FTP/1.1"),
        format!("{method}  {path} HTTP/1.1"),
        format!("{method}\t{path}\tHTTP/1.1"),
        format!("{method} {path}\0 HTTP/1.1"),
        format!("{method} {path} \rHTTP/1.1"),
        format!("{method} a{path} HTTP/1.1"),
        format!("{method} {path} {path} HTTP/1.1"),
        format!("{method}HTTP/1.1"),
        format!(" {method} {path} HTTP/1.1"),
        format!("{path} {method} HTTP/1.1"),
        "HTTP/1.1 200 OK".to_owned(),
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0".to_owned(),
        "SSH-2.0-OpenSSH_9.9".to_owned(),
        "PRI * HTTP/2.0".to_owned(),
        "\0\0\0\0".to_owned(),
    ];
    for line in lines {
        let bytes = with_line(&request, line.as_bytes());
        // Some of these read as a request without a method or without an end, which then is never sent.
        let what = format!("the line {line:?}");
        cases.cases.push(super::Case { what, bytes, must_be_refused: true, hangs_up: true, is_head });
    }
    for (what, target) in [("8-bit", b"/\xff\xfe".to_vec()), ("70 kB", vec![b'/'; 70_000])] {
        let line = [method.as_bytes(), b" ", &target, b" HTTP/1.1"].concat();
        let bytes = with_line(&request, &line);
        cases.raw(format!("a target of {what}"), bytes, true, is_head);
    }
}

fn lengths(cases: &mut Cases<'_>) {
    let request = cases.of_kept();
    let body = cases.route.body(cases.kept);
    let odd = ["many", "-1", "+1", "0x10", "1.0", "1e3", "99999999999999999999999", "\u{663}", "1 2", "1,2", "\"1\""];
    for length in odd {
        let request = request.clone().header("Content-Length", length).bare(body.clone());
        cases.denied(format!("a length of {length:?}"), &request);
    }
    for codings in ["gzip", "chunked, gzip", "chunked, identity", "xchunked", "chunked;q=1", "\"chunked\"", ""] {
        let request = request.clone().header("Transfer-Encoding", codings).bare(body.clone());
        cases.denied(format!("a coding of {codings:?}"), &request);
    }
    let two = request.clone().header("Content-Length", "1").header("Content-Length", "2").bare(body.clone());
    cases.denied("two lengths", &two);
    // What is behind the end that the one header speaks of must not become a request.
    let kept = format!("/api/v1/sessions/{}", cases.kept.session);
    let smuggled = Request::new("DELETE", &kept).bearer(&cases.kept.key).bytes();
    let both = cases.of_scratch().header("Content-Length", "5").header("Transfer-Encoding", "chunked");
    let bytes = both.bare([&b"0\r\n\r\n"[..], &smuggled].concat()).bytes();
    let keeps = String::from_utf8_lossy(&bytes).replacen("Connection: close", "Connection: keep-alive", 1);
    let reads_body = cases.route.payload != Payload::None;
    if reads_body && cases.route.is_json() {
        cases.broken_off("both framings, with a request behind", keeps.into_bytes(), false);
    }
    if reads_body {
        for chunks in [
            "z\r\n",
            "-1\r\n{}\r\n",
            "ffffffffffffffffff\r\n",
            "2\r\n{}",
            "1\r\n{}\r\n0\r\n\r\n",
            "0 0\r\n",
            ";\r\n",
            "\r\n\r\n",
        ] {
            let request = request.clone().header("Transfer-Encoding", "chunked").bare(chunks);
            cases.broken_off(format!("chunks {chunks:?}"), request.bytes(), true);
        }
    }
}

/// Half a request, and then nobody.
fn cut_off(cases: &mut Cases<'_>) {
    let bytes = cases.of_kept().bytes();
    let head = bytes.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    for _ in 0..12 {
        let end = cases.random.below(head - 1);
        cases.broken_off(format!("cut after byte {end}"), bytes[..end].to_vec(), true);
    }
    if cases.route.payload == Payload::None {
        return;
    }
    for _ in 0..12 {
        let end = head + cases.random.below(bytes.len() - head);
        cases.broken_off(format!("cut after byte {end}, in the body"), bytes[..end].to_vec(), true);
    }
    let Body::Sized(body) = cases.of_kept().body else { return };
    for pieces in 1..5 {
        let request = cases.of_kept().chunked(body.chunks(1 + body.len() / pieces).map(<[u8]>::to_vec).collect());
        let bytes = request.bytes();
        let end = bytes.len() - 5;
        cases.broken_off(format!("{pieces} pieces without an end"), bytes[..end].to_vec(), true);
    }
}

/// The accepted request with a few bytes changed, taken out or put in. Who knows what it says now.
pub(super) fn add_noise(cases: &mut Cases<'_>) {
    let mut bytes = cases.of_scratch().bytes();
    let mut changes = Vec::new();
    for _ in 0..1 + cases.random.below(4) {
        let (at, byte) = (cases.random.below(bytes.len()), cases.random.next() as u8);
        changes.push((at, byte));
        match cases.random.below(3) {
            0 => bytes[at] = byte,
            1 => drop(bytes.remove(at)),
            _ => bytes.insert(at, byte),
        }
    }
    cases.broken_off(format!("noise {changes:?}"), bytes, false);
}
