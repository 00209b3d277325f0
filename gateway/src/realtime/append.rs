//! `POST …/{io}/append`: one record, whose body is the envelope of the raw request text.

use std::hash::{BuildHasher, RandomState};

use axum::{extract::State, response::Response};
use continuo_proto::{
    Api,
    v1::{AppendRequest, NewRecord},
};
use http::{HeaderMap, StatusCode};

use super::append_route;
use crate::{
    Gateway,
    auth::Caller,
    body::{Capped, RECORD_BYTES_MAX},
    error::Failure,
    json,
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

    let record = NewRecord { headers: Vec::new(), body: envelope(text, part_id.as_deref()).into() };
    let request = AppendRequest { channel: Some(channel), records: vec![record], part_id, ..Default::default() };
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
    }

    #[test]
    fn ids_are_short_and_differ() {
        let (a, b) = (random_id(), random_id());
        assert_eq!((a.len(), b.len()), (7, 7));
        assert_ne!(a, b);
        let record: serde_json::Value = serde_json::from_slice(&envelope("x", None)).unwrap();
        assert_eq!(record["id"].as_str().unwrap().len(), 7);
    }
}
