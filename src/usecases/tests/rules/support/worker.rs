//! A worker on in-memory channels.

use super::soon;
use continuo_domain::principal::Principal;
use continuo_domain::run::RunError;
use continuo_domain::{Result, RunId};
use continuo_usecases::{Assigned, Core, LeaseRef, RevokeReason, RunTokens, WorkerEvent, WorkerHello, WorkerMessage};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnboundedReceiverStream;

/// One end of a link; the core has the other.
pub(crate) struct TestWorker {
    messages: Option<mpsc::UnboundedSender<Result<WorkerMessage>>>,
    events: mpsc::Receiver<WorkerEvent>,
    link: JoinHandle<Result<()>>,
    settled: u64,
}

impl TestWorker {
    /// A worker called `w`, welcomed.
    pub(crate) async fn connect(
        core: &Core,
        caller: &Principal,
        tasks: &[&str],
        capacity: u32,
        held_leases: Vec<LeaseRef>,
    ) -> Self {
        let hello = WorkerHello {
            worker_id: "w".into(),
            version: String::new(),
            task_identifiers: tasks.iter().map(|t| (*t).to_owned()).collect(),
            capacity,
            held_leases,
        };
        Self::say_hello(core, caller, hello).await
    }

    /// A worker that calls itself what it likes, welcomed.
    pub(crate) async fn say_hello(core: &Core, caller: &Principal, hello: WorkerHello) -> Self {
        let (messages, inbound) = mpsc::unbounded_channel();
        let (outbound, events) = mpsc::channel(256);
        let (core, caller) = (core.clone(), caller.clone());
        let inbound: BoxStream<'static, _> = UnboundedReceiverStream::new(inbound).boxed();
        let link = tokio::spawn(async move { core.serve_worker(caller, hello, inbound, outbound).await });
        let mut worker = Self { messages: Some(messages), events, link, settled: 0 };
        assert!(matches!(worker.event().await, WorkerEvent::Welcome { .. }));
        worker
    }

    /// The next event.
    pub(crate) async fn event(&mut self) -> WorkerEvent {
        soon(self.events.recv()).await.expect("the link is gone")
    }

    /// The next event that is not a renewal.
    pub(crate) async fn news(&mut self) -> WorkerEvent {
        loop {
            match self.event().await {
                WorkerEvent::Renewed(_) => {}
                event => return event,
            }
        }
    }

    /// The next run it gets.
    pub(crate) async fn assigned(&mut self) -> Assigned {
        match self.news().await {
            WorkerEvent::Assigned(assigned) => *assigned,
            other => panic!("not an assignment: {other:?}"),
        }
    }

    /// The leases that are renewed next, with their fresh tokens.
    pub(crate) async fn renewed(&mut self) -> Vec<(LeaseRef, RunTokens)> {
        loop {
            match self.event().await {
                WorkerEvent::Renewed(leases) if leases.is_empty() => {}
                WorkerEvent::Renewed(leases) => return leases,
                other => panic!("not a renewal: {other:?}"),
            }
        }
    }

    /// The lease it loses next.
    pub(crate) async fn revoked(&mut self) -> (LeaseRef, RevokeReason) {
        match self.news().await {
            WorkerEvent::Revoked(lease, reason) => (lease, reason),
            other => panic!("not a revocation: {other:?}"),
        }
    }

    pub(crate) fn send(&self, message: WorkerMessage) {
        self.messages.as_ref().unwrap().send(Ok(message)).unwrap();
    }

    /// All that was sent so far has had its effect: a lease that nobody ever had is asked for, and refused. Gives the
    /// events that came meanwhile, without renewals of nothing.
    pub(crate) async fn settle(&mut self) -> Vec<WorkerEvent> {
        self.settled += 1;
        let mark = LeaseRef { run: RunId::from_body("mark"), number: self.settled };
        self.send(WorkerMessage::Heartbeat(vec![mark.clone()]));
        let mut met = Vec::new();
        loop {
            match self.event().await {
                WorkerEvent::Revoked(lease, _) if lease == mark => return met,
                WorkerEvent::Renewed(leases) if leases.is_empty() => {}
                event => met.push(event),
            }
        }
    }

    /// Starts an assignment.
    pub(crate) async fn start(&mut self, lease: &LeaseRef) {
        self.send(WorkerMessage::Started(lease.clone()));
        assert!(self.settle().await.is_empty());
    }

    /// Reports success; gives what the link said to it.
    pub(crate) async fn complete(&mut self, lease: &LeaseRef) -> Vec<WorkerEvent> {
        self.send(WorkerMessage::Completed { lease: lease.clone(), output: None, output_type: None });
        self.settle().await
    }

    /// Reports an error of the task.
    pub(crate) async fn fail(&mut self, lease: &LeaseRef, may_retry: bool) -> Vec<WorkerEvent> {
        let error = RunError::new("Error", "boom");
        self.send(WorkerMessage::Failed { lease: lease.clone(), error, may_retry });
        self.settle().await
    }

    /// The stream ends and the core has drawn its conclusions.
    pub(crate) async fn lose(mut self) -> Result<()> {
        self.messages = None;
        soon(&mut self.link).await.unwrap()
    }

    /// The link's outcome, once it has ended by itself.
    pub(crate) async fn ended(mut self) -> Result<()> {
        soon(&mut self.link).await.unwrap()
    }

    /// The replica that serves it is killed: the link does nothing any more, and its end is never noticed.
    pub(crate) fn freeze(self) {
        self.link.abort();
    }

    /// The worker is gone; the link does not know it yet.
    pub(crate) fn hang_up(self) -> (JoinHandle<Result<()>>, mpsc::Receiver<WorkerEvent>) {
        (self.link, self.events)
    }
}
