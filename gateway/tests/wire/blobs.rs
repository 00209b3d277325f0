//! Signed URLs, the bytes behind them, and the transcript.

use axum::body::Body;
use bytes::Bytes;
use continuo_gateway::Options;
use continuo_proto::v1::{blob_target::Target, *};
use futures_util::stream;
use http::Request;
use serde_json::{Value, json};
use tonic::{Code, Status};

use crate::{
    common::{Answer, call, call_with, gateway, request, send},
    peer::{Peer, status, violations},
};

const TOO_LARGE: (&str, Code) = ("BLOB_TOO_LARGE", Code::InvalidArgument);

fn error(text: &str) -> Value {
    json!({ "error": text })
}

/// A request as the holder of a URL sends it: without any other credential.
async fn bare(peer: &Peer, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    send(gateway(peer, Options::default()), request.body(body.into()).unwrap()).await
}

fn target(target: Target) -> Option<BlobTarget> {
    Some(BlobTarget { target: Some(target) })
}

#[tokio::test]
async fn snapshot_urls_are_absolute_and_ask_for_their_session() {
    let peer = Peer::public();
    peer.answer(PresignPutResponse { url_path: "/blobs/put".into(), ..Default::default() });
    peer.answer(PresignGetResponse { url_path: "/blobs/get".into(), ..Default::default() });
    let url = "/api/v1/sessions/a%2Fb/snapshot-url";
    let put = call_with(&peer, "PUT", url, &[("host", "chat.example:8080")], "").await;
    assert_eq!((put.status, put.json()), (200, json!({ "presignedUrl": "http://chat.example:8080/blobs/put" })));
    let get = call_with(&peer, "GET", url, &[("host", "chat.example:8080")], "").await;
    assert_eq!(get.json(), json!({ "presignedUrl": "http://chat.example:8080/blobs/get" }));
    assert_eq!(peer.the::<PresignPutRequest>().target, target(Target::Session("a/b".into())));
    assert_eq!(peer.the::<PresignGetRequest>().target, target(Target::Session("a/b".into())));

    let over_tls = Options { is_tls: true, ..Options::default() };
    let host = [("host", "chat.example")];
    let secure = send(gateway(&peer, over_tls), request("GET", url, &host, "")).await;
    assert_eq!(secure.json(), json!({ "presignedUrl": "https://chat.example/blobs/get" }));

    let known = Options { public_base_url: Some("https://c.example/".into()), ..Options::default() };
    let told = send(gateway(&peer, known), request("GET", url, &[("host", "inside")], "")).await;
    assert_eq!(told.json(), json!({ "presignedUrl": "https://c.example/blobs/get" }));
}

#[tokio::test]
async fn snapshot_urls_are_refused_as_other_reads_and_writes_are() {
    let url = "/api/v1/sessions/s/snapshot-url";
    let refused = async |method: &str, reason: &str, code: Code| {
        let peer = Peer::public();
        peer.refuse(status(reason, code, "said", &[]));
        call(&peer, method, url, "").await
    };
    let missing = refused("GET", "SESSION_NOT_FOUND", Code::NotFound).await;
    assert_eq!((missing.status, missing.json()), (404, error("Not found")));
    assert_eq!(missing.header("x-should-retry"), Some("false"));
    let missing = refused("PUT", "SESSION_NOT_FOUND", Code::NotFound).await;
    assert_eq!((missing.status, missing.json()), (404, error("Resource not found")));
    assert_eq!(refused("PUT", "PERMISSION_DENIED", Code::PermissionDenied).await.status, 403);
    let failed = refused("PUT", "BACKEND_UNAVAILABLE", Code::Unavailable).await;
    assert_eq!((failed.status, failed.json()), (500, error("Failed to generate presigned URL: said")));
    let peer = Peer::public();
    peer.refuse(violations(&[("target.session", "is wrong")]));
    let wrong = call(&peer, "PUT", url, "").await.json();
    assert_eq!((&wrong["error"], &wrong["details"][0]["path"]), (&json!("Params Error"), &json!(["session"])));
}

#[tokio::test]
async fn packets_keep_their_path() {
    let peer = Peer::key();
    let storage_path = Some("run_1/a b.json".to_owned());
    peer.answer(PresignPutResponse {
        url_path: "/blobs/p".into(),
        storage_path: storage_path.clone(),
        expires_at: None,
    });
    peer.answer(PresignGetResponse { url_path: "/blobs/g".into(), storage_path, expires_at: None });
    for (method, path) in [("PUT", "/api/v2/packets/run_1/a%20b.json"), ("GET", "/api/v1/packets/run_1/a%20b.json")] {
        let answer = call_with(&peer, method, path, &[("host", "h")], "").await.json();
        let letter = method.to_lowercase().remove(0);
        let expected = json!({ "presignedUrl": format!("http://h/blobs/{letter}"), "storagePath": "run_1/a b.json" });
        assert_eq!(answer, expected);
    }
    assert_eq!(peer.the::<PresignPutRequest>().target, target(Target::Packet("run_1/a b.json".into())));
    assert_eq!(peer.the::<PresignGetRequest>().target, target(Target::Packet("run_1/a b.json".into())));
    assert_eq!(call(&peer, "PUT", "/api/v1/packets/a", "").await.status, 405);
    assert_eq!(call(&peer, "PUT", "/api/v2/packets/a%zz", "").await.json()["error"], "Params Error");
}

#[tokio::test]
async fn a_blob_is_put_in_parts() {
    let peer = Peer::default();
    let large = "x".repeat(700_000);
    let answer = bare(&peer, "PUT", "/blobs/tr_blob_a.b", &[("content-type", "text/plain")], large.clone()).await;
    assert_eq!((answer.status, answer.text()), (200, ""));
    assert_eq!(peer.authorizations(), ["Bearer tr_blob_a.b"]);
    let parts = peer.the::<Vec<PutBlobRequest>>();
    assert_eq!((parts[0].content_type.as_str(), parts[0].size_bytes), ("text/plain", None));
    assert!(parts.len() > 3 && parts.iter().all(|part| part.chunk.len() <= 256 << 10));
    let (last, rest) = parts.split_last().unwrap();
    assert!(last.last && rest.iter().all(|part| !part.last));
    assert_eq!(parts.iter().flat_map(|part| part.chunk.to_vec()).collect::<Vec<_>>(), large.into_bytes());

    let said = bare(&Peer::default(), "PUT", "/blobs/t", &[("content-length", "0")], "").await;
    assert_eq!(said.status, 200);
}

#[tokio::test]
async fn a_blob_that_is_cut_has_no_last_part() {
    let peer = Peer::default();
    let cut = stream::iter([Ok(Bytes::from_static(b"half")), Err(std::io::Error::other("gone"))]);
    let answer = bare(&peer, "PUT", "/blobs/t", &[], Body::from_stream(cut)).await;
    assert_ne!(answer.status, 200);
    assert!(peer.the::<Vec<PutBlobRequest>>().iter().all(|part| !part.last));
}

#[tokio::test]
async fn a_blob_comes_back_as_it_was_and_is_nothing_to_a_browser() {
    let peer = Peer::default();
    let part = |chunk: &'static str| Ok(GetBlobResponse { chunk: chunk.into(), ..Default::default() });
    let first = GetBlobResponse { content_type: "text/html".into(), size_bytes: 6, chunk: Bytes::new() };
    peer.blob(vec![Ok(first), part("abc"), part("def")]);
    let answer = bare(&peer, "GET", "/blobs/t.t", &[("origin", "https://a")], "").await;
    assert_eq!((answer.status, answer.text()), (200, "abcdef"));
    for (name, value) in [
        ("content-type", "text/html"),
        ("content-length", "6"),
        ("cache-control", "private, no-store"),
        ("content-security-policy", "sandbox; default-src 'none'"),
        ("x-content-type-options", "nosniff"),
        ("access-control-allow-origin", "https://a"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{name}");
    }
    assert_eq!(peer.authorizations(), ["Bearer t.t"]);
}

#[tokio::test]
async fn blobs_are_refused_as_by_a_store() {
    let refused = async |method: &str, refusal: Status| {
        let peer = Peer::default();
        peer.refuse(refusal);
        let answer = bare(&peer, method, "/blobs/t", &[], if method == "PUT" { "x" } else { "" }).await;
        (answer.status, answer.json())
    };
    let denied = || error("The URL is invalid or has expired");
    for method in ["PUT", "GET"] {
        for (reason, code) in
            [("UNAUTHENTICATED", Code::Unauthenticated), ("PERMISSION_DENIED", Code::PermissionDenied)]
        {
            assert_eq!(refused(method, status(reason, code, "said", &[])).await, (403, denied()), "{method}");
        }
    }
    let none = status("BLOB_NOT_FOUND", Code::NotFound, "Blob not found", &[]);
    assert_eq!(refused("GET", none).await, (404, error("Not found")));
    let large = status(TOO_LARGE.0, TOO_LARGE.1, "said", &[("limit_bytes", "1")]);
    assert_eq!(refused("PUT", large).await, (413, error("Request body too large")));
    let gone = status("SESSION_NOT_FOUND", Code::NotFound, "Session not found", &[]);
    assert_eq!(refused("PUT", gone).await, (404, error("Not found")));
    assert_eq!(bare(&Peer::default(), "POST", "/blobs/t", &[], "").await.status, 405);
}

#[tokio::test]
async fn a_transcript_is_printed_verbatim() {
    let peer = Peer::key();
    peer.answer(GetTranscriptResponse {
        messages_json: vec![r#"{"id":"m1","n":1.0}"#.into(), r#"{"id":"m2", "b":1,"a":2}"#.into()],
        last_out_event_id: Some("7".into()),
        last_in_event_id: None,
        next_cursor: Some("m1".into()),
    });
    let answer = call(&peer, "GET", "/api/v1/sessions/chat%201/transcript?limit=2&before=m%203", "").await;
    assert_eq!(
        answer.text(),
        r#"{"messages":[{"id":"m1","n":1.0},{"id":"m2", "b":1,"a":2}],"state":null,"cursors":{"lastOutEventId":"7"},"nextCursor":"m1"}"#
    );
    let asked = peer.the::<GetTranscriptRequest>();
    assert_eq!((asked.session.as_str(), asked.limit, asked.before()), ("chat 1", Some(2), "m 3"));

    let empty = call(&Peer::key(), "GET", "/api/v1/sessions/s/transcript", "").await;
    assert_eq!(empty.text(), r#"{"messages":[],"state":null}"#);
}

#[tokio::test]
async fn transcripts_that_cannot_be_had() {
    let path = "/api/v1/sessions/s/transcript";
    for (reason, code) in [
        ("TRANSCRIPT_UNREADABLE", Code::FailedPrecondition),
        ("BACKEND_UNAVAILABLE", Code::Unavailable),
        ("DATA_LOSS", Code::DataLoss),
        ("INTERNAL", Code::Internal),
    ] {
        let peer = Peer::key();
        peer.refuse(status(reason, code, "said", &[]));
        let answer = call(&peer, "GET", path, "").await;
        assert_eq!((answer.status, answer.json()), (502, error("Failed to read transcript")), "{reason}");
    }
    let peer = Peer::key();
    peer.refuse(status("SESSION_NOT_FOUND", Code::NotFound, "Session not found", &[]));
    let missing = call(&peer, "GET", path, "").await;
    assert_eq!((missing.status, missing.json()), (404, error("Not found")));
    for (query, field) in [("limit=x", "limit"), ("limit=1.5", "limit"), ("limit=", "limit")] {
        let wrong = call(&Peer::key(), "GET", &format!("{path}?{query}"), "").await;
        assert_eq!((wrong.status, &wrong.json()["details"][0]["path"]), (400, &json!([field])), "{query}");
    }
    for field in ["limit", "before"] {
        let peer = Peer::key();
        peer.refuse(violations(&[(field, "is wrong")]));
        let wrong = call(&peer, "GET", path, "").await.json();
        assert_eq!((&wrong["error"], &wrong["details"][0]["path"]), (&json!("Query Error"), &json!([field])));
    }
}
