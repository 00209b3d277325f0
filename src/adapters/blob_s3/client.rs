//! Signed requests to one bucket.

use crate::store::Options;
use bytes::Bytes;
use http::header::HeaderName;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Limited, combinators::UnsyncBoxBody};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client as HttpClient, Error as HttpError, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Of a request that is sent at once; long enough for a clock that is a little off.
const SIGNED_FOR: Duration = Duration::from_secs(600);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer without a body may take, and the largest blob its way.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);
/// Most of an answer that is not a blob.
const TEXT_BYTES_MAX: usize = 4 << 20;

pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;
pub(crate) type Answer = Response<hyper::body::Incoming>;

/// Why a bucket cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The address makes no URL of a bucket.
    #[error(
        "{endpoint} and the bucket {bucket} make no address: {why}; correct blobs.s3.endpoint or blobs.s3.bucket, or set \
             blobs.s3.path_style to true"
    )]
    Address {
        /// As it was given.
        endpoint: String,
        /// As it was given.
        bucket: String,
        /// What is wrong.
        why: String,
    },
    /// HTTPS without anything to check it with.
    #[error(
        "the system has no root certificates to check an https:// endpoint with; install them (ca-certificates), or name \
             them in SSL_CERT_FILE"
    )]
    NoRoots(#[source] io::Error),
    /// Nobody answers.
    #[error("the store at {endpoint} cannot be reached; start it, or correct blobs.s3.endpoint")]
    Unreachable {
        /// As it was given.
        endpoint: String,
        /// What went wrong.
        #[source]
        source: SendError,
    },
    /// It answers, and there is no such bucket.
    #[error("the store at {endpoint} has no bucket {bucket}; make it, or correct blobs.s3.bucket")]
    NoBucket {
        /// As it was given.
        endpoint: String,
        /// As it was given.
        bucket: String,
    },
    /// It answers, and refuses.
    #[error(
        "the store at {endpoint} refuses to list the bucket {bucket} ({said}); check blobs.s3.access_key, \
             blobs.s3.secret_key and blobs.s3.region, and that they may list, get, put and delete there"
    )]
    Refused {
        /// As it was given.
        endpoint: String,
        /// As it was given.
        bucket: String,
        /// Status and code.
        said: String,
    },
}

/// A request that got no answer.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The connection failed.
    #[error("the store did not answer")]
    Http(#[from] HttpError),
    /// It took too long.
    #[error("the store did not answer in time")]
    Slow(#[from] tokio::time::error::Elapsed),
}

impl SendError {
    /// Nothing of the request left this machine.
    pub(crate) fn is_before_sending(&self) -> bool {
        matches!(self, Self::Http(error) if error.is_connect())
    }
}

/// A bucket and the way to it.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: HttpClient<HttpsConnector<HttpConnector>, Body>,
    bucket: Bucket,
    credentials: Arc<Credentials>,
}

impl Client {
    pub(crate) fn new(options: &Options) -> Result<Self, OpenError> {
        let wrong = |why: String| OpenError::Address {
            endpoint: options.endpoint.clone(),
            bucket: options.bucket.clone(),
            why,
        };
        let style = if options.path_style { UrlStyle::Path } else { UrlStyle::VirtualHost };
        let endpoint = options.endpoint.parse().map_err(|error| wrong(format!("{error}")))?;
        let bucket = Bucket::new(endpoint, style, options.bucket.clone(), options.region.clone());
        let bucket = bucket.map_err(|error| wrong(error.to_string()))?;
        let is_https = bucket.base_url().scheme() == "https";
        let http = HttpClient::builder(TokioExecutor::new()).build(connector(is_https)?);
        let credentials = Arc::new(Credentials::new(&options.access_key, &options.secret_key));
        Ok(Self { http, bucket, credentials })
    }

    /// The bucket, and who asks.
    pub(crate) fn signed_by(&self) -> (&Bucket, Option<&Credentials>) {
        (&self.bucket, Some(&self.credentials))
    }

    /// Sends an action without a body.
    pub(crate) async fn ask<'a, A: S3Action<'a>>(
        &self,
        action: &A,
        headers: &[(HeaderName, String)],
    ) -> Result<Answer, SendError> {
        self.send(action, headers, Empty::new().map_err(|never| match never {}).boxed_unsync()).await
    }

    /// Sends an action.
    pub(crate) async fn send<'a, A: S3Action<'a>>(
        &self,
        action: &A,
        headers: &[(HeaderName, String)],
        body: Body,
    ) -> Result<Answer, SendError> {
        let url = action.sign(SIGNED_FOR);
        let mut request = Request::builder().method(A::METHOD.to_str()).uri(url.as_str());
        for (name, value) in headers {
            request = request.header(name, value);
        }
        // Names and values are our own, or were checked to fit into headers; the URL comes from a parsed one.
        let request = request.body(body).map_err(io::Error::other);
        let request = request.unwrap_or_else(|_| unreachable!("a signed URL and checked headers make a request"));
        Ok(tokio::time::timeout(ANSWER_TIMEOUT, self.http.request(request)).await??)
    }
}

fn connector(is_https: bool) -> Result<HttpsConnector<HttpConnector>, OpenError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut http = HttpConnector::new();
    http.set_connect_timeout(Some(CONNECT_TIMEOUT));
    http.set_nodelay(true);
    http.enforce_http(false);
    if is_https {
        let builder = HttpsConnectorBuilder::new().with_provider_and_native_roots(provider);
        return Ok(builder.map_err(OpenError::NoRoots)?.https_only().enable_http1().wrap_connector(http));
    }
    let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let tls = tls.map_err(|error| OpenError::NoRoots(io::Error::other(error)))?;
    let tls = tls.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
    Ok(HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(http))
}

/// The body of an answer that is not a blob. One that is too long or breaks off is none.
pub(crate) async fn text(answer: Answer) -> String {
    let body = Limited::new(answer.into_body(), TEXT_BYTES_MAX).collect();
    let collected = tokio::time::timeout(ANSWER_TIMEOUT, body).await.ok().and_then(Result::ok);
    collected.map(|body| String::from_utf8_lossy(&body.to_bytes()).into_owned()).unwrap_or_default()
}

/// What a store says of a refusal, for the log: `403 AccessDenied`.
pub(crate) fn refusal(status: StatusCode, text: &str) -> String {
    let code = text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>")).map(|(code, _)| code);
    format!("{} {}", status.as_u16(), code.unwrap_or_default().chars().take(64).collect::<String>())
        .trim_end()
        .to_owned()
}

/// A header as text.
pub(crate) fn header(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}
