//! What `/readyz` says.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const RETRY_AFTER_SECONDS: u32 = 1;

/// Should the node be given calls? Ready until something is set; never again once it stops. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Readiness {
    stopping: CancellationToken,
    trouble: Arc<watch::Sender<Option<&'static str>>>,
}

impl Readiness {
    /// Ready until the token is cancelled.
    pub fn new(stopping: CancellationToken) -> Self {
        Self { stopping, trouble: Arc::new(watch::Sender::new(None)) }
    }

    /// Why calls cannot be served, or that they can.
    pub fn set(&self, trouble: Option<&'static str>) {
        self.trouble.send_replace(trouble);
    }

    fn trouble(&self) -> Option<&'static str> {
        if self.stopping.is_cancelled() { Some("stopping") } else { *self.trouble.borrow() }
    }
}

impl IntoResponse for &Readiness {
    fn into_response(self) -> Response {
        match self.trouble() {
            None => "ready".into_response(),
            Some(reason) => {
                let later = [(header::RETRY_AFTER, RETRY_AFTER_SECONDS.to_string())];
                (StatusCode::SERVICE_UNAVAILABLE, later, reason).into_response()
            }
        }
    }
}
