//! WorkerService.

use crate::Services;
use crate::convert::worker as convert;
use crate::first_message::first_message;
use crate::last_word::with_last_word;
use crate::services::Answer;
use crate::status::of_error;
use crate::while_it_counts::while_it_counts;
use continuo_domain::principal::Principal;
use continuo_proto::v1;
use continuo_proto::v1::worker_service_server::WorkerService;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};
use tracing::{Instrument, debug};

/// Events on their way to a worker; the link to one that reads slower waits for it.
const EVENTS_MAX: usize = 64;

#[tonic::async_trait]
impl WorkerService for Services {
    type WorkStream = Answer<v1::WorkResponse>;

    async fn work(&self, request: Request<Streaming<v1::WorkRequest>>) -> Result<Response<Self::WorkStream>, Status> {
        let (caller, standing) = self.principal_of_stream(&request).await?;
        let (services, inbound, ended) = (self.clone(), request.into_inner(), standing.ended());
        let answer = stream::once(async move { services.serve_worker(caller, inbound, ended).await });
        Ok(Response::new(while_it_counts(answer.try_flatten().boxed(), standing)))
    }

    async fn list_workers(
        &self,
        request: Request<v1::ListWorkersRequest>,
    ) -> Result<Response<v1::ListWorkersResponse>, Status> {
        let caller = self.principal(&request).await?;
        let (after, size) = convert::parse_list(&caller.environment, request.get_ref()).map_err(of_error)?;
        let page = self.core.list_workers(&caller, after.as_ref(), size).await.map_err(of_error)?;
        Ok(Response::new(convert::print_page(&caller.environment, page)))
    }
}

impl Services {
    async fn serve_worker(
        self,
        caller: Principal,
        mut inbound: Streaming<v1::WorkRequest>,
        ended: impl Future<Output = ()> + Send + 'static,
    ) -> Result<Answer<v1::WorkResponse>, Status> {
        let hello = first_message(&mut inbound, self.core.stopping()).await?;
        let hello = convert::parse_hello(hello).map_err(of_error)?;
        let (events, heard) = mpsc::channel(EVENTS_MAX);
        let core = self.core.clone();
        let inbound = messages(inbound).map(convert::parse_message).take_until(ended).boxed();
        let serve = async move { core.serve_worker(caller, hello, inbound, events).await.map_err(of_error) };
        let answer = with_last_word(heard, self.tasks.spawn(serve.in_current_span()));
        Ok(answer.map_ok(move |event| convert::print_event(event, self.core.now())).boxed())
    }
}

/// What arrives, up to the end of the stream. A connection that breaks is an end like any other.
fn messages<T: 'static>(inbound: Streaming<T>) -> impl stream::Stream<Item = T> + Send + 'static {
    stream::unfold(inbound, |mut inbound| async {
        match inbound.message().await {
            Ok(message) => message.map(|message| (message, inbound)),
            Err(status) => {
                debug!(code = ?status.code(), message = status.message(), "a worker's stream broke");
                None
            }
        }
    })
}
