//! One port for gRPC, gRPC-Web, REST and SSE, over HTTP/1.1 and HTTP/2, with TLS or without.
//!
//! An own accept loop rather than tonic's or axum's: it has the knobs of the first, the protocols of the second, and can stop
//! while streams are open.

mod in_process;
mod metrics;
mod readiness;
mod tls;

pub use self::in_process::InProcess;
pub use self::metrics::metrics;
pub use self::readiness::Readiness;

use crate::config::Config;
use crate::tasks::Tasks;
use anyhow::{Context, Result};
use axum::Router;
use axum::extract::Request;
use axum::http::{StatusCode, header::CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use std::any::Any;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tower_http::catch_panic::CatchPanicLayer;
use tracing::{debug, error, warn};

/// How long a client may take to send the head of a request, and how long an idle HTTP/1.1 connection is kept for the next.
const HEAD_TIMEOUT: Duration = Duration::from_secs(90);
/// How often an HTTP/2 connection is asked whether it is still there.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(20);
/// How long the answer to that may take.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// Requests at once on one HTTP/2 connection.
const STREAMS_MAX: u32 = 1_024;
/// Flow-control window of an HTTP/2 stream, and of a connection.
const WINDOW_BYTES: u32 = 1 << 20;
/// After an accept that failed (out of file descriptors, for example) the loop waits before it tries again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The one port, taken but not yet served.
pub struct Port {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    url: String,
}

impl Port {
    /// Takes the port that the settings name.
    pub async fn bind(config: &Config) -> Result<Self> {
        let tls = tls::acceptor(config)?;
        let listener =
            TcpListener::bind(config.listen).await.with_context(|| format!("cannot listen on {}", config.listen))?;
        let url = config.url(listener.local_addr()?);
        Ok(Self { listener, tls, url })
    }

    /// Where it answers.
    pub fn url(&self) -> &str {
        &self.url
    }
}

/// The two surfaces and the probes behind one set of layers. What neither knows is answered in the caller's own protocol.
pub fn one_port(rest: Router, grpc: Router, readiness: Readiness) -> Router {
    let ready = async move || (&readiness).into_response();
    let probes = Router::new().route("/healthz", get(|| async { "ok" })).route("/readyz", get(ready));
    rest.merge(grpc).merge(probes).fallback(not_found).layer(CatchPanicLayer::custom(after_panic))
}

async fn not_found(request: Request) -> Response {
    let content_type = request.headers().get(CONTENT_TYPE).map(|v| v.as_bytes());
    if content_type.is_some_and(|t| t.starts_with(b"application/grpc")) {
        return continuo_grpc::unimplemented_response().map(axum::body::Body::new);
    }
    continuo_gateway::not_found(request).await
}

/// A bug in one request is that request's failure alone.
fn after_panic(panic: Box<dyn Any + Send>) -> Response {
    let text = panic.downcast_ref::<&str>().map(|s| s.to_string()).or_else(|| panic.downcast_ref::<String>().cloned());
    error!(panic = text.unwrap_or_default(), "a request panicked");
    (StatusCode::INTERNAL_SERVER_ERROR, [(CONTENT_TYPE, "application/json")], r#"{"error":"Internal Server Error"}"#)
        .into_response()
}

/// Serves until stopping. Connections are tracked tasks: each ends cleanly once its last answer is out.
pub async fn serve(port: Port, router: Router, tasks: Tasks) -> Result<()> {
    let stopping = tasks.stopping().clone();
    loop {
        let accepted = tokio::select! {
            () = stopping.cancelled() => return Ok(()),
            accepted = port.listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, _)) => {
                tasks.tracker().spawn(welcome(socket, port.tls.clone(), router.clone(), tasks.clone()));
            }
            Err(error) => {
                warn!(error = %error, "accepting a connection failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn welcome(socket: TcpStream, tls: Option<TlsAcceptor>, router: Router, tasks: Tasks) {
    if let Err(error) = socket.set_nodelay(true) {
        debug!(error = %error, "a connection was gone before it began");
        return;
    }
    let Some(tls) = tls else { return connection(socket, router, tasks).await };
    let shaken = tokio::select! {
        () = tasks.stopping().cancelled() => return,
        shaken = tls::handshake(&tls, socket) => shaken,
    };
    if let Some(stream) = shaken {
        connection(stream, router, tasks).await;
    }
}

async fn connection(socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, router: Router, tasks: Tasks) {
    let mut server = Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    server
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE_EVERY)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(4 * WINDOW_BYTES)
        .max_concurrent_streams(STREAMS_MAX);
    let serving = server.serve_connection(TokioIo::new(socket), TowerToHyperService::new(router));
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = tasks.stopping().cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        debug!(error = %error, "a connection ended early");
    }
}
