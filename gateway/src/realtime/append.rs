//! `POST …/{io}/append`: one record, whose body is the envelope of the raw request text.

use std::hash::{BuildHasher, RandomState};

use axum::{extract::State, response::Response};
use continuo_proto::{
    Api,
    v1::{AppendRequest, Boot, Direction, NewRecord},
};
use http::{HeaderMap, StatusCode};

use super::{append_route, is_reserved};
use crate::{
    Gateway,
    auth::Caller,
    body::{Capped, RECORD_BYTES_MAX},
    error::Failure,
    json::{self, Entries, is_string},
    paths::Params,
};

pub(crate) async fn append<A: Api>(
    State(gateway): State<Gateway<A>>,
    caller: Caller,
    params: Params,
    headers: HeaderMap,
    Capped(body): Capped<RECORD_BYTES_MAX>,
) -> Result<Response, Failure> {
    let channel = params.channel()?;
    let route = append_route(&channel);
    let part_id = part_id(&headers);
    let text = std::str::from_utf8(&body)
        .map_err(|_| Failure::not_ok(StatusCode::BAD_REQUEST, "The record must be UTF-8 text"))?;

    let (record, boot) = if is_reserved(&channel, Direction::In) {
        let object = Entries::parse(text);
        let forged = object.as_ref().filter(|_| caller.is_public()).and_then(without_forged_source);
        let id = part_id.as_deref();
        (
            envelope(forged.as_deref().unwrap_or(text), id),
            if boots(object.as_ref()) { Boot::Default } else { Boot::Never },
        )
    } else {
        (envelope(text, part_id.as_deref()), Boot::Default)
    };
    let records = vec![NewRecord { headers: Vec::new(), body: record.into() }];
    let request = AppendRequest { channel: Some(channel), records, part_id, boot: boot.into(), ..Default::default() };
    let answer = gateway.api.append(caller.request(request)).await.map_err(|s| Failure::of(&s, route))?.into_inner();
    let seq = answer.start.map_or(0, |position| position.seq_num);
    Ok(json::bytes_response(StatusCode::OK, format!(r#"{{"ok":true,"seq":{seq}}}"#)))
}

/// The caller's own name for the record. Header values are bytes; what is not UTF-8 is read as Latin-1, as it was meant.
fn part_id(headers: &HeaderMap) -> Option<String> {
    let bytes = headers.get("x-part-id")?.as_bytes();
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|byte| char::from(*byte)).collect(),
    };
    (!text.is_empty()).then_some(text)
}

/// `{"data":<text>,"id":<part id>}`. Without a name of the caller's the id is random: readers drop repeats by it, but it
/// promises nothing to the log.
fn envelope(text: &str, part_id: Option<&str>) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + text.len() / 8 + 64);
    out.extend_from_slice(b"{\"data\":");
    json::push_string(&mut out, text);
    out.extend_from_slice(b",\"id\":");
    match part_id {
        Some(id) => json::push_string(&mut out, id),
        None => json::push_string(&mut out, &random_id()),
    }
    out.push(b'}');
    out
}

fn random_id() -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    // Keyed by the operating system's randomness; ids need to differ, not to be secret.
    let random = RandomState::new().hash_one(std::time::Instant::now());
    (0..7).map(|i| char::from(ALPHABET[(random >> (6 * i)) as usize & 63])).collect()
}

/// A stop or a skipped handover ends work; it is no reason to start any.
fn boots(object: Option<&Entries<'_>>) -> bool {
    let kind = object.and_then(|entries| entries.get("kind"));
    !kind.is_some_and(|kind| is_string(kind, "stop") || is_string(kind, "handover-skip"))
}

/// `payload.actionSource: "webhook"` marks a trusted server's delivery. From anybody else it is taken out, from every
/// repetition of the keys, and all the rest stays as it stands. `None` if there is nothing to take out.
fn without_forged_source(record: &Entries<'_>) -> Option<String> {
    let mut found = false;
    let text = record.rewrite(|key, value| {
        let payload = if is_string(key, "payload") { Entries::parse(value.get()) } else { None };
        let clean = payload.map(|payload| {
            payload.rewrite(|key, value| {
                let forged = is_string(key, "actionSource") && is_string(value, "webhook");
                found |= forged;
                (!forged).then(|| value.get().to_owned())
            })
        });
        Some(clean.unwrap_or_else(|| value.get().to_owned()))
    });
    found.then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_envelope_holds_the_text_as_a_string(text in ".*", id in ".+") {
            let bytes = envelope(&text, Some(&id));
            let back: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            prop_assert_eq!(back, serde_json::json!({ "data": text, "id": id }));
        }

        #[test]
        fn nobody_smuggles_a_source_in(escape in any::<bool>(), before in "[a-z]{0,5}", repeated in any::<bool>()) {
            let source = if escape { r#""action\u0053ource":"w\u0065bhook""# } else { r#""actionSource":"webhook""# };
            let again = if repeated { format!(",{source},\"actionSource\":1") } else { String::new() };
            let text = format!(r#"{{"\ud800":0,"{before}":1.0,"payload":{{{source}{again},"z":1}}}}"#);
            let clean = without_forged_source(&Entries::parse(&text).unwrap()).unwrap();
            prop_assert!(!clean.contains("hook"), "{}", clean);
            prop_assert!(clean.contains(r#""z":1"#) && clean.contains("1.0") && clean.contains(r#""\ud800":0"#));
        }
    }

    #[test]
    fn ids_are_short_and_differ() {
        let (a, b) = (random_id(), random_id());
        assert_eq!((a.len(), b.len()), (7, 7));
        assert_ne!(a, b);
        let record: serde_json::Value = serde_json::from_slice(&envelope("x", None)).unwrap();
        assert_eq!(record["id"].as_str().unwrap().len(), 7);
    }

    #[test]
    fn what_boots() {
        let boots = |text: &str| boots(Entries::parse(text).as_ref());
        assert!(
            !boots(r#"{"kind":"stop"}"#)
                && !boots(r#" {"x":1,"kind":"handover-skip"}"#)
                && !boots(r#"{"kind":"\u0073top"}"#)
        );
        for text in
            ["stop", r#"{"kind":"Stop"}"#, r#"{"kind":"stop"} x"#, r#"{"kind":["stop"]}"#, r#"[{"kind":"stop"}]"#, ""]
        {
            assert!(boots(text), "{text}");
        }
    }

    #[test]
    fn honest_records_are_left_alone() {
        for text in [r#"{"payload":{"actionSource":"browser"}}"#, r#"{"actionSource":"webhook"}"#, r#"{"payload":"x"}"#]
        {
            assert!(without_forged_source(&Entries::parse(text).unwrap()).is_none(), "{text}");
        }
        let text = r#"{ "kind" : "message", "payload" : {"a": 1.50 ,"actionSource":"webhook", "b":[ 1 ]} }"#;
        let clean = without_forged_source(&Entries::parse(text).unwrap()).unwrap();
        assert_eq!(clean, r#"{"kind":"message","payload":{"a":1.50,"b":[ 1 ]}}"#);
    }
}
