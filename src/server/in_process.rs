//! A connection inside the process: the same routes over the same protocol, without a socket. A client beside the server needs
//! neither to find its address nor to trust its certificate.

use super::connection;
use crate::tasks::Tasks;
use axum::Router;
use axum::http::Uri;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::future::ready;
use tokio::io::DuplexStream;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

/// What may be under way in one direction.
const BUFFER_BYTES: usize = 64 << 10;

/// Connects to the server of this process.
#[derive(Clone)]
pub struct InProcess {
    router: Router,
    tasks: Tasks,
}

impl InProcess {
    pub(crate) fn new(router: Router, tasks: Tasks) -> Self {
        Self { router, tasks }
    }

    /// A channel with the settings of `endpoint`; its address is not used.
    pub fn channel(&self, endpoint: Endpoint) -> Channel {
        let server = self.clone();
        endpoint.connect_with_connector_lazy(service_fn(move |_: Uri| ready(Ok::<_, Infallible>(server.dial()))))
    }

    fn dial(&self) -> TokioIo<DuplexStream> {
        let (near, far) = tokio::io::duplex(BUFFER_BYTES);
        self.tasks.tracker().spawn(connection(far, self.router.clone(), self.tasks.clone()));
        TokioIo::new(near)
    }
}
