//! Credentials that are none.

use super::Cases;
use crate::support::http::Request;
use crate::support::routes::Callers;
use crate::support::token::{ENVIRONMENT, signed, unsigned};
use serde_json::json;

pub(super) fn add(cases: &mut Cases<'_>) {
    match cases.route.callers {
        Callers::UrlHolders => return urls(cases),
        // Its token stands in the path, and is altered there.
        Callers::CallbackHolders => return,
        Callers::Anyone | Callers::Keys | Callers::Operator => {}
    }
    keys(cases);
    tokens(cases);
    claims(cases);
}

fn with(cases: &Cases<'_>, authorization: &[u8]) -> Request {
    cases.route.anonymous(cases.kept).header("Authorization", authorization)
}

fn keys(cases: &mut Cases<'_>) {
    let key = cases.kept.key.clone();
    let id = cases.kept.session_id.clone();
    for text in [
        String::new(),
        "Bearer".to_owned(),
        "Bearer  ".to_owned(),
        format!("Basic {key}"),
        format!("Bearer Bearer {key}"),
        format!("Bearer {}", &key[..key.len() - 1]),
        format!("Bearer {key}x"),
        format!("Bearer {}", key.to_uppercase()),
        format!("Bearer {key} {key}"),
        format!("Bearer {key},{key}"),
        format!("Bearer {}", key.replace("dev", "prod")),
        "Bearer tr_dev_sk_0123456789abcdefghijklmn".to_owned(),
        "Bearer tr_dev_' OR '1'='1".to_owned(),
        "Bearer tr_dev_%".to_owned(),
        "Bearer tr_run_AAAA.AAAA".to_owned(),
        format!("Bearer {id}"),
        format!("Bearer {}", "k".repeat(60_000)),
    ] {
        let request = with(cases, text.as_bytes());
        cases.denied(format!("authorization {:.40}", text), &request);
    }
    for _ in 0..4 {
        let noise: Vec<u8> = cases.random.bytes(30).into_iter().map(|b| b | 0x80).collect();
        let request = with(cases, &[b"Bearer ", &noise[..]].concat());
        cases.denied("a key of bytes", &request);
    }
    let anonymous = cases.route.anonymous(cases.kept);
    cases.denied("no authorization", &anonymous);
    let elsewhere = anonymous.clone().header("X-Api-Key", key.clone()).header("Cookie", format!("token={key}"));
    cases.denied("the key elsewhere", &elsewhere);
    let second = with(cases, b"Bearer nobody").bearer(&key);
    cases.denied("a good one behind a bad one", &second);
}

fn tokens(cases: &mut Cases<'_>) {
    let token = cases.kept.token.clone();
    let parts: Vec<&str> = token.split('.').collect();
    let [head, payload, mac] = parts[..] else { panic!("a token has three parts") };
    let mut altered = vec![
        format!("{head}.{payload}"),
        format!("{head}.{payload}."),
        format!("{head}.{payload}.{mac}.{mac}"),
        format!(".{payload}.{mac}"),
        format!("{payload}.{head}.{mac}"),
        format!("{head}..{mac}"),
        format!("{head}.{payload}.{}", &mac[..20]),
        format!("{head}.{payload}.{}", "A".repeat(43)),
    ];
    for _ in 0..12 {
        // Not the last character of a part, some of whose bits mean nothing.
        let at = head.len() + 1 + cases.random.below(payload.len() - 2);
        let other = *cases.random.pick(b"ABCDEFGHabcdefgh0123456789-_");
        let mut bytes = token.clone().into_bytes();
        bytes[at] = if bytes[at] == other { b'Z' } else { other };
        altered.push(String::from_utf8(bytes).unwrap());
    }
    for text in altered {
        let request = with(cases, format!("Bearer {text}").as_bytes());
        cases.denied(format!("the token {text}"), &request);
    }
}

/// Signed with the right key, and wrong all the same.
fn claims(cases: &mut Cases<'_>) {
    let good = json!({ "iss": "https://id.trigger.dev", "aud": "https://api.trigger.dev", "pub": true, "iat": 1,
        "sub": ENVIRONMENT, "exp": 4_000_000_000_u64, "scopes": ["admin"] });
    let key = cases.kept.key.clone();
    let mut wrong = Vec::new();
    for (name, values) in [
        ("exp", vec![json!(1), json!("4000000000"), json!(-1), json!(null), json!([]), json!(1e300)]),
        ("iss", vec![json!("https://id.trigger.dev/"), json!(""), json!(null), json!(1)]),
        ("aud", vec![json!("https://api.trigger.dev."), json!(null), json!([]), json!(1)]),
        ("sub", vec![json!("' OR 1=1 --"), json!(""), json!(null), json!(1), json!("a".repeat(5_000))]),
        ("pub", vec![json!(false), json!("true"), json!(null)]),
        ("scopes", vec![json!("admin"), json!(null), json!([1]), json!({ "0": "admin" }), json!([]), json!(["ADMIN"])]),
    ] {
        for value in values {
            let mut claims = good.clone();
            claims[name] = value;
            wrong.push(claims);
        }
    }
    wrong.extend([json!([]), json!("text"), json!({}), json!(null)]);
    for claims in &wrong {
        let request = with(cases, format!("Bearer {}", signed(&key, claims)).as_bytes());
        cases.denied(format!("the claims {:.300}", claims.to_string()), &request);
    }
    let request = with(cases, format!("Bearer {}", unsigned(&good)).as_bytes());
    cases.denied("no algorithm", &request);
    let request = with(cases, format!("Bearer {}", signed("", &good)).as_bytes());
    cases.denied("signed with nothing", &request);
}

fn urls(cases: &mut Cases<'_>) {
    let is_put = cases.route.method == "PUT";
    let url = if is_put { cases.kept.put_url.clone() } else { cases.kept.get_url.clone() };
    let others = if is_put { cases.kept.get_url.clone() } else { cases.kept.put_url.clone() };
    let mut wrong =
        vec![others, format!("{url}A"), format!("{url}%00"), url.replace("tr_blob_", ""), "/blobs/%2e%2e".into()];
    let mac = url.rfind('.').unwrap();
    wrong.extend([url[..mac].to_owned(), url[..=mac].to_owned(), format!("{}{}", &url[..=mac], "A".repeat(43))]);
    for _ in 0..60 {
        let at = "/blobs/tr_blob_".len() + cases.random.below(url.len() - "/blobs/tr_blob_".len() - 1);
        let other = *cases.random.pick(b"ABCDEFGHabcdefgh0123456789-_.~");
        let mut bytes = url.clone().into_bytes();
        bytes[at] = if bytes[at] == other { b'Z' } else { other };
        wrong.push(String::from_utf8(bytes).unwrap());
    }
    for path in wrong {
        let request = Request { path: path.clone(), ..cases.of_kept() };
        cases.denied(format!("the url {path}"), &request);
    }
}
