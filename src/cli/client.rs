//! The command line as a client of the public gRPC API.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use continuo_proto::v1::admin_service_client::AdminServiceClient;
use continuo_proto::v1::channel_service_client::ChannelServiceClient;
use continuo_proto::v1::run_service_client::RunServiceClient;
use continuo_proto::v1::session_service_client::SessionServiceClient;
use continuo_proto::v1::token_service_client::TokenServiceClient;
use continuo_proto::v1::worker_service_client::WorkerServiceClient;
use continuo_proto::with_tls;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use super::failure::Usage;
use super::trust::{self, Trust};
use crate::config::{Config, Mode, Secret};

const DEFAULT_URL: &str = "http://127.0.0.1:8080";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A server that is gone without a word is noticed within the sum of both.
const PING_EVERY: Duration = Duration::from_secs(15);
const PING_TIMEOUT: Duration = Duration::from_secs(5);
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// Where the server is.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Server")]
pub(super) struct ServerAddress {
    /// Where the server is.
    #[arg(long, env = "CONTINUO_URL", default_value = DEFAULT_URL, value_name = "URL")]
    pub(super) url: String,
    #[command(flatten)]
    trust: Trust,
    /// The server's data directory, if it is on this machine: its keys are used where none is given (as `serve` if left
    /// out)
    #[arg(long, env = "CONTINUO_DATA_DIR", value_name = "DIRECTORY")]
    pub(super) data_dir: Option<PathBuf>,
}

/// Where the server is, and who is calling.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Server")]
pub(super) struct ClientArgs {
    #[command(flatten)]
    pub(super) server: ServerAddress,
    /// Secret key, or a token; read from `dev.key` in the data directory if not given.
    #[arg(long, env = "CONTINUO_SECRET_KEY", hide_env_values = true, value_name = "KEY")]
    key: Option<Secret>,
}

/// As `ClientArgs`, for the AdminService.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Server")]
pub(super) struct AdminArgs {
    #[command(flatten)]
    server: ServerAddress,
    /// Admin key; read from `admin.key` in the data directory if not given.
    #[arg(long, env = "CONTINUO_ADMIN_KEY", hide_env_values = true, value_name = "KEY")]
    admin_key: Option<Secret>,
}

impl ClientArgs {
    pub(super) fn connect(&self) -> anyhow::Result<Client> {
        let key = self.server.key(self.key.as_ref(), "dev.key", "--key or CONTINUO_SECRET_KEY")?;
        self.server.connect(key.expose())
    }
}

impl AdminArgs {
    pub(super) fn connect(&self) -> anyhow::Result<Client> {
        let key = self.server.key(self.admin_key.as_ref(), "admin.key", "--admin-key or CONTINUO_ADMIN_KEY")?;
        self.server.connect(key.expose())
    }
}

impl ServerAddress {
    pub(super) fn connect(&self, key: &str) -> anyhow::Result<Client> {
        Client::new(&self.url, self.trust.read()?.as_deref(), key)
    }

    fn key(&self, given: Option<&Secret>, file: &str, how: &str) -> anyhow::Result<Secret> {
        if let Some(key) = given.filter(|key| !key.expose().is_empty()) {
            return Ok(key.clone());
        }
        let directory = self.data_dir.clone().unwrap_or_else(|| Config::defaults(Mode::Serve).data_dir);
        let path = directory.join(file);
        if !path.exists() {
            return Err(Usage(format!("no key: give one with {how} ({} is not there)", path.display())).into());
        }
        read_key(&path)
    }
}

fn read_key(path: &Path) -> anyhow::Result<Secret> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Secret::from(text.trim().to_owned()))
}

type Authorized = InterceptedService<Channel, Bearer>;

/// Puts the key on every call.
#[derive(Clone)]
pub(super) struct Bearer(MetadataValue<Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// Clients of the services over one connection, which is made with the first call.
#[derive(Clone)]
pub(super) struct Client {
    service: Authorized,
}

impl Client {
    fn new(url: &str, ca_pem: Option<&str>, key: &str) -> anyhow::Result<Self> {
        let wrong_url = || Usage(format!("{url} is not a URL such as {DEFAULT_URL}"));
        let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|_| wrong_url())?;
        let channel = with_tls(endpoint, ca_pem)
            .map_err(|_| trust::nobody())?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIMEOUT)
            .connect_lazy();
        let wrong_key = || Usage("the key holds characters that no key has".to_owned());
        let mut bearer = MetadataValue::try_from(format!("Bearer {key}")).map_err(|_| wrong_key())?;
        bearer.set_sensitive(true);
        Ok(Self { service: InterceptedService::new(channel, Bearer(bearer)) })
    }

    pub(super) fn sessions(&self) -> SessionServiceClient<Authorized> {
        SessionServiceClient::new(self.service.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub(super) fn channels(&self) -> ChannelServiceClient<Authorized> {
        ChannelServiceClient::new(self.service.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub(super) fn runs(&self) -> RunServiceClient<Authorized> {
        RunServiceClient::new(self.service.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub(super) fn workers(&self) -> WorkerServiceClient<Authorized> {
        WorkerServiceClient::new(self.service.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub(super) fn tokens(&self) -> TokenServiceClient<Authorized> {
        TokenServiceClient::new(self.service.clone())
    }

    pub(super) fn admin(&self) -> AdminServiceClient<Authorized> {
        AdminServiceClient::new(self.service.clone())
    }
}
