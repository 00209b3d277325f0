//! `/metrics`: what the node counts, for whoever administers the server.

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use continuo_domain::error::CredentialProblem;
use continuo_grpc::Admin;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use std::sync::Arc;
use tracing::error;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The route. Without a bearer it is 401, with another one than the admin key 403.
pub fn metrics(mut registry: Registry, admin: Admin) -> Router {
    let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("continuo", "What serves here", build);
    Router::new().route("/metrics", get(scrape)).with_state(Arc::new((registry, admin)))
}

async fn scrape(State(guarded): State<Arc<(Registry, Admin)>>, headers: HeaderMap) -> Response {
    let (registry, admin) = &*guarded;
    match admin.admits(headers) {
        Ok(()) => written(registry),
        Err(CredentialProblem::Missing) => {
            let asks = [(header::WWW_AUTHENTICATE, "Bearer")];
            (StatusCode::UNAUTHORIZED, asks, "the admin key is missing\n").into_response()
        }
        Err(_) => (StatusCode::FORBIDDEN, "not the admin key\n").into_response(),
    }
}

fn written(registry: &Registry) -> Response {
    let mut text = String::new();
    match encode(&mut text, registry) {
        Ok(()) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(problem) => {
            error!(error = %problem, "metrics cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
