//! A server on a loopback connection that a test plays by hand: it sees every Work stream and says what comes down.

use std::net::SocketAddr;
use std::pin::Pin;

use futures_util::Stream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

use crate::v1::channel_service_server::{ChannelService, ChannelServiceServer};
use crate::v1::work_request::Message as FromWorker;
use crate::v1::work_response::Message as ToWorker;
use crate::v1::worker_service_server::{WorkerService, WorkerServiceServer};
use crate::v1::*;

pub(super) type Down<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// One Work stream as the server sees it. Dropping it ends the stream.
pub(super) struct WorkStream {
    pub(super) hello: WorkerHello,
    up: Streaming<WorkRequest>,
    down: mpsc::Sender<Result<WorkResponse, Status>>,
}

impl WorkStream {
    pub(super) async fn say(&self, message: ToWorker) {
        self.down.send(Ok(WorkResponse { message: Some(message) })).await.expect("the worker is gone");
    }

    pub(super) async fn assign(&self, run_id: &str, lease: u64) {
        self.say(ToWorker::Assignment(assignment(run_id, lease))).await;
    }

    pub(super) async fn fail(self, status: Status) {
        let _ = self.down.send(Err(status)).await;
    }

    /// The next message that is no heartbeat.
    pub(super) async fn hear(&mut self) -> Option<FromWorker> {
        loop {
            match self.up.message().await.ok()??.message {
                Some(FromWorker::Heartbeat(_)) => {}
                message => return message,
            }
        }
    }

    /// The leases that the next heartbeat names.
    pub(super) async fn hear_heartbeat(&mut self) -> Vec<LeaseRef> {
        loop {
            let message = self.up.message().await.expect("broken").expect("ended").message;
            if let Some(FromWorker::Heartbeat(heartbeat)) = message {
                return heartbeat.leases;
            }
        }
    }
}

pub(super) fn lease(run_id: &str, lease: u64) -> LeaseRef {
    LeaseRef { run_id: run_id.to_owned(), lease }
}

pub(super) fn assignment(run_id: &str, lease: u64) -> Assignment {
    let run = Run { id: run_id.to_owned(), task_identifier: "task".to_owned(), ..Default::default() };
    let session = Session { id: "session_1".to_owned(), ..Default::default() };
    let run_token = format!("token-{lease}");
    Assignment { run: Some(run), session: Some(session), lease, run_token, attempt_number: 1, ..Default::default() }
}

/// The Produce streams and the token each came with.
pub(super) struct ProduceStream {
    pub(super) authorization: String,
    pub(super) up: Streaming<ProduceRequest>,
    pub(super) down: mpsc::Sender<Result<ProduceResponse, Status>>,
}

pub(super) struct FakeServer {
    pub(super) address: SocketAddr,
    pub(super) work: mpsc::Receiver<WorkStream>,
    pub(super) produce: mpsc::Receiver<ProduceStream>,
    _stop: DropGuard,
}

impl FakeServer {
    pub(super) async fn start() -> Self {
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = incoming.local_addr().unwrap();
        let (work_seen, work) = mpsc::channel(8);
        let (produce_seen, produce) = mpsc::channel(8);
        let stop = CancellationToken::new();
        let services = Services { work_seen, produce_seen };
        let server = Server::builder()
            .add_service(WorkerServiceServer::new(services.clone()))
            .add_service(ChannelServiceServer::new(services))
            .serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned());
        tokio::spawn(server);
        Self { address, work, produce, _stop: stop.drop_guard() }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next worker that connects, welcomed.
    pub(super) async fn welcome(&mut self, lease_ms: u32, heartbeat_ms: u32) -> WorkStream {
        let stream = self.work.recv().await.unwrap();
        stream.say(ToWorker::Welcome(WorkerWelcome { lease_ms, heartbeat_ms })).await;
        stream
    }
}

#[derive(Clone)]
struct Services {
    work_seen: mpsc::Sender<WorkStream>,
    produce_seen: mpsc::Sender<ProduceStream>,
}

fn authorization<T>(request: &Request<T>) -> String {
    request.metadata().get("authorization").map_or("", |value| value.to_str().unwrap()).to_owned()
}

#[tonic::async_trait]
impl WorkerService for Services {
    type WorkStream = Down<WorkResponse>;

    async fn work(&self, request: Request<Streaming<WorkRequest>>) -> Result<Response<Self::WorkStream>, Status> {
        if authorization(&request) != "Bearer secret" {
            return Err(Status::unauthenticated("wrong key"));
        }
        let mut up = request.into_inner();
        let Some(FromWorker::Hello(hello)) = up.message().await?.and_then(|first| first.message) else {
            return Err(Status::invalid_argument("no hello"));
        };
        let (down, answers) = mpsc::channel(64);
        let _ = self.work_seen.send(WorkStream { hello, up, down }).await;
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }

    async fn list_workers(&self, _: Request<ListWorkersRequest>) -> Result<Response<ListWorkersResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

#[tonic::async_trait]
impl ChannelService for Services {
    type ReadStream = Down<ReadResponse>;
    type ListRecordsStream = Down<ListRecordsResponse>;
    type ProduceStream = Down<ProduceResponse>;
    type AttachStream = Down<AttachResponse>;

    async fn produce(
        &self,
        request: Request<Streaming<ProduceRequest>>,
    ) -> Result<Response<Self::ProduceStream>, Status> {
        let authorization = authorization(&request);
        let mut up = request.into_inner();
        up.message().await?;
        let (down, answers) = mpsc::channel(64);
        let _ = self.produce_seen.send(ProduceStream { authorization, up, down }).await;
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }

    async fn initialize_channel(
        &self,
        _: Request<InitializeChannelRequest>,
    ) -> Result<Response<InitializeChannelResponse>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn append(&self, _: Request<AppendRequest>) -> Result<Response<AppendResponse>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn read(&self, _: Request<ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn list_records(&self, _: Request<ListRecordsRequest>) -> Result<Response<Self::ListRecordsStream>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn list_channels(&self, _: Request<ListChannelsRequest>) -> Result<Response<ListChannelsResponse>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn check_tail(&self, _: Request<CheckTailRequest>) -> Result<Response<CheckTailResponse>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn trim(&self, _: Request<TrimRequest>) -> Result<Response<TrimResponse>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn attach(&self, _: Request<Streaming<AttachRequest>>) -> Result<Response<Self::AttachStream>, Status> {
        Err(Status::unimplemented(""))
    }
}
