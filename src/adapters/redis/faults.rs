//! Redis emptied, stopped, started again and frozen, under adapters that go on. Each test has a server of its own.

use crate::contract::pair;
use crate::hints_contract::{listening, next};
use crate::proxy::Proxy;
use crate::{CALL_TIMEOUT, Redis};
use continuo_domain::channel::Direction;
use continuo_domain::waitpoint::WaitedSession;
use continuo_domain::{EnvironmentId, Error, Result, RunId, Timestamp, WaitpointId};
use continuo_ports::waitpoint_registry::WaitKey;
use continuo_ports::{Hint, Hints};
use futures_util::stream::BoxStream;
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::process::Child;
use tokio::time::{Instant, sleep, timeout};

/// Moments far from now on any clock, the first after the second.
const LATER: Timestamp = Timestamp(4_000_000_000_000);
const NOW: Timestamp = Timestamp(1_900_000_000_000);
/// For what must happen, on a machine however busy.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emptied_redis_forgets_waits_and_leases_and_goes_on() {
    let server = Server::start().await;
    let (one, two) = pair(&server.url());
    let (registry, key) = (one.registry(), key());
    registry.register(&key, &waitpoint(1), LATER).await.unwrap();
    assert!(one.leases().hold("a", PATIENCE).await.unwrap());
    let mut heard = listening(&two.hints()).await;
    server.command(&["FLUSHALL"]);
    server.command(&["SCRIPT", "FLUSH"]);
    assert_eq!(registry.drain(&key, NOW).await.unwrap(), []);
    registry.register(&key, &waitpoint(2), LATER).await.unwrap();
    assert_eq!(registry.drain(&key, NOW).await.unwrap(), [waitpoint(2)]);
    assert!(two.leases().hold("a", PATIENCE).await.unwrap(), "a lease that was forgotten is free");
    one.hints().send(vec![run(1)]).await;
    assert_eq!(next(&mut heard).await, Some(run(1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_key_is_without_an_end() {
    let server = Server::start().await;
    let (one, _) = pair(&server.url());
    let (registry, key) = (one.registry(), key());
    for (number, until) in [(1, LATER), (2, LATER.plus_ms(5_000)), (3, LATER)] {
        registry.register(&key, &waitpoint(number), until).await.unwrap();
    }
    assert!(one.leases().hold("a", PATIENCE).await.unwrap());
    let keys = server.command(&["KEYS", "*"]);
    let ends: Vec<i64> = keys.lines().map(|key| server.command(&["PTTL", key]).trim().parse().unwrap()).collect();
    assert!(ends.len() == 2 && ends.iter().all(|ms| *ms > 0), "{ends:?} of {keys}");
    // By the server's clock, which is not far from this one's.
    let left = LATER.plus_ms(5_000).0 - std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as i64;
    assert!(ends.iter().any(|ms| (left - 60_000..=left + 60_000).contains(ms)), "{ends:?}, not {left}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_calls_fail_fast_and_after_it_came_everything_works() {
    let mut server = Server::start().await;
    server.kill().await;
    let (one, two) = pair(&server.url());
    let mut heard = two.hints().receive();
    for _ in 0..100 {
        assert_unavailable(timed(one.registry().drain(&key(), NOW)).await);
        assert_unavailable(timed(one.leases().hold("a", PATIENCE)).await);
        timed(one.hints().send(vec![run(1)])).await;
        timed(one.leases().release_all()).await;
    }
    server.restart().await;
    assert_eq!(next(&mut heard).await, None, "from here on it hears again");
    works_again(&one).await;
    tell(&one, &mut heard).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_redis_is_missed_and_found_again() {
    let mut server = Server::start().await;
    let (one, two) = pair(&server.url());
    let mut heard = listening(&two.hints()).await;
    one.registry().register(&key(), &waitpoint(1), LATER).await.unwrap();
    server.kill().await;
    assert_unavailable(timed(one.registry().drain(&key(), NOW)).await);
    assert_unavailable(timed(one.leases().hold("a", PATIENCE)).await);
    server.restart().await;
    assert_eq!(next(&mut heard).await, None, "hints may have been missed");
    works_again(&one).await;
    tell(&one, &mut heard).await;
}

// SIGSTOP: the kernel goes on accepting connections and bytes, so that nothing fails and nothing answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_redis_costs_one_timeout_and_not_one_for_each_call() {
    let server = Server::start().await;
    let (one, two) = pair(&server.url());
    let mut heard = listening(&two.hints()).await;
    assert_eq!(one.registry().drain(&key(), NOW).await.unwrap(), []);
    server.signal("STOP");
    // Those that are under way together pay together.
    let (registry, key) = (one.registry(), key());
    let together = futures_util::future::join_all((0..100).map(|_| registry.drain(&key, NOW)));
    for outcome in timed(together).await {
        assert_unavailable(outcome);
    }
    for _ in 0..20 {
        let error = timed(one.registry().drain(&key, NOW)).await.unwrap_err();
        let cause = error.cause().unwrap().for_log();
        assert!(cause.contains("away"), "those after them do not even ask: {cause}");
    }
    server.signal("CONT");
    works_again(&one).await;
    tell(&one, &mut heard).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_pauses_its_clients_delays_and_breaks_nothing() {
    let server = Server::start().await;
    let (one, two) = pair(&server.url());
    let mut heard = listening(&two.hints()).await;
    assert!(one.leases().hold("a", PATIENCE).await.unwrap());
    server.command(&["CLIENT", "PAUSE", "1500"]);
    assert_unavailable(timed(one.registry().register(&key(), &waitpoint(1), LATER)).await);
    assert_unavailable(timed(one.leases().hold("a", PATIENCE)).await);
    works_again(&one).await;
    assert!(!two.leases().hold("a", PATIENCE).await.unwrap(), "a pause loses no lease");
    tell(&one, &mut heard).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_cut_is_made_again() {
    let server = Server::start().await;
    let (one, two) = pair(&server.url());
    let mut heard = listening(&two.hints()).await;
    works_again(&one).await;
    for kind in ["normal", "pubsub"] {
        server.command(&["CLIENT", "KILL", "TYPE", kind]);
    }
    assert_eq!(next(&mut heard).await, None);
    works_again(&one).await;
    tell(&one, &mut heard).await;
}

// A partition: the connection stands, as far as either end knows, and carries nothing any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_carries_nothing_any_more_is_replaced_as_one_that_is_cut_is() {
    let server = Server::start().await;
    let proxy = Proxy::start(SocketAddr::from(([127, 0, 0, 1], server.port))).await;
    let (one, two) = pair(&format!("redis://127.0.0.1:{}", proxy.port));
    let mut heard = listening(&two.hints()).await;
    works_again(&one).await;
    proxy.silence();
    proxy.up();
    assert_eq!(next(&mut heard).await, None, "its silence was noticed");
    works_again(&one).await;
    tell(&one, &mut heard).await;
    proxy.down();
    assert_unavailable(timed(one.leases().hold("a", PATIENCE)).await);
    proxy.up();
    assert_eq!(next(&mut heard).await, None);
    works_again(&one).await;
    tell(&one, &mut heard).await;
}

#[tokio::test]
async fn a_url_with_tls_is_spoken_to_in_tls() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (_one, _) = pair(&format!("rediss://127.0.0.1:{}", listener.local_addr().unwrap().port()));
    let (mut stream, _) = timed(listener.accept()).await.unwrap();
    const HANDSHAKE: u8 = 22;
    assert_eq!(timed(stream.read_u8()).await.unwrap(), HANDSHAKE);
}

#[test]
fn a_url_that_is_none_is_refused() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _within = runtime.enter();
    let options = crate::Options { url: "http://127.0.0.1".into(), key_prefix: "a".into() };
    assert!(matches!(Redis::connect(options), Err(Error::Internal(_))));
}

/// What no call may exceed: its limit, and what a busy machine adds.
async fn timed<T>(call: impl Future<Output = T>) -> T {
    timeout(CALL_TIMEOUT + Duration::from_secs(5), call).await.expect("a call hangs")
}

fn assert_unavailable<T: std::fmt::Debug>(outcome: Result<T>) {
    assert!(matches!(outcome, Err(Error::Unavailable(_))), "{outcome:?}");
}

/// Waits and leases, as soon as there is a connection.
async fn works_again(redis: &Redis) {
    let deadline = Instant::now() + PATIENCE;
    while redis.leases().hold("again", PATIENCE).await.is_err() {
        assert!(Instant::now() < deadline, "Redis is not found again");
        sleep(Duration::from_millis(20)).await;
    }
    let (registry, key) = (redis.registry(), key());
    registry.drain(&key, NOW).await.unwrap();
    registry.register(&key, &waitpoint(9), LATER).await.unwrap();
    assert_eq!(registry.drain(&key, NOW).await.unwrap(), [waitpoint(9)]);
}

/// Sends until it is heard: the listener has a connection of its own, which may take longer.
async fn tell(from: &Redis, heard: &mut BoxStream<'static, Option<Hint>>) {
    let hints: Arc<dyn Hints> = from.hints();
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

fn key() -> WaitKey {
    let session = WaitedSession::Name("chat-1".into());
    WaitKey { environment: EnvironmentId::from_body("e"), session, direction: Direction::In }
}

fn waitpoint(number: u32) -> WaitpointId {
    WaitpointId::from_body(&format!("{number:08}"))
}

fn run(number: u32) -> Hint {
    Hint::RunChanged(RunId::from_body(&number.to_string()))
}

/// A Redis to be cruel to.
struct Server {
    port: u16,
    dir: TempDir,
    process: Child,
}

impl Server {
    async fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let dir = tempfile::tempdir().unwrap();
        let process = spawn(port, &dir);
        let server = Self { port, dir, process };
        server.answers().await;
        server
    }

    async fn restart(&mut self) {
        self.process = spawn(self.port, &self.dir);
        self.answers().await;
    }

    async fn kill(&mut self) {
        self.process.kill().await.unwrap();
    }

    async fn answers(&self) {
        let deadline = Instant::now() + PATIENCE;
        while self.command(&["PING"]).trim() != "PONG" {
            assert!(Instant::now() < deadline, "redis-server does not answer");
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// What the server's own client prints.
    fn command(&self, arguments: &[&str]) -> String {
        let port = self.port.to_string();
        let output = Command::new("redis-cli").args(["-p", &port]).args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    fn signal(&self, signal: &str) {
        let pid = self.process.id().unwrap().to_string();
        assert!(Command::new("kill").args([&format!("-{signal}"), &pid]).status().unwrap().success());
    }
}

fn spawn(port: u16, dir: &TempDir) -> Child {
    let port = port.to_string();
    tokio::process::Command::new("redis-server")
        .args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"])
        .arg(dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("no Redis server; install the package redis-server")
}
