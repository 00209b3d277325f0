//! Appends to `.in` through replicas that share Postgres, Redis, S2 and a bucket: through one of them, and through four. All of it
//! is on this machine, so four replicas have no more processors than one: what is to be seen is what sharing costs.
//!
//! `eval "$(CONTINUO_SERVICES_DURABLE=1 tests/services up)"` before it.

use crate::support::postgres::PostgresDatabase;
use crate::support::process::ServerProcess;
use crate::support::s3_server::{ACCESS_KEY, BUCKET, S3Server, SECRET_KEY};
use crate::support::{ADMIN_KEY, Client, KEY, s2_endpoint};
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
    let redis =
        std::env::var("CONTINUO_TEST_REDIS_URL").expect("no Redis; start one with: eval \"$(tests/services up)\"");
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
    println!("{appends} appends to .in, {WRITERS} writers, a session each, through replicas of one cluster");
    let mut clients = Vec::new();
    for server in &servers {
        clients.push(Client::connect(&server.url, KEY).await);
    }
    let sessions = sessions(&clients).await;
    let one = measure(&clients[..1], &sessions, appends, &watch).await;
    let four = measure(&clients, &sessions, appends, &watch).await;
    println!("  four replicas to one: {:.2}", four / one);
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

async fn measure(clients: &[Client], sessions: &[String], appends: usize, watch: &DatabaseConnection) -> f64 {
    tokio::time::sleep(STATISTICS).await;
    let (before, began) = (transactions(watch).await, Instant::now());
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
    let per_append = (transactions(watch).await - before) as f64 / samples.len() as f64;
    println!(
        "  through {}: {per_second:.0}/s, {:.0}/s each; p50 {:.2} ms, p99 {:.2} ms; {per_append:.2} transactions of Postgres an \
         append, with what follows it off the path",
        clients.len(),
        per_second / clients.len() as f64,
        ms(percentile(&mut samples, 50)),
        ms(percentile(&mut samples, 99)),
    );
    per_second
}

async fn transactions(watch: &DatabaseConnection) -> i64 {
    let sql = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()";
    let row = watch.query_one_raw(Statement::from_string(DbBackend::Postgres, sql)).await.unwrap().unwrap();
    row.try_get("", "xact_commit").unwrap()
}
