//! What every `Hints` between replicas keeps. Each pair is two replicas of one deployment of its own.

use continuo_domain::{EnvironmentId, RunId};
use continuo_ports::{Hint, Hints};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// Two replicas.
pub(crate) type Pair = (Arc<dyn Hints>, Arc<dyn Hints>);

/// Runs the suite on an adapter. Takes a name for the module of tests, the path of this module, and an expression that
/// makes a pair.
macro_rules! hints_contract {
    ($name:ident, $suite:path, $new:expr) => {
        mod $name {
            use super::*;
            use $suite as suite;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_hint_reaches_the_other_replica_as_it_was() {
                suite::a_hint_reaches_the_other_replica_as_it_was($new).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn nobody_hears_himself() {
                suite::nobody_hears_himself($new).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn every_receiver_hears_from_its_own_beginning() {
                suite::every_receiver_hears_from_its_own_beginning($new).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_large_batch_arrives_or_says_that_it_did_not() {
                suite::a_large_batch_arrives_or_says_that_it_did_not($new).await;
            }
        }
    };
}
pub(crate) use hints_contract;

pub(crate) async fn a_hint_reaches_the_other_replica_as_it_was((one, two): Pair) {
    let environment = EnvironmentId::from_body("e");
    let hints = [
        Hint::Work(environment.clone()),
        Hint::Timers,
        Hint::RunChanged(RunId::from_body("r")),
        Hint::SessionArrived(environment.clone(), "a name: with 'quotes', \"more\"\nlines, \\ and ü".into()),
        Hint::SessionArrived(environment, "\u{10ffff}".repeat(256)),
    ];
    let mut heard = listening(&two).await;
    one.send(hints.to_vec()).await;
    for hint in hints {
        assert_eq!(next(&mut heard).await, Some(hint));
    }
    one.send(Vec::new()).await;
    one.send(vec![run(1)]).await;
    assert_eq!(next(&mut heard).await, Some(run(1)), "no hints are no hint");
}

pub(crate) async fn nobody_hears_himself((one, two): Pair) {
    let mut heard = listening(&one).await;
    one.send(vec![run(1)]).await;
    two.send(vec![run(2)]).await;
    assert_eq!(next(&mut heard).await, Some(run(2)));
}

pub(crate) async fn every_receiver_hears_from_its_own_beginning((one, two): Pair) {
    let mut first = listening(&two).await;
    one.send(vec![run(1)]).await;
    assert_eq!(next(&mut first).await, Some(run(1)));
    let mut second = listening(&two).await;
    one.send(vec![run(2)]).await;
    assert_eq!(next(&mut first).await, Some(run(2)));
    assert_eq!(next(&mut second).await, Some(run(2)));
}

pub(crate) async fn a_large_batch_arrives_or_says_that_it_did_not((one, two): Pair) {
    let mut heard = listening(&two).await;
    let mut awaited: HashSet<Hint> = (0..2_000).map(run).collect();
    one.send(awaited.iter().cloned().collect()).await;
    while !awaited.is_empty() {
        match next(&mut heard).await {
            Some(hint) => assert!(awaited.remove(&hint), "{hint:?} came twice"),
            None => return,
        }
    }
}

fn run(number: u32) -> Hint {
    Hint::RunChanged(RunId::from_body(&number.to_string()))
}

/// A receiver that hears what is sent from here on.
pub(crate) async fn listening(hints: &Arc<dyn Hints>) -> BoxStream<'static, Option<Hint>> {
    let mut heard = hints.receive();
    assert_eq!(next(&mut heard).await, None, "a receiver says first that it listens");
    heard
}

/// The limit is for hints that never come.
pub(crate) async fn next(heard: &mut BoxStream<'static, Option<Hint>>) -> Option<Hint> {
    let next = tokio::time::timeout(Duration::from_secs(20), heard.next()).await;
    next.expect("no hint came").expect("the stream is for ever")
}
