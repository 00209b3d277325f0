//! All services behind one router, for the one port that also carries REST.

use crate::{Admin, Services, cors, timeout};
use continuo_proto::FILE_DESCRIPTOR_SET;
use continuo_proto::v1::admin_service_server::AdminServiceServer;
use continuo_proto::v1::blob_service_server::BlobServiceServer;
use continuo_proto::v1::channel_service_server::ChannelServiceServer;
use continuo_proto::v1::run_service_server::RunServiceServer;
use continuo_proto::v1::session_service_server::SessionServiceServer;
use continuo_proto::v1::token_service_server::TokenServiceServer;
use continuo_proto::v1::worker_service_server::WorkerServiceServer;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};
use tonic_reflection::server::Builder;
use tonic_web::GrpcWebLayer;

/// Longest message a service takes, unless set otherwise: 4 MiB, which every client can send and a full append fits into.
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// What an operator may set.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest message a service takes; a longer one is OUT_OF_RANGE.
    pub message_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { message_bytes_max: MESSAGE_BYTES_MAX }
    }
}

/// What the app merges with the gateway's routes, and tells that the node is stopping.
pub struct Grpc {
    /// All services. Has no fallback of its own: a path that no route knows is the app's to answer, with
    /// [`crate::unimplemented_response`] where the content type is `application/grpc*`.
    pub router: axum::Router,
    /// What health checks are told.
    pub health: Health,
}

/// The health of the node and of each service. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Health {
    reporter: HealthReporter,
}

impl Health {
    /// Tells that the node takes calls, or that it takes no more.
    pub async fn set_serving(&self, serving: bool) {
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        for service in SERVICES {
            self.reporter.set_service_status(service, status).await;
        }
    }
}

/// Names health checks may ask for; the empty one is the node.
const SERVICES: [&str; 8] = [
    "",
    <SessionServiceServer<Services> as NamedService>::NAME,
    <ChannelServiceServer<Services> as NamedService>::NAME,
    <RunServiceServer<Services> as NamedService>::NAME,
    <TokenServiceServer<Services> as NamedService>::NAME,
    <BlobServiceServer<Services> as NamedService>::NAME,
    <WorkerServiceServer<Services> as NamedService>::NAME,
    <AdminServiceServer<Admin> as NamedService>::NAME,
];

/// Every service with health, both reflections (older clients speak v1alpha only) and gRPC-Web. Serving from the start.
///
/// Layers, outermost first: what pages of other origins may do; gRPC-Web, so that everything inside sees plain gRPC; then the
/// caller's deadline.
pub async fn router(services: Services, admin: Admin, limits: Limits) -> Result<Grpc, tonic_reflection::server::Error> {
    let max = limits.message_bytes_max;
    let health = Health { reporter: HealthReporter::new() };
    health.set_serving(true).await;
    let mut routes = Routes::builder();
    routes
        .add_service(SessionServiceServer::new(services.clone()).max_decoding_message_size(max))
        .add_service(ChannelServiceServer::new(services.clone()).max_decoding_message_size(max))
        .add_service(RunServiceServer::new(services.clone()).max_decoding_message_size(max))
        .add_service(TokenServiceServer::new(services.clone()).max_decoding_message_size(max))
        .add_service(BlobServiceServer::new(services.clone()).max_decoding_message_size(max))
        .add_service(WorkerServiceServer::new(services).max_decoding_message_size(max))
        .add_service(AdminServiceServer::new(admin).max_decoding_message_size(max))
        .add_service(HealthServer::new(HealthService::from_health_reporter(health.reporter.clone())))
        .add_service(reflected().build_v1()?)
        .add_service(reflected().build_v1alpha()?);
    let router = routes
        .routes()
        .prepare()
        .into_axum_router()
        .reset_fallback()
        .layer(axum::middleware::from_fn(timeout::enforce))
        .layer(GrpcWebLayer::new())
        .layer(axum::middleware::from_fn(cors::allow));
    Ok(Grpc { router, health })
}

fn reflected() -> Builder<'static> {
    Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}
