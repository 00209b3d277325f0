//! Produce: appends in, acknowledgements out.

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
use continuo_proto::v1::produce_request::Message;
use continuo_usecases::ChannelTarget;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};
use tracing::Instrument;

impl Services {
    pub(super) fn answer_produce(
        &self,
        caller: Principal,
        inbound: Streaming<v1::ProduceRequest>,
        ended: impl Future<Output = ()> + Send + 'static,
    ) -> Answer<v1::ProduceResponse> {
        let services = self.clone();
        stream::once(async move { services.open_produce(caller, inbound, ended).await }).try_flatten().boxed()
    }

    async fn open_produce(
        self,
        caller: Principal,
        mut inbound: Streaming<v1::ProduceRequest>,
        ended: impl Future<Output = ()> + Send + 'static,
    ) -> Result<Answer<v1::ProduceResponse>, Status> {
        let open = first_message(&mut inbound, self.core.stopping()).await?;
        let target = parse_open(open).map_err(of_error)?;
        let producer = self.core.open_producer(&caller, target).await.map_err(of_error)?;
        let (acks, acked) = mpsc::channel(IN_FLIGHT_MAX);
        let inbound = inbound.map(|message| parse_step(message?).map_err(of_error)).boxed();
        let pump = Pump { core: self.core, caller, producer, inbound, ended: Box::pin(ended), acks };
        let answer = with_last_word(acked, self.tasks.spawn(pump.run().in_current_span()));
        Ok(answer.map_ok(|ack| v1::ProduceResponse { ack: Some(convert::print_appended(ack)) }).boxed())
    }
}

fn parse_open(wire: v1::ProduceRequest) -> Result<ChannelTarget> {
    match wire.message {
        Some(Message::Open(open)) => convert::parse_target(open.channel),
        Some(Message::Append(_)) | None => Err(Violation::new("message", "must be open in the first message").into()),
    }
}

fn parse_step(wire: v1::ProduceRequest) -> Result<Step> {
    match wire.message {
        Some(Message::Append(append)) => convert::parse_stream_append(append).map(Step::Append),
        Some(Message::Open(_)) => Err(Violation::new("message", "may be open only once, first").into()),
        None => Err(Violation::new("message", "is of no kind this server knows").into()),
    }
}
