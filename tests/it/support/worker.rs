//! A worker that takes runs and keeps them. Its leases outlive the test, so it sends no heartbeats.

use super::Client;
use super::rest::soon;
use continuo_proto::v1::{work_request, work_response, *};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

pub(crate) struct Worker {
    messages: mpsc::Sender<WorkRequest>,
    events: Streaming<WorkResponse>,
}

impl Worker {
    /// A worker of the task of `create_request`.
    pub(crate) async fn connect(client: &Client, capacity: u32) -> Self {
        let (messages, outgoing) = mpsc::channel(64);
        let task_identifiers = vec![super::create_request(None).task_identifier];
        let hello = WorkerHello { worker_id: "worker".into(), task_identifiers, capacity, ..Default::default() };
        let hello = WorkRequest { message: Some(work_request::Message::Hello(hello)) };
        messages.send(hello).await.unwrap();
        let events = client.workers.clone().work(ReceiverStream::new(outgoing)).await.unwrap().into_inner();
        Self { messages, events }
    }

    /// The next run, started.
    pub(crate) async fn take(&mut self) -> Assignment {
        let assignment = loop {
            let event = soon(self.events.message()).await.unwrap().expect("the link is gone");
            if let Some(work_response::Message::Assignment(assignment)) = event.message {
                break assignment;
            }
        };
        let run_id = assignment.run.as_ref().unwrap().id.clone();
        let lease = Some(LeaseRef { run_id, lease: assignment.lease });
        let started = work_request::Message::Started(AttemptStarted { lease });
        self.messages.send(WorkRequest { message: Some(started) }).await.unwrap();
        assignment
    }
}
