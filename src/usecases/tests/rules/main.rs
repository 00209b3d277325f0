//! The rules of the use cases, and their races. A real core on real adapters; every interleaving is made by hand: a gate
//! holds a chosen call before or after it reaches its adapter, and the clock moves only when a test moves it.

mod append;
mod blobs;
mod boot;
mod boot_crashes;
mod channel_access;
mod claim;
mod close;
mod close_half_done;
mod create;
mod create_access;
mod delete;
mod drain;
mod environment_tokens;
mod follow_up;
mod frozen;
mod hand_over;
mod hints;
mod list;
mod part_ids;
mod read;
mod replicas;
mod retention;
mod sdk_run_token;
mod session_access;
mod settled;
mod stream_tokens;
mod superseded;
mod support;
mod suspend;
mod sweepers;
mod tokens;
mod triggers;
mod wait;
mod worker_leases;
mod workers;
