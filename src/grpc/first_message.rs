//! The first message of a two-way stream.

use crate::status::of_error;
use continuo_domain::{Error, Violation};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

/// Waits for it, but not when the node stops. Asked for only after the answer has begun: a client may want to see that
/// before it says anything.
pub(crate) async fn first_message<T>(inbound: &mut Streaming<T>, stopping: &CancellationToken) -> Result<T, Status> {
    let first = tokio::select! {
        () = stopping.cancelled() => return Err(of_error(Error::Stopping)),
        first = inbound.message() => first?,
    };
    first.ok_or_else(|| of_error(Violation::new("message", "is required; the stream ended before the first").into()))
}
