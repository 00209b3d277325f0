//! The services on the real adapters, called through the real router, without a network.

mod blobs;
mod door;
mod harness;
mod lists;
mod open_streams;
mod requests;
mod socket;
mod statuses;
mod streams;
mod work;
