//! What all services of a tenant share.

use crate::door;
use crate::status::of_error;
use continuo_domain::Error;
use continuo_domain::principal::Principal;
use continuo_usecases::{Blobs, Core, Standing};
use futures_util::stream::BoxStream;
use tokio::task::JoinError;
use tokio_util::task::TaskTracker;
use tonic::{Request, Status};
use tracing::Instrument;

/// The answer of a streaming rpc.
pub(crate) type Answer<T> = BoxStream<'static, Result<T, Status>>;

/// Every service of a tenant as one value; satisfies `continuo_proto::Api`. Cheap to clone.
#[derive(Clone)]
pub struct Services {
    pub(crate) core: Core,
    pub(crate) blobs: Blobs,
    pub(crate) tasks: TaskTracker,
}

impl Services {
    /// The services on their use cases. Whatever they leave running is in `tasks`, and ends once the core is stopping.
    pub fn new(core: Core, blobs: Blobs, tasks: TaskTracker) -> Self {
        Self { core, blobs, tasks }
    }

    /// Who is calling. The first thing every rpc asks.
    pub(crate) async fn principal<T>(&self, request: &Request<T>) -> Result<Principal, Status> {
        door::principal(&self.core, request).await
    }

    /// Who is calling, for an rpc whose answer is a stream. The answer goes through
    /// [`while_it_counts`](crate::while_it_counts::while_it_counts).
    pub(crate) async fn principal_of_stream<T>(&self, request: &Request<T>) -> Result<(Principal, Standing), Status> {
        door::principal_of_stream(&self.core, request).await
    }

    /// Carries a change to its end, also if the caller hangs up half-way: a record that is durable must still wake its
    /// readers, a claim must still be told to workers.
    pub(crate) async fn to_the_end<T: Send + 'static>(
        &self,
        change: impl Future<Output = continuo_domain::Result<T>> + Send + 'static,
    ) -> Result<T, Status> {
        match self.tasks.spawn(change.in_current_span()).await {
            Ok(outcome) => outcome.map_err(of_error),
            Err(broken) => Err(of_error(panicked(broken))),
        }
    }
}

/// A task of ours that did not come to its end. The panic itself is in the log already.
pub(crate) fn panicked(broken: JoinError) -> Error {
    Error::internal(format!("a task broke: {broken}"))
}
