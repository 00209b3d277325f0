//! The API of Continuo: the protobuf definitions under `continuo/v1` and the code generated from them. The definitions are
//! the source of truth; every comment there is the manual.

#[allow(missing_docs, unreachable_pub, clippy::all, rustdoc::all)]
pub mod v1 {
    //! Messages, clients and server traits of package `continuo.v1`.
    tonic::include_proto!("continuo.v1");
}

pub mod in_process;
mod tls;
#[cfg(feature = "worker")]
pub mod worker;

pub use tls::with_tls;

/// The descriptor set of the package, with comments: for reflection and tools.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/continuo.v1.binpb"));
/// `domain` of every ErrorInfo.
pub const ERROR_DOMAIN: &str = "continuo";
/// Initial metadata of a settled read.
pub const SETTLED_METADATA: &str = "continuo-settled";
/// Where blobs are put and fetched over HTTP; the token of the URL follows.
pub const BLOBS_PATH: &str = "/blobs/";

/// Everything the HTTP gateway needs, as the server traits: the services themselves in one process, or clients of them.
pub trait Api:
    v1::session_service_server::SessionService
    + v1::channel_service_server::ChannelService
    + v1::run_service_server::RunService
    + v1::token_service_server::TokenService
    + v1::blob_service_server::BlobService
    + Clone
{
}

impl<T> Api for T where
    T: v1::session_service_server::SessionService
        + v1::channel_service_server::ChannelService
        + v1::run_service_server::RunService
        + v1::token_service_server::TokenService
        + v1::blob_service_server::BlobService
        + Clone
{
}
