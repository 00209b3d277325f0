//! What every `WaitpointRegistry` keeps. In `tests/races.md`: 9, 10, 34 and 37.
//!
//! Times lie around the real one, because an adapter may leave the end of a set to its own store's clock; what is over is
//! over by the caller's clock, so nobody has to wait for it.

use continuo_domain::channel::Direction;
use continuo_domain::waitpoint::WaitedSession;
use continuo_domain::{EnvironmentId, SessionId, Timestamp, WaitpointId};
use continuo_ports::WaitpointRegistry;
use continuo_ports::waitpoint_registry::WaitKey;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

type Registry = Arc<dyn WaitpointRegistry>;

/// Runs the suite on an adapter. Takes a name for the module of tests, the path of this module, and an expression that
/// makes an empty registry.
macro_rules! waitpoint_registry_contract {
    ($name:ident, $suite:path, $new:expr) => {
        mod $name {
            use super::*;
            use $suite as suite;

            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn a_drain_reads_and_clears() {
                suite::a_drain_reads_and_clears($new).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn a_removed_wait_is_not_drained() {
                suite::a_removed_wait_is_not_drained($new).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn registering_twice_is_one_wait() {
                suite::registering_twice_is_one_wait($new).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn a_short_wait_never_shortens_a_longer_sibling() {
                suite::a_short_wait_never_shortens_a_longer_sibling($new).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn a_set_past_its_life_is_gone() {
                suite::a_set_past_its_life_is_gone($new).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn a_used_up_key_starts_a_new_life() {
                suite::a_used_up_key_starts_a_new_life($new).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn drains_and_registrations_lose_nobody() {
                suite::drains_and_registrations_lose_nobody($new).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn concurrent_drains_share_no_wait() {
                suite::concurrent_drains_share_no_wait($new).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn environments_never_cross_wake() {
                suite::environments_never_cross_wake($new).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn names_that_look_alike_stay_apart() {
                suite::names_that_look_alike_stay_apart($new).await;
            }
        }
    };
}
pub(crate) use waitpoint_registry_contract;

pub(crate) async fn a_drain_reads_and_clears(registry: Registry) {
    let key = named("chat-1");
    registry.register(&key, &waitpoint(1), in_ms(60_000)).await.unwrap();
    registry.register(&key, &waitpoint(2), in_ms(60_000)).await.unwrap();
    assert_eq!(drain(&registry, &key).await, [waitpoint(1), waitpoint(2)], "all that wait wake together");
    assert_eq!(drain(&registry, &key).await, [], "and once");
    assert_eq!(drain(&registry, &named("chat-2")).await, [], "a set nobody made is empty");
}

pub(crate) async fn a_removed_wait_is_not_drained(registry: Registry) {
    let key = named("chat-1");
    registry.remove(&key, &waitpoint(1)).await.unwrap();
    registry.register(&key, &waitpoint(1), in_ms(60_000)).await.unwrap();
    registry.register(&key, &waitpoint(2), in_ms(60_000)).await.unwrap();
    registry.remove(&key, &waitpoint(1)).await.unwrap();
    registry.remove(&key, &waitpoint(1)).await.unwrap();
    assert_eq!(drain(&registry, &key).await, [waitpoint(2)]);
}

pub(crate) async fn registering_twice_is_one_wait(registry: Registry) {
    let key = named("chat-1");
    registry.register(&key, &waitpoint(1), in_ms(60_000)).await.unwrap();
    registry.register(&key, &waitpoint(1), in_ms(60_000)).await.unwrap();
    assert_eq!(drain(&registry, &key).await, [waitpoint(1)]);
}

// 9
pub(crate) async fn a_short_wait_never_shortens_a_longer_sibling(registry: Registry) {
    let key = named("chat-1");
    registry.register(&key, &waitpoint(1), in_ms(60_000)).await.unwrap();
    registry.register(&key, &waitpoint(2), in_ms(20_000)).await.unwrap();
    assert_eq!(drain_at(&registry, &key, in_ms(30_000)).await, [waitpoint(1)]);

    registry.register(&key, &waitpoint(3), in_ms(20_000)).await.unwrap();
    registry.register(&key, &waitpoint(4), in_ms(60_000)).await.unwrap();
    assert_eq!(drain_at(&registry, &key, in_ms(30_000)).await, [waitpoint(4)], "nor is a longer one cut to it");

    registry.register(&key, &waitpoint(5), in_ms(60_000)).await.unwrap();
    registry.register(&key, &waitpoint(5), in_ms(20_000)).await.unwrap();
    assert_eq!(drain_at(&registry, &key, in_ms(30_000)).await, [waitpoint(5)], "nor the same wait by itself");

    registry.register(&key, &waitpoint(6), in_ms(60_000)).await.unwrap();
    registry.register(&key, &waitpoint(7), in_ms(-1)).await.unwrap();
    assert_eq!(drain(&registry, &key).await, [waitpoint(6)], "nor is one that is over from the start in its way");
}

// 9: no set without an end.
pub(crate) async fn a_set_past_its_life_is_gone(registry: Registry) {
    let key = named("chat-1");
    registry.register(&key, &waitpoint(1), in_ms(-1)).await.unwrap();
    assert_eq!(drain(&registry, &key).await, []);
    registry.register(&key, &waitpoint(1), in_ms(20_000)).await.unwrap();
    assert_eq!(drain_at(&registry, &key, in_ms(30_000)).await, []);
}

pub(crate) async fn a_used_up_key_starts_a_new_life(registry: Registry) {
    let key = named("chat-1");
    registry.register(&key, &waitpoint(1), in_ms(60_000)).await.unwrap();
    drain(&registry, &key).await;
    registry.register(&key, &waitpoint(2), in_ms(20_000)).await.unwrap();
    assert_eq!(drain_at(&registry, &key, in_ms(30_000)).await, [], "a drained set's long life is not inherited");
}

// 10
pub(crate) async fn drains_and_registrations_lose_nobody(registry: Registry) {
    const WAITERS: u32 = 8;
    for round in 0..300 {
        let key = named(&format!("chat-{}", round % 3));
        let waiters: Vec<_> = (0..WAITERS).map(|i| waitpoint(round * WAITERS + i)).collect();
        let registering: Vec<_> = waiters.iter().cloned().map(|w| spawn_register(&registry, &key, w)).collect();
        let draining: Vec<_> = (0..3).map(|_| spawn_drain(&registry, &key)).collect();
        for task in registering {
            task.await.unwrap();
        }
        let mut woken = Vec::new();
        for task in draining {
            woken.extend(task.await.unwrap());
        }
        woken.extend(drain(&registry, &key).await);
        woken.sort();
        assert_eq!(woken, waiters, "round {round}: every waiter is woken, and once");
    }
}

// 10: two appends at the same moment.
pub(crate) async fn concurrent_drains_share_no_wait(registry: Registry) {
    let key = named("chat-1");
    for round in 0..300 {
        let waiters: Vec<_> = (0..4).map(|i| waitpoint(round * 4 + i)).collect();
        for waiter in &waiters {
            registry.register(&key, waiter, in_ms(60_000)).await.unwrap();
        }
        let draining: Vec<_> = (0..4).map(|_| spawn_drain(&registry, &key)).collect();
        let mut woken = Vec::new();
        for task in draining {
            woken.extend(task.await.unwrap());
        }
        woken.sort();
        assert_eq!(woken, waiters, "round {round}");
    }
}

// 34
pub(crate) async fn environments_never_cross_wake(registry: Registry) {
    let theirs = WaitKey { environment: EnvironmentId::from_body("theirs"), ..named("chat-1") };
    registry.register(&named("chat-1"), &waitpoint(1), in_ms(60_000)).await.unwrap();
    registry.register(&theirs, &waitpoint(2), in_ms(60_000)).await.unwrap();
    registry.remove(&theirs, &waitpoint(1)).await.unwrap();
    assert_eq!(drain(&registry, &theirs).await, [waitpoint(2)]);
    assert_eq!(drain(&registry, &named("chat-1")).await, [waitpoint(1)]);
}

// 37: names may hold every separator an adapter could join its keys with.
pub(crate) async fn names_that_look_alike_stay_apart(registry: Registry) {
    let session = SessionId::from_body("s1");
    let names =
        ["a", "a:b", "a:b:c", "a:in", "a:out", ":a", "a:", ":", "in", "env_ours:a", "a/b", "a\u{1}b", session.as_str()];
    let mut sessions: Vec<_> = names.iter().map(|name| WaitedSession::Name((*name).to_owned())).collect();
    sessions.push(WaitedSession::Id(session.clone()));
    let keys = sessions.into_iter().flat_map(|session| {
        let side = |direction| WaitKey { session: session.clone(), direction, ..named("") };
        [side(Direction::In), side(Direction::Out)]
    });
    let waits: HashMap<WaitKey, WaitpointId> = keys.zip((0..).map(waitpoint)).collect();
    for (key, waiter) in &waits {
        registry.register(key, waiter, in_ms(60_000)).await.unwrap();
    }
    for (key, waiter) in &waits {
        assert_eq!(drain(&registry, key).await, std::slice::from_ref(waiter), "{key:?}");
    }
}

fn named(name: &str) -> WaitKey {
    let session = WaitedSession::Name(name.to_owned());
    WaitKey { environment: EnvironmentId::from_body("ours"), session, direction: Direction::In }
}

fn waitpoint(number: u32) -> WaitpointId {
    WaitpointId::from_body(&format!("{number:08}"))
}

fn in_ms(ms: i64) -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Timestamp(since_epoch.as_millis() as i64 + ms)
}

async fn drain(registry: &Registry, key: &WaitKey) -> Vec<WaitpointId> {
    drain_at(registry, key, in_ms(0)).await
}

/// In order: sets have none.
async fn drain_at(registry: &Registry, key: &WaitKey, now: Timestamp) -> Vec<WaitpointId> {
    let mut drained = registry.drain(key, now).await.unwrap();
    drained.sort();
    drained
}

fn spawn_register(registry: &Registry, key: &WaitKey, waiter: WaitpointId) -> tokio::task::JoinHandle<()> {
    let (registry, key) = (registry.clone(), key.clone());
    tokio::spawn(async move { registry.register(&key, &waiter, in_ms(60_000)).await.unwrap() })
}

fn spawn_drain(registry: &Registry, key: &WaitKey) -> tokio::task::JoinHandle<Vec<WaitpointId>> {
    let (registry, key) = (registry.clone(), key.clone());
    tokio::spawn(async move { registry.drain(&key, in_ms(0)).await.unwrap() })
}
