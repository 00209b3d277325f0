//! A plain HTTP client of the one port: REST calls, and subscriptions frame by frame.

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::time::Duration;
use tokio::net::TcpStream;

/// What happens at once in a correct server. The limit is for a broken one.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), what).await.expect("it did not happen")
}

/// Calls in one caller's name.
#[derive(Clone, Debug)]
pub(crate) struct Rest {
    host: String,
    bearer: Option<String>,
}

impl Rest {
    pub(crate) fn new(url: &str, bearer: Option<&str>) -> Self {
        let host = url.strip_prefix("http://").unwrap().to_owned();
        Self { host, bearer: bearer.map(str::to_owned) }
    }

    /// One exchange on a connection of its own, up to the end of the answer.
    pub(crate) async fn call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let (head, body) = soon(self.send(method, path, headers, body.into())).await.into_parts();
        let body = soon(body.collect()).await.unwrap().to_bytes();
        Answer { status: head.status.as_u16(), headers: head.headers, body }
    }

    /// What the answer begins with; the rest is not waited for.
    pub(crate) async fn status(&self, method: &str, path: &str, body: impl Into<Bytes>) -> u16 {
        soon(self.send(method, path, &[], body.into())).await.status().as_u16()
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, &[], "").await
    }

    pub(crate) async fn post(&self, path: &str, body: impl Into<Bytes>) -> Answer {
        self.call("POST", path, &[], body).await
    }

    /// The answer's head is there; its records come as they come.
    pub(crate) async fn subscribe(&self, path: &str, headers: &[(&str, &str)]) -> Subscription {
        let (head, body) = soon(self.send("GET", path, headers, Bytes::new())).await.into_parts();
        Subscription { status: head.status.as_u16(), headers: head.headers, body, buffered: Vec::new() }
    }

    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Bytes) -> Response<Incoming> {
        let socket = TcpStream::connect(&self.host).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await.unwrap();
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header("host", &self.host);
        if let Some(bearer) = &self.bearer {
            request = request.header("authorization", format!("Bearer {bearer}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        sender.send_request(request.body(Full::new(body)).unwrap()).await.unwrap()
    }
}

/// An answer, read to its end.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{} {}", self.status, self.text()))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// An open stream of events. Dropped, the reader is gone.
pub(crate) struct Subscription {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    body: Incoming,
    buffered: Vec<u8>,
}

/// One frame of it.
#[derive(Debug, Default)]
pub(crate) struct Frame {
    pub(crate) event: String,
    pub(crate) data: String,
}

impl Subscription {
    pub(crate) fn is_settled(&self) -> bool {
        self.headers.get("x-session-settled").is_some_and(|value| value == "true")
    }

    /// The next frame; none once the server has ended the stream.
    pub(crate) async fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(end) = self.buffered.windows(2).position(|w| w == b"\n\n") {
                let block = String::from_utf8(self.buffered.drain(..end + 2).collect()).unwrap();
                return Some(Frame::parse(&block));
            }
            let Some(frame) = soon(self.body.frame()).await else {
                assert!(self.buffered.is_empty(), "the stream ended inside a frame");
                return None;
            };
            if let Ok(data) = frame.unwrap().into_data() {
                self.buffered.extend_from_slice(&data);
            }
        }
    }

    /// The records of the next batch.
    pub(crate) async fn batch(&mut self) -> Vec<Value> {
        loop {
            let frame = self.frame().await.expect("the stream ended");
            if frame.event == "batch" {
                return frame.records();
            }
        }
    }

    /// The next record.
    pub(crate) async fn record(&mut self) -> Value {
        self.batch().await.remove(0)
    }

    /// It has nothing to deliver and is held: it says so with a ping.
    pub(crate) async fn is_held(&mut self) {
        let frame = self.frame().await.expect("the stream ended");
        assert_eq!(frame.event, "ping", "{frame:?}");
    }

    /// All records up to the end, which must be a clean one.
    pub(crate) async fn rest(&mut self) -> Vec<Value> {
        let (mut records, mut last) = (Vec::new(), String::new());
        while let Some(frame) = self.frame().await {
            if frame.event == "batch" {
                records.extend(frame.records());
            }
            last = frame.data;
        }
        assert_eq!(last, "[DONE]");
        records
    }
}

impl Frame {
    fn parse(block: &str) -> Self {
        let mut frame = Self::default();
        for (name, value) in block.lines().filter_map(|line| line.split_once(": ")) {
            match name {
                "event" => frame.event = value.to_owned(),
                "data" => frame.data = value.to_owned(),
                _other => {}
            }
        }
        frame
    }

    fn records(&self) -> Vec<Value> {
        let batch: Value = serde_json::from_str(&self.data).unwrap();
        batch["records"].as_array().unwrap().clone()
    }
}
