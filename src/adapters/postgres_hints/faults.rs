//! The connection away, cut and silent, under adapters that go on.

use crate::contract::{replicas, url};
use crate::hints_contract::{listening, next};
use crate::proxy::Proxy;
use crate::{Options, PostgresHints};
use continuo_domain::{Error, Result, RunId};
use continuo_ports::{Hint, Leases};
use continuo_postgres_link::Link;
use futures_util::stream::BoxStream;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::config::Host;

/// For what must happen, on a machine however busy.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_postgres_calls_fail_and_after_it_came_everything_works() {
    let (proxy, url) = proxied().await;
    proxy.down();
    let (one, two) = replicas(&url);
    let mut heard = two.hints().receive();
    for _ in 0..3 {
        assert_unavailable(timed(one.leases().hold("a", PATIENCE)).await);
        timed(one.hints().send(vec![run(1)])).await;
        timed(one.leases().release_all()).await;
    }
    proxy.up();
    assert_eq!(next(&mut heard).await, None, "from here on it hears");
    have(&one.leases()).await;
    tell(&one, &mut heard).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_cut_takes_its_leases_with_it_and_is_made_again() {
    let (proxy, proxied) = proxied().await;
    let (one, two) = replicas(&proxied);
    let mut heard = listening(&two.hints()).await;
    assert!(one.leases().hold("a", PATIENCE).await.unwrap());
    proxy.down();
    assert_unavailable(lost_at_last(&one.leases()).await);
    proxy.up();
    assert_eq!(next(&mut heard).await, None, "hints may have been missed");
    // What the cut connection held is free.
    have(&two.leases()).await;
    tell(&one, &mut heard).await;
}

// What a partition looks like, and to the server also a replica that is frozen: connections stand and nobody speaks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_connection_is_given_up_by_both_ends() {
    let (proxy, proxied) = proxied().await;
    let (one, two) = replicas(&proxied);
    let mut heard = listening(&two.hints()).await;
    assert!(one.leases().hold("a", PATIENCE).await.unwrap());
    proxy.silence();
    proxy.up();
    assert_eq!(next(&mut heard).await, None, "its silence was noticed");
    // The server ended the session, and with it the lease.
    have(&two.leases()).await;
    assert!(!answer(&one.leases()).await);
    tell(&one, &mut heard).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_fit_is_dropped_alone() {
    let (one, two) = replicas(&url());
    let mut heard = listening(&two.hints()).await;
    let environment = continuo_domain::EnvironmentId::from_body("e");
    let arrived = |name: String| Hint::SessionArrived(environment.clone(), name);
    one.hints().send(vec![arrived("x".repeat(8_000)), run(1), arrived("a\0b".into()), run(2)]).await;
    assert_eq!([next(&mut heard).await, next(&mut heard).await], [Some(run(1)), Some(run(2))]);
    let longest = arrived("x".repeat(7_999 - "0123456789abcdef arrived env_e ".len()));
    one.hints().send(vec![longest.clone()]).await;
    assert_eq!(next(&mut heard).await, Some(longest));
}

#[tokio::test]
async fn a_channel_that_has_no_name_or_too_long_a_one_is_refused() {
    for (bytes, is_fit) in [(0, false), (1, true), (63, true), (64, false)] {
        let options = Options { url: url(), channel: "x".repeat(bytes) };
        assert_eq!(PostgresHints::connect(options).is_ok(), is_fit, "{bytes}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_connection_ends_with_the_last_of_its_adapters() {
    let (one, two) = replicas(&url());
    let leases = one.leases();
    assert!(leases.hold("a", PATIENCE).await.unwrap());
    drop(one);
    assert!(!two.leases().hold("a", PATIENCE).await.unwrap(), "one of them is left");
    drop(leases);
    have(&two.leases()).await;
}

/// The limit of a call twice, for those that wait for a connection first, and what a busy machine adds.
async fn timed<T>(call: impl Future<Output = T>) -> T {
    timeout(PATIENCE, call).await.expect("a call hangs")
}

fn assert_unavailable<T: std::fmt::Debug>(outcome: Result<T>) {
    assert!(matches!(outcome, Err(Error::Unavailable(_))), "{outcome:?}");
}

/// The lease, as soon as it can be had.
async fn have(leases: &Arc<dyn Leases>) {
    let deadline = Instant::now() + PATIENCE;
    while !matches!(leases.hold("a", PATIENCE).await, Ok(true)) {
        assert!(Instant::now() < deadline, "the lease is not free");
        sleep(Duration::from_millis(20)).await;
    }
}

/// The first answer that is no error.
async fn answer(leases: &Arc<dyn Leases>) -> bool {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match leases.hold("a", PATIENCE).await {
            Err(_) if Instant::now() < deadline => sleep(Duration::from_millis(20)).await,
            outcome => return outcome.unwrap(),
        }
    }
}

async fn lost_at_last(leases: &Arc<dyn Leases>) -> Result<bool> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match leases.hold("a", PATIENCE).await {
            Ok(_) if Instant::now() < deadline => sleep(Duration::from_millis(20)).await,
            outcome => return outcome,
        }
    }
}

/// Sends until it is heard: the sender's connection may take longer than the receiver's.
async fn tell(from: &PostgresHints, heard: &mut BoxStream<'static, Option<Hint>>) {
    let hints = from.hints();
    let sending = async {
        loop {
            hints.send(vec![run(7)]).await;
            sleep(Duration::from_millis(20)).await;
        }
    };
    let hearing = async { while next(heard).await != Some(run(7)) {} };
    tokio::select! {
        () = sending => {}
        () = hearing => {}
    }
}

fn run(number: u32) -> Hint {
    Hint::RunChanged(RunId::from_body(&number.to_string()))
}

/// The shared server with a proxy before it, and the URL of that.
async fn proxied() -> (Proxy, String) {
    let direct = url();
    let link = Link::parse(&direct).unwrap();
    let config = link.config();
    let (Host::Tcp(host), port) = (&config.get_hosts()[0], config.get_ports()[0]) else { panic!("no TCP: {direct}") };
    let host: Ipv4Addr = host.parse().expect("the tests' Postgres is on loopback");
    let proxy = Proxy::start(SocketAddr::from((host, port))).await;
    let through = direct.replace(&format!(":{port}/"), &format!(":{}/", proxy.port));
    assert_ne!(through, direct);
    (proxy, through)
}
