//! A core on real adapters, with hands on its clock and its calls.

mod clock;
mod gated;
mod gates;
mod ledger;
mod replicas;
mod run;
mod worker;
mod world;

pub(crate) use clock::TestClock;
pub(crate) use gates::Gates;
pub(crate) use ledger::Ledger;
pub(crate) use replicas::{Owner, Replicas};
pub(crate) use run::RunningRun;
pub(crate) use worker::TestWorker;
pub(crate) use world::{TASK, World, new_session};

use continuo_domain::channel::{Append, ChannelName, Direction, Header, NewRecord, PartId, Record};
use continuo_domain::session::{ExternalId, SessionRef};
use continuo_usecases::{AppendRequest, Boot, ChannelTarget};
use std::time::Duration;

/// What happens at once in a correct core. The limit is for a broken one.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), what).await.expect("it did not happen")
}

/// A session by name.
pub(crate) fn named(name: &str) -> SessionRef {
    SessionRef::External(ExternalId::trusted(name.to_owned()))
}

/// The reserved `.in`.
pub(crate) fn input(session: &SessionRef) -> ChannelTarget {
    ChannelTarget { session: session.clone(), name: None, direction: Direction::In }
}

/// The reserved `.out`.
pub(crate) fn output(session: &SessionRef) -> ChannelTarget {
    ChannelTarget { session: session.clone(), name: None, direction: Direction::Out }
}

/// A named channel.
pub(crate) fn channel(session: &SessionRef, name: &str, direction: Direction) -> ChannelTarget {
    ChannelTarget { session: session.clone(), name: Some(ChannelName::parse(name).unwrap()), direction }
}

/// One record without conditions.
pub(crate) fn append(channel: ChannelTarget, record: NewRecord) -> AppendRequest {
    AppendRequest { channel, append: Append::one(record), boot: Boot::Default }
}

/// A text for a channel.
pub(crate) fn text(channel: ChannelTarget, body: &str) -> AppendRequest {
    append(channel, NewRecord::data(body.to_owned()))
}

/// A text with a part id.
pub(crate) fn part(channel: ChannelTarget, body: &str, part_id: &str) -> AppendRequest {
    let mut request = text(channel, body);
    request.append.part_id = Some(PartId::parse(part_id).unwrap());
    request
}

/// A control record.
pub(crate) fn control(subtype: &str) -> NewRecord {
    NewRecord { headers: vec![Header::new("trigger-control", subtype.to_owned())], ..NewRecord::default() }
}

/// The record that ends a turn, with how far the turn read.
pub(crate) fn turn_complete(read: Option<u64>) -> NewRecord {
    let mut record = control("turn-complete");
    record.headers.extend(read.map(|n| Header::new("session-in-event-id", n.to_string())));
    record
}

/// The bodies of the records that are not commands.
pub(crate) fn bodies(records: &[Record]) -> Vec<String> {
    let data = records.iter().filter(|r| !r.is_command());
    data.map(|r| String::from_utf8(r.body.to_vec()).unwrap()).collect()
}
