//! Bodies: cut, over-long, no text, deep, and with other values in the places of a good one.

use super::Cases;
use crate::support::routes::Payload;
use serde_json::{Map, Value, json};

pub(super) fn add(cases: &mut Cases<'_>) {
    match cases.route.payload {
        Payload::None => {}
        Payload::Bytes => too_long(cases),
        Payload::Text(_) => {
            too_long(cases);
            no_text(cases);
            odd_records(cases);
        }
        Payload::Json(..) | Payload::JsonOrNothing(..) => {
            too_long(cases);
            no_text(cases);
            no_json(cases);
            no_object(cases);
            other_values(cases);
            odd_objects(cases);
        }
    }
}

fn too_long(cases: &mut Cases<'_>) {
    let bytes = cases.route.cap().unwrap_or(64 << 20) + 1;
    let request = cases.of_kept().header("Expect", "100-continue").header("Content-Length", bytes.to_string()).bare("");
    cases.denied("a length above the cap", &request);
    let most = cases.of_kept().header("Expect", "100-continue").header("Content-Length", u64::MAX.to_string()).bare("");
    cases.denied("a length above any cap", &most);
    if let Some(cap) = cases.route.cap().filter(|cap| *cap <= 32_768) {
        let request = cases.of_kept().chunked(vec![vec![b' '; cap], vec![b' '; 1]]);
        cases.denied("pieces above the cap", &request);
    }
}

/// Bytes that are no UTF-8, put into the body.
fn no_text(cases: &mut Cases<'_>) {
    let body = cases.route.body(cases.kept);
    for bytes in [
        &b"\xff"[..],
        b"\xc0\x80",
        b"\xc0\xaf",
        b"\xed\xa0\x80",
        b"\xed\xb0\x80",
        b"\xf4\x90\x80\x80",
        b"\x80",
        b"\xe2\x82",
        b"\xf0\x9f\x98",
    ] {
        let at = cases.random.below(body.len() + 1);
        let broken = [&body[..at], bytes, &body[at..]].concat();
        let request = cases.of_kept().body(broken);
        cases.denied(format!("{bytes:x?} at {at}"), &request);
    }
}

fn no_json(cases: &mut Cases<'_>) {
    let body = cases.route.body(cases.kept);
    for _ in 0..16 {
        let end = 1 + cases.random.below(body.len() - 1);
        let request = cases.of_kept().body(&body[..end]);
        cases.denied(format!("JSON cut after byte {end}"), &request);
    }
    for byte in [0, 1, 8, 10, 27, 31, b'\\', b'}', b'"', b',', 0x7f] {
        let at = 1 + cases.random.below(body.len() - 1);
        let request = cases.of_scratch().body([&body[..at], &[byte], &body[at..]].concat());
        cases.borne(format!("byte {byte} at {at}"), &request);
    }
    let text = String::from_utf8(body).unwrap();
    for other in [
        format!("\u{feff}{text}"),
        format!("{text}{text}"),
        format!("{text},"),
        format!("{text}\0"),
        format!("[{text}"),
        format!("//\n{text}"),
        text.replace('"', "'"),
        text.replace(':', "="),
        text.replacen("{", "{,", 1),
        text.replacen("{\"", "{", 1),
        "{\"a\":01}".to_owned(),
        "{\"a\":.5}".to_owned(),
        "{\"a\":NaN}".to_owned(),
        "{\"a\":Infinity}".to_owned(),
        "{\"a\":\"\\x\"}".to_owned(),
        "{\"a\":\"\\ud8\"}".to_owned(),
        "{\"a\":undefined}".to_owned(),
        "\0".to_owned(),
    ] {
        let request = cases.of_kept().body(other.clone());
        cases.denied(format!("no JSON: {other:.60}"), &request);
    }
}

fn no_object(cases: &mut Cases<'_>) {
    let deep = [vec![b'['; 1_000], vec![b']'; 1_000]].concat();
    for body in [&b"null"[..], b"0", b"-0", b"0e0", b"false", b"\"\"", b"[]", b"[{}]", b"1", b"true", b"\"{}\"", &deep]
    {
        let request = cases.of_kept().body(body);
        cases.denied(format!("{:.20} is no object", String::from_utf8_lossy(body)), &request);
    }
}

/// What could stand in the place of a value.
const VALUES: [&str; 26] = [
    "null",
    "true",
    "0",
    "-1",
    "1.5",
    "1e400",
    "-0",
    "1e-400",
    "4294967296",
    "9007199254740993",
    "18446744073709551616",
    "\"\"",
    "\" \"",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "\"\\udc00\\ud800\"",
    "\"\\u202e\"",
    "\"a\\nb\"",
    "\"9999999999w\"",
    "\"-1s\"",
    "\"+292278995-01-01T00:00:00Z\"",
    "[]",
    "[null]",
    "[[\"a\"]]",
    "{}",
    "{\"__proto__\":{\"a\":1}}",
];

/// Each value of the body, at any depth, replaced by others; each left out.
fn other_values(cases: &mut Cases<'_>) {
    let body: Value = serde_json::from_slice(&cases.route.body(cases.scratch)).unwrap();
    let mut places = Vec::new();
    find(&body, String::new(), &mut places);
    for place in places {
        let without = removed(&body, &place);
        let request = cases.of_scratch().body(without.to_string());
        cases.borne(format!("without {place}"), &request);
        let long = format!("\"{}\"", "é".repeat(300 + cases.random.below(3_000)));
        let deep = format!("{}1{}", "[".repeat(300), "]".repeat(300));
        let mut values: Vec<&str> = (0..4).map(|_| *cases.random.pick(&VALUES)).collect();
        values.extend([long.as_str(), deep.as_str()]);
        for value in values {
            // Some of them are JSON that no `Value` can hold.
            let mut marked = body.clone();
            *marked.pointer_mut(&place).unwrap() = json!("\u{1}mark");
            let text = marked.to_string().replace("\"\\u0001mark\"", value);
            let request = cases.of_scratch().body(text);
            cases.borne(format!("{place} is {value:.40}"), &request);
        }
    }
}

/// Pointers to all values.
fn find(value: &Value, at: String, places: &mut Vec<String>) {
    let inner: Vec<(String, &Value)> = match value {
        Value::Object(object) => {
            object.iter().map(|(key, value)| (key.replace('~', "~0").replace('/', "~1"), value)).collect()
        }
        Value::Array(items) => items.iter().enumerate().map(|(i, value)| (i.to_string(), value)).collect(),
        _ => Vec::new(),
    };
    for (step, value) in inner {
        let place = format!("{at}/{step}");
        places.push(place.clone());
        find(value, place, places);
    }
}

fn removed(body: &Value, place: &str) -> Value {
    let mut body = body.clone();
    let (parent, last) = place.rsplit_once('/').unwrap();
    match body.pointer_mut(parent).unwrap() {
        Value::Object(object) => drop(object.remove(last)),
        Value::Array(items) => drop(items.remove(last.parse().unwrap())),
        _ => unreachable!("only these have places"),
    }
    body
}

fn odd_objects(cases: &mut Cases<'_>) {
    let text = String::from_utf8(cases.route.body(cases.scratch)).unwrap();
    let with = |more: &str| format!("{{{more},{}", &text[1..]);
    let body: Map<String, Value> = serde_json::from_str(&text).unwrap();
    let mut others: Vec<String> = body.keys().map(|key| with(&format!("{}:[[]]", json!(key)))).collect();
    others.extend(body.keys().map(|key| format!("{},{}:null}}", &text[..text.len() - 1], json!(key))));
    let deep = format!("{}{}", "{\"a\":".repeat(120), "1".to_owned() + &"}".repeat(120));
    others.extend([
        with("\"__proto__\":{\"admin\":true}"),
        with("\"constructor\":1"),
        with("\"\\ud800\":1"),
        with("\"\":1"),
        with("\"\\u0000\":1"),
        with(&format!("\"deep\":{deep}")),
        with(&format!("\"{}\":1", "k".repeat(500))),
        format!("\n\t {text} \r\n"),
        "{}".to_owned(),
    ]);
    for other in others {
        let request = cases.of_scratch().body(other.clone());
        cases.borne(format!("the object {other:.80}"), &request);
    }
}

/// A record may be any text, so these are borne.
fn odd_records(cases: &mut Cases<'_>) {
    let deep = |n: usize| format!("{}1{}", "{\"payload\":".repeat(n), "}".repeat(n));
    for text in [
        String::new(),
        "\0".to_owned(),
        "\u{feff}".to_owned(),
        "\u{1}\u{2}\u{1f}\u{7f}\u{85}\u{2028}\u{2029}".to_owned(),
        "😀\u{200d}👩\u{e000}\u{fffd}\u{10ffff}".to_owned(),
        "data: x\n\nevent: error\ndata: injected\n\n".to_owned(),
        "{\"kind\":\"stop\"".to_owned(),
        "{\"kind\":\"stop\",\"kind\":\"message\"}".to_owned(),
        "{\"payload\":{\"actionSource\":\"webhook\",\"actionSource\":\"webhook\"}}".to_owned(),
        "{\"payload\":{\"\\u0061ctionSource\":\"webhook\",\"\\ud800\":1}}".to_owned(),
        "{\"payload\":[{\"actionSource\":\"webhook\"}]}".to_owned(),
        "{\"type\":\"trigger:turn-complete\",\"type\":1}".to_owned(),
        "\"{\\\"type\\\":\\\"trigger:turn-complete\\\"}\"".to_owned(),
        "1e999999".to_owned(),
        deep(100),
        deep(20_000),
        "[".repeat(100_000),
        "\"".repeat(300_000),
    ] {
        let request = cases.of_scratch().body(text.clone());
        cases.borne(format!("the record {text:.60?}"), &request);
    }
    for _ in 0..20 {
        let noise = cases.random.bytes(40);
        let request = cases.of_scratch().body(String::from_utf8_lossy(&noise).into_owned());
        cases.borne("a record of noise", &request);
    }
}
