//! The gRPC services: unpack, call a use case, pack. No rule lives here.
//!
//! [`Services`] implements every service of a tenant, [`Admin`] the server's own administration. [`router`] puts them,
//! health, reflection and gRPC-Web behind one `axum::Router`; the gateway calls [`Services`] directly, in process.
#![warn(missing_docs)]

mod admin_service;
mod blob_service;
mod channel_service;
mod convert;
mod cors;
mod door;
mod first_message;
mod last_word;
mod run_service;
mod server;
mod services;
mod session_service;
mod status;
mod timeout;
mod token_service;
mod while_it_counts;
mod worker_service;

#[cfg(test)]
mod testing;

pub use admin_service::Admin;
pub use server::{Grpc, Health, Limits, MESSAGE_BYTES_MAX, router};
pub use services::Services;
pub use status::{of_error, unimplemented_response};
