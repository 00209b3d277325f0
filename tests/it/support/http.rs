//! HTTP/1.1 by hand: what a test says goes out as it is, also what no client library would send.

use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// Nothing a server is asked here takes so long; a test that waits for more has found something.
const PATIENCE: Duration = Duration::from_secs(60);

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// With the query.
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) body: Body,
}

/// How the body travels.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    /// With its length.
    Sized(Vec<u8>),
    /// In these pieces.
    Chunked(Vec<Vec<u8>>),
    /// The framing is among the headers, if anywhere.
    Bare(Vec<u8>),
}

impl Request {
    pub(crate) fn new(method: &str, path: &str) -> Self {
        let body = Body::Sized(Vec::new());
        Self { method: method.to_owned(), path: path.to_owned(), headers: Vec::new(), body }
    }

    pub(crate) fn bearer(self, token: &str) -> Self {
        self.header("Authorization", format!("Bearer {token}"))
    }

    pub(crate) fn header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Body::Sized(body.into());
        self
    }

    pub(crate) fn chunked(mut self, pieces: Vec<Vec<u8>>) -> Self {
        self.body = Body::Chunked(pieces);
        self
    }

    pub(crate) fn bare(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Body::Bare(body.into());
        self
    }

    /// As it stands on the wire, on a connection of its own.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = format!("{} {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n", self.method, self.path);
        if let Body::Sized(body) = &self.body {
            out.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        if let Body::Chunked(_) = &self.body {
            out.push_str("Transfer-Encoding: chunked\r\n");
        }
        let mut out = out.into_bytes();
        for (name, value) in &self.headers {
            out.extend_from_slice(&[name.as_bytes(), b": ", value, b"\r\n"].concat());
        }
        out.extend_from_slice(b"\r\n");
        match &self.body {
            Body::Sized(body) | Body::Bare(body) => out.extend_from_slice(body),
            Body::Chunked(pieces) => {
                for piece in pieces {
                    out.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                    out.extend_from_slice(&[piece, &b"\r\n"[..]].concat());
                }
                out.extend_from_slice(b"0\r\n\r\n");
            }
        }
        out
    }

    /// The answer of the server at this URL.
    pub(crate) async fn send(&self, url: &str) -> Answer {
        let answer = exchange(url, self.bytes(), self.method == "HEAD", Take::Whole).await;
        answer.unwrap_or_else(|| panic!("{} {} was not answered", self.method, self.path))
    }
}

/// How much of an event stream to read: it may never end by itself.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Take {
    Whole,
    Head,
}

/// An answer, taken apart.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// The connection broke off before the announced end.
    pub(crate) cut: bool,
}

impl Answer {
    /// The value of a header, by its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{}: {}", self.status, self.text()))
    }

    /// What an SDK is told about trying again.
    pub(crate) fn retry(&self) -> Option<&str> {
        self.header("x-should-retry")
    }
}

/// Sends the bytes on a connection of their own. `None` if it was closed without an answer.
pub(crate) async fn exchange(url: &str, bytes: Vec<u8>, is_head: bool, take: Take) -> Option<Answer> {
    let address = url.strip_prefix("http://").unwrap();
    let (reader, mut writer) = TcpStream::connect(address).await.unwrap().into_split();
    // A refused body may never be taken whole.
    let sending = tokio::spawn(async move {
        let _ = writer.write_all(&bytes).await;
        writer
    });
    let mut reader = BufReader::new(reader);
    let answer = tokio::time::timeout(PATIENCE, read_answer(&mut reader, is_head, take)).await;
    sending.abort();
    answer.expect("answered in time")
}

/// Sends the bytes, says that there are no more, and takes what answer comes.
pub(crate) async fn hang_up(url: &str, bytes: &[u8], is_head: bool) -> Option<Answer> {
    let mut socket = TcpStream::connect(url.strip_prefix("http://").unwrap()).await.unwrap();
    // The server may have closed by then.
    let _ = socket.write_all(bytes).await;
    let _ = socket.shutdown().await;
    let mut reader = BufReader::new(socket);
    let answer = tokio::time::timeout(PATIENCE, read_answer(&mut reader, is_head, Take::Head)).await;
    answer.expect("the connection ends in time")
}

/// One answer. `None` if there is none.
pub(crate) async fn read_answer(
    reader: &mut (impl AsyncBufReadExt + Unpin),
    is_head: bool,
    take: Take,
) -> Option<Answer> {
    let status: u16 = line(reader).await?.split(' ').nth(1)?.parse().ok()?;
    let mut headers = Vec::new();
    while let Some((name, value)) = line(reader).await?.split_once(": ") {
        headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    if status == 100 {
        return Box::pin(read_answer(reader, is_head, take)).await;
    }
    let mut answer = Answer { status, headers, body: Vec::new(), cut: false };
    let is_stream = answer.header("content-type").is_some_and(|t| t == "text/event-stream");
    if is_head || matches!(status, 204 | 304) || (is_stream && take == Take::Head) {
        return Some(answer);
    }
    answer.cut = read_body(reader, &mut answer).await.is_none();
    Some(answer)
}

/// `None` if it ends early.
async fn read_body(reader: &mut (impl AsyncBufReadExt + Unpin), answer: &mut Answer) -> Option<()> {
    if answer.header("transfer-encoding") == Some("chunked") {
        loop {
            let n = usize::from_str_radix(&line(reader).await?, 16).ok()?;
            take(reader, n, &mut answer.body).await?;
            line(reader).await?;
            if n == 0 {
                return Some(());
            }
        }
    }
    match answer.header("content-length").map(|n| n.parse().unwrap()) {
        Some(n) => take(reader, n, &mut answer.body).await,
        None => reader.read_to_end(&mut answer.body).await.ok().map(drop),
    }
}

async fn take(reader: &mut (impl AsyncRead + Unpin), n: usize, into: &mut Vec<u8>) -> Option<()> {
    let from = into.len();
    into.resize(from + n, 0);
    reader.read_exact(&mut into[from..]).await.ok().map(drop)
}

async fn line(reader: &mut (impl AsyncBufReadExt + Unpin)) -> Option<String> {
    let mut bytes = Vec::new();
    reader.read_until(b'\n', &mut bytes).await.ok()?;
    let text = bytes.strip_suffix(b"\r\n")?;
    Some(String::from_utf8_lossy(text).into_owned())
}
