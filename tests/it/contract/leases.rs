//! What every `Leases` between replicas keeps. Each pair is two replicas of one deployment of its own.

use continuo_ports::Leases;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Two replicas.
pub(crate) type Pair = (Arc<dyn Leases>, Arc<dyn Leases>);

/// Longer than any of these tests.
const LONG: Duration = Duration::from_secs(60);

/// Runs the suite on an adapter. Takes a name for the module of tests, the path of this module, and an expression that
/// makes a pair.
macro_rules! leases_contract {
    ($name:ident, $suite:path, $new:expr) => {
        mod $name {
            use super::*;
            use $suite as suite;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_lease_is_one_replicas_and_is_renewed_by_it() {
                suite::a_lease_is_one_replicas_and_is_renewed_by_it($new).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn leases_of_different_names_are_different_leases() {
                suite::leases_of_different_names_are_different_leases($new).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn what_is_given_back_is_free_at_once() {
                suite::what_is_given_back_is_free_at_once($new).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn of_two_that_ask_at_once_one_gets_it() {
                suite::of_two_that_ask_at_once_one_gets_it($new).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_lease_that_is_not_renewed_goes_over() {
                suite::a_lease_that_is_not_renewed_goes_over($new).await;
            }
        }
    };
}
pub(crate) use leases_contract;

pub(crate) async fn a_lease_is_one_replicas_and_is_renewed_by_it((one, two): Pair) {
    for _ in 0..3 {
        assert!(one.hold("a", LONG).await.unwrap());
        assert!(!two.hold("a", LONG).await.unwrap());
    }
    two.release_all().await;
    assert!(!two.hold("a", LONG).await.unwrap(), "it gives back what it has, not what it asked for");
}

pub(crate) async fn leases_of_different_names_are_different_leases((one, two): Pair) {
    assert!(one.hold("a", LONG).await.unwrap());
    assert!(two.hold("b", LONG).await.unwrap());
    assert!(!one.hold("b", LONG).await.unwrap());
    assert!(!two.hold("a", LONG).await.unwrap());
}

pub(crate) async fn what_is_given_back_is_free_at_once((one, two): Pair) {
    assert!(one.hold("a", LONG).await.unwrap());
    assert!(one.hold("a", LONG).await.unwrap());
    assert!(one.hold("b", LONG).await.unwrap());
    one.release_all().await;
    assert!(two.hold("a", LONG).await.unwrap());
    assert!(two.hold("b", LONG).await.unwrap());
    assert!(!one.hold("a", LONG).await.unwrap());
}

pub(crate) async fn of_two_that_ask_at_once_one_gets_it((one, two): Pair) {
    for round in 0..50 {
        let (first, second) = tokio::join!(one.hold("a", LONG), two.hold("a", LONG));
        let (first, second) = (first.unwrap(), second.unwrap());
        assert!(first != second, "round {round}: {first} and {second}");
        one.release_all().await;
        two.release_all().await;
    }
}

pub(crate) async fn a_lease_that_is_not_renewed_goes_over((one, two): Pair) {
    assert!(one.hold("a", Duration::from_millis(200)).await.unwrap());
    let deadline = Instant::now() + Duration::from_secs(20);
    while !two.hold("a", LONG).await.unwrap() {
        assert!(Instant::now() < deadline, "it never went over");
        sleep(Duration::from_millis(20)).await;
    }
    assert!(!one.hold("a", LONG).await.unwrap(), "whoever was late has lost it");
}
