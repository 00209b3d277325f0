//! `POST …/records` with `s2s/proto`: an append session. Frames with records come in, an acknowledgement goes out for each,
//! in order and as soon as its records are durable; many may be on the way. It lives until the client has ended its request
//! and everything is acknowledged, until an append is refused, or until the node stops; it may be idle for as long as it
//! likes.
//!
//! The request is read as fast as the services take its appends, so what a client sends too much waits in its own socket.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use continuo_proto::{
    Api, in_process,
    v1::{ErrorReason, ProduceOpen, ProduceRequest, ProduceResponse, produce_request},
};
use futures_util::{Stream, StreamExt, stream};
use http::Version;
use http_body_util::BodyExt;
use prost::Message;
use tokio::sync::{Mutex, oneshot};
use tonic::Status;

use super::{
    FRAMES,
    encoding::Undecodable,
    flowing,
    frame::{self, Decoder, Frame, PAYLOAD_BYTES_MAX},
    message::{AppendAck, AppendInput},
    refusal::Refusal,
};
use crate::{Gateway, body::discard_rest, error};

pub(super) async fn session<A: Api>(
    gateway: &Gateway<A>,
    stream: super::Stream,
    version: Version,
    body: Body,
) -> Result<Response, Refusal> {
    // Shared, so that what is left of a refused request can still be read.
    let body = Arc::new(Mutex::new(body));
    let (ended, end) = oneshot::channel();
    let passed_on = Arc::new(AtomicU64::new(0));
    let open = message(produce_request::Message::Open(ProduceOpen { channel: Some(stream.channel) }));
    let inputs =
        Inputs { body: body.clone(), decoder: Decoder::default(), ended: Some(ended), passed_on: passed_on.clone() };
    // A node that stops reads no further: what was passed on is brought to its end.
    let appends = inputs.appends().take_until(gateway.options.stopping.clone().cancelled_owned());
    // The channel is opened with the first append: a refusal then meets a client that waits for an answer to it.
    let mut open = Some(Ok(open));
    let messages = appends.flat_map(move |append| stream::iter(open.take().into_iter().chain([append])));
    let produced = gateway.api.produce(stream.caller.request(in_process::streaming(messages))).await;
    let acks = produced.map_err(|status| Refusal::of(&status))?.into_inner();
    let answer = Answer { acks: Box::pin(acks), end, passed_on, acknowledged: 0 };
    let rest = stream::once(linger(version, body)).filter_map(|()| async { None });
    Ok(flowing(FRAMES, Body::from_stream(answer.frames().chain(rest))))
}

/// In HTTP/1.1 the connection closes with the answer, and a client that is still sending then may never see the last frame.
async fn linger(version: Version, body: Arc<Mutex<Body>>) {
    // Services elsewhere may not have let go of it yet.
    if version < Version::HTTP_2
        && let Ok(mut body) = body.try_lock()
    {
        discard_rest(std::mem::take(&mut *body)).await;
    }
}

/// How the client's side came to its end.
type End = Result<(), Refusal>;

/// The client's side.
struct Inputs {
    body: Arc<Mutex<Body>>,
    decoder: Decoder,
    ended: Option<oneshot::Sender<End>>,
    passed_on: Arc<AtomicU64>,
}

impl Inputs {
    /// The appends, up to the end of the request or to the first thing that is none.
    fn appends(self) -> impl Stream<Item = Result<ProduceRequest, Status>> + Send {
        stream::unfold(self, |mut inputs| async move {
            match inputs.next().await {
                Ok(Some(append)) => {
                    inputs.passed_on.fetch_add(1, Ordering::Relaxed);
                    Some((Ok(message(produce_request::Message::Append(append.into()))), inputs))
                }
                // Appends before it are made all the same; then the client is told.
                end => {
                    let ended = inputs.ended.take()?;
                    // Nobody listens only if the answer is over.
                    let _ = ended.send(end.map(|_| ()));
                    None
                }
            }
        })
    }

    async fn next(&mut self) -> Result<Option<AppendInput>, Refusal> {
        loop {
            if let Some(frame) = self.decoder.next().map_err(bad_frame)? {
                return parse(frame).map(Some);
            }
            match self.body.lock().await.frame().await {
                Some(Ok(frame)) => self.decoder.push(&frame.into_data().unwrap_or_default()),
                None if !self.decoder.is_inside() => return Ok(None),
                None | Some(Err(_)) => return Err(bad_frame("the request ended within a frame")),
            }
        }
    }
}

fn parse(frame: Frame) -> Result<AppendInput, Refusal> {
    let payload = frame.encoding.decode(frame.payload, PAYLOAD_BYTES_MAX).map_err(|problem| match problem {
        Undecodable::TooLarge => bad_frame("the payload of a frame is over 2097151 bytes once it is decompressed"),
        Undecodable::Broken => bad_frame("the payload of a frame cannot be decompressed"),
    })?;
    AppendInput::decode(payload).map_err(|_| Refusal::bad("bad_proto", "The payload of a frame is no AppendInput"))
}

fn bad_frame(problem: &'static str) -> Refusal {
    Refusal::bad("bad_frame", &format!("The stream of frames cannot be read: {problem}"))
}

fn message(message: produce_request::Message) -> ProduceRequest {
    ProduceRequest { message: Some(message) }
}

/// The credential has ended, whether or not anything was asked of the services.
fn is_unauthenticated(status: &Status) -> bool {
    error::reason(status) == ErrorReason::Unauthenticated
}

/// The server's side.
struct Answer<S> {
    acks: S,
    end: oneshot::Receiver<End>,
    passed_on: Arc<AtomicU64>,
    acknowledged: u64,
}

impl<S> Answer<S>
where
    S: Stream<Item = Result<ProduceResponse, Status>> + Send + Unpin,
{
    fn frames(self) -> impl Stream<Item = Result<Bytes, std::convert::Infallible>> + Send {
        stream::unfold(Some(self), |answer| async {
            let mut answer = answer?;
            let last_word = match answer.acks.next().await {
                Some(Ok(ack)) => {
                    answer.acknowledged += 1;
                    let ack = AppendAck::from(ack.ack.unwrap_or_default());
                    return Some((Ok(frame::message(&ack)?), Some(answer)));
                }
                Some(Err(status)) if answer.passed_on() > 0 || is_unauthenticated(&status) => answer.refusal(&status),
                // Nothing was asked of the services, or everything is done.
                Some(Err(_)) | None => match answer.end.try_recv() {
                    Ok(end) => end.err()?,
                    // Nobody ended it but the node.
                    Err(_) => answer.stopping(),
                },
            };
            Some((Ok(last_word.frame()), None))
        })
    }

    fn refusal(&self, status: &Status) -> Refusal {
        match error::reason(status) {
            ErrorReason::ServerStopping => self.stopping(),
            _ => Refusal::of(status),
        }
    }

    fn passed_on(&self) -> u64 {
        self.passed_on.load(Ordering::Relaxed)
    }

    /// Is it sure that whatever was not acknowledged did not happen?
    fn stopping(&self) -> Refusal {
        Refusal::stopping(self.passed_on() == self.acknowledged)
    }
}
