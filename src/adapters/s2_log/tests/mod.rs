//! The log as a whole, on a real `s2-lite`: the port's contract, then what only this adapter promises.

mod claims;
mod faults;
mod import;
mod model;
mod proxy;
mod rows;
mod server;
mod written;

use crate::contract::channel_store_contract;
use crate::log::S2Log;
use crate::options::{Endpoint, Options};
use continuo_domain::channel::{Append, Appended, ChannelKey, Direction, NewRecord, PartId, ReadFrom, Record};
use continuo_domain::id::OrganizationId;
use continuo_domain::{Result, SessionId, Timestamp};
use continuo_ports::{ChannelStore, Clock};
use rows::Rows;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

struct Wall;

impl Clock for Wall {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Timestamp(since.as_millis() as i64)
    }
}

fn shared_s2() -> String {
    let set = std::env::var("CONTINUO_TEST_S2_ENDPOINT");
    set.expect("CONTINUO_TEST_S2_ENDPOINT is not set; run: eval \"$(tests/services up)\"")
}

/// A basin that no other test has.
fn own_basin() -> String {
    let mut random = [0; 6];
    getrandom::fill(&mut random).unwrap();
    let mut prefix = "t".to_owned();
    crate::names::push_hex(&mut prefix, &random);
    crate::names::basin(&prefix, &OrganizationId::from_body("test"))
}

fn open(endpoint: &str, rows: &Arc<Rows>) -> Arc<S2Log> {
    open_with(endpoint, rows, |_| {})
}

fn open_with(endpoint: &str, rows: &Arc<Rows>, set: impl FnOnce(&mut Options)) -> Arc<S2Log> {
    let mut options = Options::new(Endpoint::Url(endpoint.to_owned()), "unused");
    set(&mut options);
    Arc::new(S2Log::open(options, rows.clone(), Arc::new(Wall)).unwrap())
}

async fn own_rows() -> (Arc<Rows>, TempDir) {
    let dir = TempDir::new().unwrap();
    let rows = Rows::open(dir.path(), own_basin()).await;
    (Arc::new(rows), dir)
}

async fn on_s2_lite() -> (Arc<dyn ChannelStore>, TempDir) {
    let (rows, dir) = own_rows().await;
    (open(&shared_s2(), &rows), dir)
}

channel_store_contract!(s2_log, crate::contract, on_s2_lite());

fn key(body: &str) -> ChannelKey {
    ChannelKey::reserved(SessionId::from_body(body), Direction::In)
}

fn one(body: &str) -> Append {
    Append::one(NewRecord::data(body.to_owned()))
}

fn part(text: &str) -> PartId {
    PartId::parse(text).unwrap()
}

fn with_part(body: &str, part_id: &str) -> Append {
    Append { part_id: Some(part(part_id)), ..one(body) }
}

async fn read_all(log: &dyn ChannelStore, key: &ChannelKey) -> Vec<Record> {
    let mut records: Vec<Record> = Vec::new();
    loop {
        let next = records.last().map_or(0, |last| last.seq_num + 1);
        let (batch, _) = log.read(key, ReadFrom::seq_num(next)).await.unwrap();
        if batch.is_empty() {
            return records;
        }
        records.extend(batch);
    }
}

/// Of the data records: take-overs leave fences between them.
async fn bodies(log: &dyn ChannelStore, key: &ChannelKey) -> Vec<String> {
    let data = read_all(log, key).await.into_iter().filter(|record| !record.is_command());
    data.map(|record| String::from_utf8(record.body.to_vec()).unwrap()).collect()
}

const SOON: Duration = Duration::from_secs(120);

/// Looks again and again, until it is so.
async fn until(mut is_so: impl AsyncFnMut() -> bool) {
    until_some(async || is_so().await.then_some(())).await;
}

async fn until_some<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(SOON, looking).await.expect("it becomes so")
}
