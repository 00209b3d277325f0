//! A real node in this process, on a free port and a directory of its own, and clients of it.

pub(crate) mod clickhouse;
pub(crate) mod http;
pub(crate) mod postgres;
pub(crate) mod process;
#[path = "../../support/proxy.rs"]
pub(crate) mod proxy;
pub(crate) mod rest;
pub(crate) mod routes;
pub(crate) mod s3_server;
pub(crate) mod token;
pub(crate) mod worker;

use self::rest::Rest;
use continuo::app::Node;
use continuo::config::{Config, Mode};
use continuo_proto::v1::channel_service_client::ChannelServiceClient;
use continuo_proto::v1::session_service_client::SessionServiceClient;
use continuo_proto::v1::worker_service_client::WorkerServiceClient;
use continuo_proto::v1::*;
use std::path::Path;
use tempfile::TempDir;
use tonic::metadata::MetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};

/// Where the S2 is that all tests share.
pub(crate) fn s2_endpoint() -> String {
    std::env::var("CONTINUO_TEST_S2_ENDPOINT").expect("no S2 to test on; start one with: eval \"$(tests/services up)\"")
}

/// Where the Redis is that all tests share; each has a prefix of its own.
pub(crate) fn redis_url() -> String {
    std::env::var("CONTINUO_TEST_REDIS_URL")
        .expect("no Redis to test on; start one with: eval \"$(tests/services up)\"")
}

/// The dev environment's key in every test.
pub(crate) const KEY: &str = "tr_dev_0123456789abcdefghijklmn";
/// The second environment's.
pub(crate) const OTHER_KEY: &str = "tr_dev_nmlkjihgfedcba9876543210";

/// The admin key in every test.
pub(crate) const ADMIN_KEY: &str = "tr_pat_0123456789abcdefghijklmnopqrstuvwxyz0123";

/// A node that stops with the test.
pub(crate) struct TestNode {
    pub(crate) node: Option<Node>,
    pub(crate) url: String,
    dir: TempDir,
}

impl TestNode {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let node = Node::start(config(dir.path(), change)).await.unwrap();
        Self { url: node.url().to_owned(), node: Some(node), dir }
    }

    /// What the operator of a node with these settings is told, which does not start.
    pub(crate) async fn refused(change: impl FnOnce(&mut Config)) -> String {
        let dir = tempfile::tempdir().unwrap();
        let refused = Node::start(config(dir.path(), change)).await.err().expect("it started");
        format!("{refused:#}")
    }

    /// Stops the node in good order and starts it again on the same directory.
    pub(crate) async fn restart(&mut self) {
        self.restart_after(async |_| {}).await;
    }

    /// As `restart`, and in between the data directory may be changed by hand.
    pub(crate) async fn restart_after(&mut self, change: impl AsyncFnOnce(&Path)) {
        self.node.take().unwrap().stop().await.unwrap();
        change(self.dir.path()).await;
        let node = Node::start(config(self.dir.path(), |_| {})).await.unwrap();
        (self.url, self.node) = (node.url().to_owned(), Some(node));
    }

    /// As `restart_after`, for a node that does not start again: what its operator is told.
    pub(crate) async fn refused_after(&mut self, change: impl AsyncFnOnce(&Path)) -> String {
        self.node.take().unwrap().stop().await.unwrap();
        change(self.dir.path()).await;
        let refused = Node::start(config(self.dir.path(), |_| {})).await.err().expect("it started");
        format!("{refused:#}")
    }

    /// The data directory.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(&self.url, KEY).await
    }

    /// A REST client with the key.
    pub(crate) fn rest(&self) -> Rest {
        self.rest_as(KEY)
    }

    pub(crate) fn rest_as(&self, bearer: &str) -> Rest {
        Rest::new(&self.url, Some(bearer))
    }

    pub(crate) async fn client_with(&self, bearer: &str) -> Client {
        Client::connect(&self.url, bearer).await
    }
}

fn config(dir: &Path, change: impl FnOnce(&mut Config)) -> Config {
    let mut config = Config::defaults(Mode::Serve);
    config.data_dir = dir.to_owned();
    config.listen = "127.0.0.1:0".parse().unwrap();
    config.keys.dev_secret_key = Some(KEY.to_owned().into());
    config.keys.dev_secret_key_2 = Some(OTHER_KEY.to_owned().into());
    change(&mut config);
    config
}

/// Adds the bearer to every call.
#[derive(Clone)]
pub(crate) struct Bearer(MetadataValue<tonic::metadata::Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

type Via = InterceptedService<Channel, Bearer>;

/// All services over one connection.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) sessions: SessionServiceClient<Via>,
    pub(crate) channels: ChannelServiceClient<Via>,
    pub(crate) workers: WorkerServiceClient<Via>,
}

impl Client {
    pub(crate) async fn connect(url: &str, bearer: &str) -> Self {
        Self::over(Channel::from_shared(url.to_owned()).unwrap().connect().await.unwrap(), bearer)
    }

    pub(crate) fn over(channel: Channel, bearer: &str) -> Self {
        let via = InterceptedService::new(channel, Bearer(format!("Bearer {bearer}").parse().unwrap()));
        Self {
            sessions: SessionServiceClient::new(via.clone()),
            channels: ChannelServiceClient::new(via.clone()),
            workers: WorkerServiceClient::new(via),
        }
    }

    /// Creates a session of task `task`, with or without a name.
    pub(crate) async fn create(&self, external_id: Option<&str>) -> CreateSessionResponse {
        self.sessions.clone().create_session(create_request(external_id)).await.unwrap().into_inner()
    }

    /// Appends a record and returns its number.
    pub(crate) async fn append(&self, session: &str, direction: Direction, body: &str) -> Result<u64, Status> {
        let appended = self.channels.clone().append(append_request(session, direction, body)).await?.into_inner();
        Ok(appended.start.unwrap().seq_num)
    }

    /// Writes one record to the reserved `.out` as it is, and returns its number.
    pub(crate) async fn put_out(&self, session: &str, record: NewRecord) -> u64 {
        let channel = channel(session, Direction::Out);
        let request = AppendRequest { channel, records: vec![record], ..Default::default() };
        self.channels.clone().append(request).await.unwrap().into_inner().start.unwrap().seq_num
    }

    /// Trims the reserved `.out`.
    pub(crate) async fn trim_out(&self, session: &str, before_seq_num: u64) {
        let request = TrimRequest { channel: channel(session, Direction::Out), before_seq_num };
        self.channels.clone().trim(request).await.unwrap();
    }
}

pub(crate) fn create_request(external_id: Option<&str>) -> CreateSessionRequest {
    CreateSessionRequest {
        external_id: external_id.map(Into::into),
        r#type: "chat.agent".into(),
        task_identifier: "task".into(),
        trigger_config: Some(TriggerConfig { base_payload_json: r#"{"chatId":"c"}"#.into(), ..Default::default() }),
        ..Default::default()
    }
}

pub(crate) fn channel(session: &str, direction: Direction) -> Option<ChannelRef> {
    Some(ChannelRef { session: session.into(), name: String::new(), direction: direction.into() })
}

/// A record whose headers are text.
pub(crate) fn record(headers: &[(&'static str, &'static str)], body: &str) -> NewRecord {
    let header = |(name, value): &(&'static str, &'static str)| Header { name: (*name).into(), value: (*value).into() };
    NewRecord { headers: headers.iter().map(header).collect(), body: body.to_owned().into() }
}

pub(crate) fn append_request(session: &str, direction: Direction, body: &str) -> AppendRequest {
    AppendRequest {
        channel: channel(session, direction),
        records: vec![NewRecord { headers: vec![], body: body.to_owned().into() }],
        ..Default::default()
    }
}

/// The machine-readable why of a refusal.
pub(crate) fn reason(status: &Status) -> String {
    use tonic_types::StatusExt;
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}
