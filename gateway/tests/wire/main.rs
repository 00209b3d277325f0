//! The gateway over HTTP semantics, with a recording implementation of the services behind it: what is called with what,
//! and what is printed of what comes back.

mod blobs;
mod common;
mod errors;
mod peer;
mod personal;
mod realtime;
mod runs;
mod sessions;
mod socket;
mod sse;
mod streams;
