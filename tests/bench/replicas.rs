//! Appends to `.in` through replicas that share Postgres, Redis, S2 and a bucket: through one of them, and through four. All of it
//! is on this machine, so four replicas have no more processors than one: what is to be seen is what sharing costs. So each line
//! says who used the processors: a replica among four that needs as much for an append as one alone loses nothing by the others,
//! and the rest is what they share.
//!
//! `eval "$(CONTINUO_SERVICES_DURABLE=1 tests/services up)"` before it.

use crate::support::postgres::PostgresDatabase;
use crate::support::process::ServerProcess;
use crate::support::s3_server::{ACCESS_KEY, BUCKET, S3Server, SECRET_KEY};
use crate::support::{ADMIN_KEY, Client, KEY, redis_url, s2_endpoint};
use crate::{ms, percentile, sized};
use continuo_proto::v1::Direction;
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement};
use std::time::{Duration, Instant};

const REPLICAS: usize = 4;
const WRITERS: usize = 64;
const MASTER_KEY: &str = "aGVyZSBhcmUgdGhpcnR5LXR3byBieXRlcyBvZiBrZXk=";
/// Postgres tells of its transactions with a delay.
const STATISTICS: Duration = Duration::from_millis(1_500);

pub(crate) async fn run() {
    let appends = sized(20_000);
    let (database, bucket, s2) = (PostgresDatabase::migrated().await, S3Server::start().await, s2_endpoint());
    let redis = redis_url();
    let settings = [
        ("CONTINUO_DATABASE_URL", database.url.as_str()),
        ("CONTINUO_S2_ENDPOINT", &s2),
        ("CONTINUO_S2_BASIN_PREFIX", "bench"),
        ("CONTINUO_REDIS_URL", &redis),
        ("CONTINUO_REDIS_PREFIX", "bench"),
        ("CONTINUO_BLOBS_S3_ENDPOINT", &bucket.endpoint),
        ("CONTINUO_BLOBS_S3_BUCKET", BUCKET),
        ("CONTINUO_BLOBS_S3_ACCESS_KEY", ACCESS_KEY),
        ("CONTINUO_BLOBS_S3_SECRET_KEY", SECRET_KEY),
        ("CONTINUO_MASTER_KEY", MASTER_KEY),
        ("CONTINUO_ADMIN_KEY", ADMIN_KEY),
        ("CONTINUO_LOG", "warn"),
    ];
    let mut servers = Vec::new();
    for _ in 0..REPLICAS {
        servers.push(ServerProcess::start_with(&settings).await);
    }
    let watch = sea_orm::Database::connect(&database.url).await.unwrap();
    println!("{appends} appends to .in, each writer to a session of its own, through replicas of one cluster");
    let mut clients = Vec::new();
    for server in &servers {
        clients.push(Client::connect(&server.url, KEY).await);
    }
    let sessions = sessions(&clients).await;
    // As many writers as each of the four will have: a replica that has more to do at once does it more cheaply.
    let share = measure(&clients[..1], &servers, &sessions[..WRITERS / REPLICAS], appends / REPLICAS, &watch).await;
    let one = measure(&clients[..1], &servers, &sessions, appends, &watch).await;
    let four = measure(&clients, &servers, &sessions, appends, &watch).await;
    println!("  four replicas to one with all writers: {:.2} of the throughput", four.per_second / one.per_second);
    println!(
        "  a replica of four to one with as many writers: {:.2} of the processor time for an append",
        four.replica_ms / share.replica_ms
    );
    for server in servers {
        server.stop().await;
    }
}

/// With a run that waits for its worker, which is as alive as any.
async fn sessions(clients: &[Client]) -> Vec<String> {
    let mut sessions = Vec::new();
    for writer in 0..WRITERS {
        let client = &clients[writer % clients.len()];
        let session = client.create(Some(&format!("bench-{writer}"))).await.session.unwrap().id;
        client.append(&session, Direction::In, "the first makes the stream").await.unwrap();
        sessions.push(session);
    }
    sessions
}

struct Measured {
    per_second: f64,
    /// Milliseconds of processor time that replicas need for an append.
    replica_ms: f64,
}

async fn measure(
    clients: &[Client],
    servers: &[ServerProcess],
    sessions: &[String],
    appends: usize,
    watch: &DatabaseConnection,
) -> Measured {
    tokio::time::sleep(STATISTICS).await;
    let (before, cpu, began) = (transactions(watch).await, Cpu::of(servers), Instant::now());
    let each = appends / sessions.len();
    let writers = sessions.iter().enumerate().map(|(writer, session)| {
        let (client, session) = (clients[writer % clients.len()].clone(), session.clone());
        tokio::spawn(async move {
            let mut samples = Vec::with_capacity(each);
            for _ in 0..each {
                let began = Instant::now();
                client.append(&session, Direction::In, "a message of a chat, about as long as they are").await.unwrap();
                samples.push(began.elapsed());
            }
            samples
        })
    });
    let writers: Vec<_> = writers.collect();
    let mut samples = Vec::with_capacity(appends);
    for writer in writers {
        samples.extend(writer.await.unwrap());
    }
    let per_second = samples.len() as f64 / began.elapsed().as_secs_f64();
    tokio::time::sleep(STATISTICS).await;
    let each = |total: f64| total / samples.len() as f64;
    let (per_append, cpu) = (each((transactions(watch).await - before) as f64), Cpu::of(servers).since(cpu));
    let (replica_ms, others_ms) = (each(cpu.replicas_ms), each(cpu.others_ms));
    println!(
        "  {} writers through {}: {per_second:.0}/s, {:.0}/s each; p50 {:.2} ms, p99 {:.2} ms; {per_append:.2} transactions of Postgres an \
         append, with what follows it off the path; processor time of an append: {replica_ms:.3} ms in replicas, {others_ms:.3} ms \
         in engines and writers",
        sessions.len(),
        clients.len(),
        per_second / clients.len() as f64,
        ms(percentile(&mut samples, 50)),
        ms(percentile(&mut samples, 99)),
    );
    Measured { per_second, replica_ms }
}

/// Processor time since the machine, or the process, was started.
#[derive(Clone, Copy)]
struct Cpu {
    replicas_ms: f64,
    others_ms: f64,
}

impl Cpu {
    fn of(servers: &[ServerProcess]) -> Self {
        let replicas_ms = servers.iter().map(|server| process_ms(server.id())).sum();
        Self { replicas_ms, others_ms: machine_ms() - replicas_ms }
    }

    fn since(self, before: Self) -> Self {
        Self { replicas_ms: self.replicas_ms - before.replicas_ms, others_ms: self.others_ms - before.others_ms }
    }
}

/// The kernel counts in hundredths of a second for whoever reads these files.
const TICK_MS: f64 = 10.0;

/// Of one process, user and system: the fields 14 and 15, counted from behind its name.
fn process_ms(id: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    let behind_name = stat.rsplit_once(") ").unwrap().1;
    behind_name.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>() * TICK_MS
}

/// Of all processes: user, nice and system.
fn machine_ms() -> f64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap();
    let all = stat.lines().next().unwrap().split_whitespace().skip(1).take(3);
    all.map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>() * TICK_MS
}

async fn transactions(watch: &DatabaseConnection) -> i64 {
    let sql = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()";
    let row = watch.query_one_raw(Statement::from_string(DbBackend::Postgres, sql)).await.unwrap().unwrap();
    row.try_get("", "xact_commit").unwrap()
}
