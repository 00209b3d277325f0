//! The connection to the server: one Work stream at a time.

use std::future::{Future, pending};
use std::pin::Pin;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};

use super::context::MESSAGE_BYTES_MAX;
use super::lease::Bearer;
use super::retry::{Backoff, is_transient};
use crate::v1::worker_service_client::WorkerServiceClient;
use crate::v1::{WorkRequest, WorkResponse, WorkerWelcome, work_request, work_response};

/// Messages handed to the connection and not yet written to it.
const OUTBOUND_MAX: usize = 64;
const WELCOME_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) enum LinkEvent {
    /// The server knows the worker.
    Connected(WorkerWelcome, mpsc::Sender<WorkRequest>),
    Message(Box<WorkResponse>),
    /// The stream ended or could not be opened.
    Lost(Status),
}

pub(super) struct Link {
    channel: Channel,
    bearer: Bearer,
    backoff: Backoff,
    state: State,
}

type Connecting = Pin<Box<dyn Future<Output = Result<Connected, Status>> + Send>>;

struct Connected {
    welcome: WorkerWelcome,
    outbound: mpsc::Sender<WorkRequest>,
    inbound: Streaming<WorkResponse>,
}

enum State {
    Idle,
    Connecting(Connecting),
    Up(Box<Streaming<WorkResponse>>),
}

impl Link {
    pub(super) fn new(channel: Channel, bearer: Bearer) -> Self {
        Self { channel, bearer, backoff: Backoff::new(), state: State::Idle }
    }

    /// Begins to connect; `next` tells how it went.
    pub(super) fn connect(&mut self, hello: work_request::Message) {
        self.state = State::Connecting(Box::pin(open(self.channel.clone(), self.bearer.clone(), hello)));
    }

    /// As `connect`, after a wait that grows from try to try.
    pub(super) fn connect_later(&mut self, hello: work_request::Message) {
        let wait = self.backoff.next_wait();
        let open = open(self.channel.clone(), self.bearer.clone(), hello);
        self.state = State::Connecting(Box::pin(async move {
            tokio::time::sleep(wait).await;
            open.await
        }));
    }

    /// What happens next; nothing is lost if the future is dropped.
    pub(super) async fn next(&mut self) -> LinkEvent {
        let lost = match &mut self.state {
            State::Idle => pending().await,
            State::Connecting(connecting) => match connecting.await {
                Ok(connected) => {
                    self.state = State::Up(Box::new(connected.inbound));
                    return LinkEvent::Connected(connected.welcome, connected.outbound);
                }
                Err(status) => status,
            },
            State::Up(inbound) => match inbound.message().await {
                Ok(Some(message)) => {
                    // Only a server that talks is back; one that drops every new stream is still met with longer waits.
                    self.backoff.reset();
                    return LinkEvent::Message(Box::new(message));
                }
                Ok(None) => Status::unavailable("the server ended the stream"),
                Err(status) => status,
            },
        };
        self.state = State::Idle;
        LinkEvent::Lost(lost)
    }
}

async fn open(channel: Channel, bearer: Bearer, hello: work_request::Message) -> Result<Connected, Status> {
    let (outbound, queue) = mpsc::channel(OUTBOUND_MAX);
    let _ = outbound.try_send(WorkRequest { message: Some(hello) });
    let mut request = Request::new(ReceiverStream::new(queue));
    request.metadata_mut().insert("authorization", bearer);
    let mut client = WorkerServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let opening = async {
        let mut inbound = client.work(request).await?.into_inner();
        let first = inbound.message().await?.and_then(|response| response.message);
        match first {
            Some(work_response::Message::Welcome(welcome)) => Ok(Connected { welcome, outbound, inbound }),
            _ => Err(Status::unavailable("the server did not say welcome")),
        }
    };
    let late = |_| Status::unavailable("the server did not answer in time");
    tokio::time::timeout(WELCOME_TIMEOUT, opening).await.map_err(late)?
}

/// Is there no point in coming back with the same key and tasks?
pub(super) fn is_refusal(status: &Status) -> bool {
    let code = matches!(
        status.code(),
        Code::Unauthenticated | Code::PermissionDenied | Code::InvalidArgument | Code::Unimplemented
    );
    code && !is_transient(status)
}
