//! The way to ClickHouse.

use crate::error::failed;
use clickhouse::Client;
use continuo_domain::{Result, Violation};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use std::time::Duration;

/// Below the 3 s after which a server closes an idle connection, as it is set up by default.
const IDLE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a connection to the server may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where ClickHouse is.
#[derive(Clone)]
pub struct Options {
    /// `http://user:password@host:8123` or `https://…`. Holds a secret.
    pub url: String,
    /// The database of the table.
    pub database: String,
}

/// A handle on one database of a server. Cloning it is cheap; it connects when it is used.
#[derive(Clone)]
pub struct ClickHouse {
    pub(crate) client: Client,
    pub(crate) database: String,
}

impl ClickHouse {
    /// Reads the options; talks to nobody yet. Fails with the field where the URL is none.
    pub fn new(options: &Options) -> Result<Self> {
        let url = Url::parse(&options.url)?;
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        // Without it every small insert waits for the acknowledgement of the packet before.
        connector.set_nodelay(true);
        connector.set_keepalive(Some(Duration::from_secs(60)));
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_native_roots()
            .map_err(|error| Violation::new("clickhouse.url", format!("needs trusted roots of this machine: {error}")))?
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        let http = HttpClient::builder(TokioExecutor::new()).pool_idle_timeout(IDLE_TIMEOUT).build(connector);
        let client = Client::with_http_client(http)
            .with_url(url.server)
            .with_user(url.user)
            .with_password(url.password)
            // An insert is acknowledged when it is stored, and our batches are large already.
            .with_setting("async_insert", "0")
            .with_setting("input_format_binary_read_json_as_string", "1")
            .with_setting("output_format_binary_write_json_as_string", "1")
            // The client library names the type of metadata without its parameters. It compares types itself, before it sends.
            .with_setting("input_format_with_types_use_header", "0")
            // What a client wrote stays what it wrote: text that reads like a date is text, and a name that comes twice, which
            // is how the type sees `{"a.b": 1, "a": {"b": 2}}` too, does not refuse the row.
            .with_setting("input_format_try_infer_dates", "0")
            .with_setting("input_format_try_infer_datetimes", "0")
            .with_setting("type_json_skip_duplicated_paths", "1");
        Ok(Self { client, database: options.database.clone() })
    }

    /// Does the server answer?
    pub async fn ping(&self) -> Result<()> {
        self.client.query("SELECT 1").execute().await.map_err(failed)
    }

    /// A table of the database, quoted.
    pub fn table(&self, name: &str) -> String {
        format!("{}.{name}", self.quoted_database())
    }

    /// The client, for statements of others than this crate.
    pub fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn quoted_database(&self) -> String {
        format!("`{}`", self.database.replace('\\', "\\\\").replace('`', "\\`"))
    }
}

/// The URL without its user and password, which go as headers.
struct Url {
    server: String,
    user: String,
    password: String,
}

impl Url {
    fn parse(text: &str) -> Result<Self> {
        let wrong = || Violation::new("clickhouse.url", "must be http://user:password@host:port or https://…");
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        if !matches!(scheme, "http" | "https") {
            return Err(wrong().into());
        }
        let (account, host) = rest.rsplit_once('@').unwrap_or(("", rest));
        if host.is_empty() {
            return Err(wrong().into());
        }
        let (user, password) = account.split_once(':').unwrap_or((account, ""));
        let plain = |text| percent_encoding::percent_decode_str(text).decode_utf8().map(|text| text.into_owned());
        let (user, password) = (plain(user).map_err(|_| wrong())?, plain(password).map_err(|_| wrong())?);
        let user = if user.is_empty() { "default".to_owned() } else { user };
        Ok(Self { server: format!("{scheme}://{host}"), user, password })
    }
}
