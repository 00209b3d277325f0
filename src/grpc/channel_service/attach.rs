//! Attach: Produce on the caller's side and Read on the other, as one stream.

use super::pump::{IN_FLIGHT_MAX, Pump, Step};
use crate::Services;
use crate::convert::channel as convert;
use crate::first_message::first_message;
use crate::last_word::with_last_word;
use crate::services::Answer;
use crate::status::of_error;
use continuo_domain::principal::Principal;
use continuo_domain::{Result, Violation};
use continuo_proto::v1;
use continuo_proto::v1::attach_request::Message;
use continuo_proto::v1::attach_response::Message as Out;
use continuo_proto::v1::read_response::Event;
use continuo_usecases::{Attach, ReadMessage};
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};
use tracing::Instrument;

type Side = BoxStream<'static, Result<Out, Status>>;

impl Services {
    pub(super) fn answer_attach(
        &self,
        caller: Principal,
        inbound: Streaming<v1::AttachRequest>,
        ended: impl Future<Output = ()> + Send + 'static,
    ) -> Answer<v1::AttachResponse> {
        let services = self.clone();
        stream::once(async move { services.open_attach(caller, inbound, ended).await }).try_flatten().boxed()
    }

    async fn open_attach(
        self,
        caller: Principal,
        mut inbound: Streaming<v1::AttachRequest>,
        ended: impl Future<Output = ()> + Send + 'static,
    ) -> Result<Answer<v1::AttachResponse>, Status> {
        let open = first_message(&mut inbound, self.core.stopping()).await?;
        let attach = parse_open(open).map_err(of_error)?;
        let counts_reads = attach.name.is_none();
        let attached = self.core.attach(&caller, attach).await.map_err(of_error)?;
        let (acks, acked) = mpsc::channel(IN_FLIGHT_MAX);
        let inbound = inbound.map(|message| parse_step(message?).map_err(of_error));
        // A read position is one of the reserved pair.
        let inbound =
            inbound.try_filter(move |step| std::future::ready(counts_reads || matches!(step, Step::Append(_))));
        let producer = attached.producer;
        let (inbound, ended) = (inbound.boxed(), Box::pin(ended));
        let pump = Pump { core: self.core, caller, producer, inbound, ended, acks };
        let acked = with_last_word(acked, self.tasks.spawn(pump.run().in_current_span()));
        let acked = acked.map_ok(|ack| Out::Ack(convert::print_appended(ack))).boxed();
        Ok(merge(acked, attached.read.events.map(print).boxed()))
    }
}

/// Both sides as they come. The stream ends with the caller's own side, or with the first error of either.
fn merge(acked: Side, events: Side) -> Answer<v1::AttachResponse> {
    let next = |sides: Option<(Side, Side)>| async {
        let (mut acked, mut events) = sides?;
        let message = tokio::select! {
            message = acked.next() => message?,
            message = events.next() => message?,
        };
        let goes_on = message.is_ok().then_some((acked, events));
        Some((message.map(|message| v1::AttachResponse { message: Some(message) }), goes_on))
    };
    stream::unfold(Some((acked, events)), next).boxed()
}

fn print(message: Result<ReadMessage>) -> Result<Out, Status> {
    Ok(match convert::print_event(message.map_err(of_error)?) {
        Event::Batch(batch) => Out::Batch(batch),
        Event::Heartbeat(heartbeat) => Out::Heartbeat(heartbeat),
        Event::Gap(gap) => Out::Gap(gap),
        // Never asked for here; the tail it carries is what a heartbeat says.
        Event::Settled(settled) => Out::Heartbeat(v1::Heartbeat { timestamp_ms: 0, tail: settled.tail }),
    })
}

fn parse_open(wire: v1::AttachRequest) -> Result<Attach> {
    match wire.message {
        Some(Message::Open(open)) => convert::parse_attach(open),
        Some(Message::Append(_) | Message::ReadSeqNum(_)) | None => {
            Err(Violation::new("message", "must be open in the first message").into())
        }
    }
}

fn parse_step(wire: v1::AttachRequest) -> Result<Step> {
    match wire.message {
        Some(Message::Append(append)) => convert::parse_stream_append(append).map(Step::Append),
        Some(Message::ReadSeqNum(seq_num)) => Ok(Step::Read(seq_num)),
        Some(Message::Open(_)) => Err(Violation::new("message", "may be open only once, first").into()),
        None => Err(Violation::new("message", "is of no kind this server knows").into()),
    }
}
