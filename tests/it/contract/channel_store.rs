//! What every `ChannelStore` promises, as tests over `dyn ChannelStore`. An adapter runs all of them with
//!
//! ```ignore
//! channel_store_contract!(embedded_log, crate::contract::channel_store, on_a_temp_dir());
//! ```
//!
//! where the last part makes a future of `(Arc<dyn ChannelStore>, guard)`; the guard is dropped after the test. Nothing
//! here waits by the clock: what must not happen is looked for with one poll, after everything that could cause it.

use bytes::Bytes;
use continuo_domain::channel::{
    APPEND_METERED_BYTES_MAX, APPEND_RECORDS_MAX, Append, Appended, COMMAND_TRIM, ChannelKey, ChannelName, Direction,
    FencingToken, Header, NewRecord, PartId, Position, RECORD_METERED_BYTES_MAX, ReadFrom, ReadStart, Record, SeqNum,
    Tail,
};
use continuo_domain::{Error, Result, SessionId, Timestamp};
use continuo_ports::channel_store::{READ_BATCH_BYTES_MAX, READ_BATCH_RECORDS_MAX};
use continuo_ports::{ChannelStore, ReadEvent, WrittenChannel, WrittenPage};
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt, future};
use std::sync::Arc;

/// One test per promise.
macro_rules! channel_store_contract {
    ($adapter:ident, $($suite:ident)::+, $new:expr) => {
        mod $adapter {
            use super::*;
            use $($suite)::+ as suite;

            channel_store_contract! { @tests $new;
                a_channel_never_written_reads_as_empty
                numbers_rise_from_zero_without_gaps
                records_read_back_as_they_were_written
                an_append_lands_together
                channels_do_not_share_records
                sixty_four_writers_leave_no_gap
                timestamps_never_fall
                match_seq_num_must_be_the_next_number
                a_race_for_a_number_has_one_winner
                a_repeated_part_id_gets_the_first_outcome
                concurrent_repeats_make_one_record
                a_part_id_with_another_record_is_refused
                a_part_id_is_known_before_any_condition
                a_part_id_belongs_to_its_channel
                a_fencing_token_must_be_in_force
                a_fence_counts_for_what_comes_after_it
                a_fence_in_the_middle_of_an_append_counts_after_it
                a_trim_hides_what_lies_before
                a_trim_never_goes_back_nor_past_the_tail
                numbers_are_not_used_again_after_a_trim
                limits_hold_at_their_edges
                a_refused_append_changes_nothing
                a_read_begins_where_it_is_asked_to
                a_start_past_the_tail_is_refused_or_clamped
                a_batch_ends_at_its_limits
                a_long_channel_reads_through
                a_follower_replays_then_follows
                a_follower_may_come_before_the_first_record
                a_follower_sees_everything_once_while_writers_write
                a_follower_that_sleeps_blocks_nobody
                a_follower_is_told_of_a_gap
                a_follower_overtaken_by_a_trim_is_told_of_the_gap
                a_follower_of_an_emptied_channel_is_told_when_it_has_caught_up
                many_followers_of_one_channel_see_the_same
                a_deleted_session_starts_anew
                a_delete_ends_followers
                a_delete_leaves_other_sessions
                a_session_lists_the_channels_that_were_written
                a_list_of_channels_goes_on_where_its_page_ended
                a_list_has_what_was_acknowledged_before_it
                a_deleted_session_lists_what_was_written_since
            }
        }
    };
    (@tests $new:expr; $($test:ident)+) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                let (store, guard) = $new.await;
                suite::$test(store).await;
                drop(guard);
            }
        )+
    };
}
pub(crate) use channel_store_contract;

type Store = Arc<dyn ChannelStore>;
type Events = BoxStream<'static, Result<ReadEvent>>;

fn session(body: &str) -> SessionId {
    SessionId::from_body(body)
}

fn key(body: &str) -> ChannelKey {
    ChannelKey::reserved(session(body), Direction::In)
}

fn data(body: &str) -> NewRecord {
    NewRecord::data(body.to_owned())
}

fn numbered(count: usize, body_bytes: usize) -> Vec<NewRecord> {
    (0..count).map(|n| NewRecord::data(format!("{n:0body_bytes$}"))).collect()
}

fn all(records: Vec<NewRecord>) -> Append {
    Append { records, ..Append::default() }
}

fn with_part(body: &str, part_id: &str) -> Append {
    Append { part_id: Some(PartId::parse(part_id).unwrap()), ..Append::one(data(body)) }
}

fn token(text: &str) -> FencingToken {
    FencingToken::parse(text).unwrap()
}

fn from(start: ReadStart) -> ReadFrom {
    ReadFrom { start, clamp: false }
}

async fn put(store: &Store, key: &ChannelKey, body: &str) -> Appended {
    store.append(key, Append::one(data(body))).await.unwrap()
}

/// Everything there is, in as many reads as it takes.
async fn read_all(store: &Store, key: &ChannelKey) -> Vec<Record> {
    let mut records: Vec<Record> = Vec::new();
    loop {
        let next = records.last().map_or(0, |last| last.seq_num + 1);
        let (batch, tail) = store.read(key, ReadFrom::seq_num(next)).await.unwrap();
        assert!(batch.iter().all(|record| record.seq_num < tail.position.seq_num), "beyond the tail");
        if batch.is_empty() {
            return records;
        }
        records.extend(batch);
    }
}

async fn bodies(store: &Store, key: &ChannelKey) -> Vec<String> {
    read_all(store, key).await.iter().map(|r| String::from_utf8(r.body.to_vec()).unwrap()).collect()
}

async fn follow(store: &Store, key: &ChannelKey, seq_num: SeqNum) -> Events {
    store.follow(key, ReadFrom::seq_num(seq_num)).await.unwrap()
}

async fn next(events: &mut Events) -> ReadEvent {
    events.next().await.expect("the stream goes on").unwrap()
}

async fn next_records(events: &mut Events) -> Vec<Record> {
    match next(events).await {
        ReadEvent::Records(records) => records.to_vec(),
        other => panic!("records expected, not {other:?}"),
    }
}

async fn next_tail(events: &mut Events) -> Tail {
    match next(events).await {
        ReadEvent::CaughtUp(tail) => tail,
        other => panic!("caught up expected, not {other:?}"),
    }
}

/// The records up to `count`, whatever else is told between them.
async fn take(events: &mut Events, count: usize) -> Vec<Record> {
    let mut records = Vec::new();
    while records.len() < count {
        if let ReadEvent::Records(batch) = next(events).await {
            assert!(!batch.is_empty() && batch.len() <= READ_BATCH_RECORDS_MAX);
            records.extend(batch.iter().cloned());
        }
    }
    records
}

fn numbers(records: &[Record]) -> Vec<SeqNum> {
    records.iter().map(|record| record.seq_num).collect()
}

fn is_waiting(events: &mut Events) -> bool {
    events.next().now_or_never().is_none()
}

pub(crate) async fn a_channel_never_written_reads_as_empty(store: Store) {
    let key = key("a");
    assert_eq!(store.tail(&key).await.unwrap(), Tail::default());
    assert_eq!(store.read(&key, ReadFrom::seq_num(0)).await.unwrap(), (Vec::new(), Tail::default()));
    assert_eq!(store.read(&key, from(ReadStart::SeqNum(0))).await.unwrap().0, Vec::new());
    assert_eq!(store.read(&key, from(ReadStart::TailOffset(5))).await.unwrap().0, Vec::new());
    assert_eq!(store.part(&key, &PartId::parse("p").unwrap()).await.unwrap(), None);
    store.delete(&key.session).await.unwrap();
}

pub(crate) async fn numbers_rise_from_zero_without_gaps(store: Store) {
    let key = key("a");
    for n in 0..5 {
        let appended = put(&store, &key, "x").await;
        assert_eq!((appended.start.seq_num, appended.end.seq_num, appended.tail.seq_num), (n, n + 1, n + 1));
        assert_eq!(appended.start.timestamp, appended.end.timestamp);
        assert!(!appended.repeated);
    }
    let appended = store.append(&key, all(numbered(3, 4))).await.unwrap();
    assert_eq!((appended.start.seq_num, appended.end.seq_num), (5, 8));
    let tail = store.tail(&key).await.unwrap();
    assert_eq!(tail.position, appended.tail);
    assert_eq!(numbers(&read_all(&store, &key).await), (0..8).collect::<Vec<_>>());
}

pub(crate) async fn records_read_back_as_they_were_written(store: Store) {
    let key = key("a");
    let records = vec![
        NewRecord::default(),
        NewRecord { headers: vec![Header::new("name", "value"), Header::new("name", "")], body: Bytes::new() },
        NewRecord::data(vec![0u8, 255, 10, 13]),
        NewRecord { headers: vec![Header::new(vec![0u8, 200], vec![7u8; 300])], body: Bytes::from(vec![1u8; 70_000]) },
        NewRecord::fence(&token("1.2")),
        NewRecord::trim(0),
    ];
    store.append(&key, all(records.clone())).await.unwrap();
    let read = read_all(&store, &key).await;
    assert_eq!(read.len(), records.len());
    for (read, written) in read.iter().zip(&records) {
        assert_eq!((&read.headers, &read.body), (&written.headers, &written.body));
    }
}

pub(crate) async fn an_append_lands_together(store: Store) {
    let key = key("a");
    let mut events = follow(&store, &key, 0).await;
    next_tail(&mut events).await;
    let writers = (0..8).map(|writer| {
        let (store, key) = (store.clone(), key.clone());
        tokio::spawn(async move {
            for _ in 0..10 {
                let body = format!("{writer}");
                store.append(&key, all(vec![data(&body), data(&body), data(&body)])).await.unwrap();
            }
        })
    });
    let writers = future::join_all(writers.collect::<Vec<_>>());
    let records = take(&mut events, 240).await;
    assert!(writers.await.iter().all(std::result::Result::is_ok));
    for together in records.chunks(3) {
        assert!(together.iter().all(|r| r.body == together[0].body && r.timestamp == together[0].timestamp));
    }
}

pub(crate) async fn channels_do_not_share_records(store: Store) {
    let session = session("a");
    let name = ChannelName::parse("in").unwrap();
    let keys = [None, Some(name)].into_iter().flat_map(|name| {
        [Direction::In, Direction::Out].map(|direction| ChannelKey {
            session: session.clone(),
            name: name.clone(),
            direction,
        })
    });
    let keys: Vec<_> = keys.chain([key("ab"), key("b")]).collect();
    for key in &keys {
        assert_eq!(put(&store, key, &key.to_string()).await.start.seq_num, 0);
    }
    for key in &keys {
        assert_eq!(bodies(&store, key).await, [key.to_string()]);
    }
}

pub(crate) async fn sixty_four_writers_leave_no_gap(store: Store) {
    let key = key("a");
    let writers = (0..64).map(|writer| {
        let (store, key) = (store.clone(), key.clone());
        tokio::spawn(async move {
            let mut own = Vec::new();
            for n in 0..10 {
                own.push(put(&store, &key, &format!("{writer}/{n}")).await.start.seq_num);
            }
            assert!(own.windows(2).all(|w| w[0] < w[1]), "appends awaited one after the other keep their order");
            own
        })
    });
    let done = future::join_all(writers.collect::<Vec<_>>()).await;
    let mut acknowledged: Vec<_> = done.into_iter().flat_map(std::result::Result::unwrap).collect();
    acknowledged.sort_unstable();
    assert_eq!(acknowledged, (0..640).collect::<Vec<_>>());
    assert_eq!(numbers(&read_all(&store, &key).await), acknowledged);
}

pub(crate) async fn timestamps_never_fall(store: Store) {
    let key = key("a");
    let mut last = Timestamp::default();
    for _ in 0..20 {
        let appended = put(&store, &key, "x").await;
        assert!(appended.start.timestamp >= last);
        last = appended.end.timestamp;
    }
    let times: Vec<_> = read_all(&store, &key).await.iter().map(|r| r.timestamp).collect();
    assert!(times.is_sorted());
    assert_eq!(store.tail(&key).await.unwrap().position.timestamp, last);
}

pub(crate) async fn match_seq_num_must_be_the_next_number(store: Store) {
    let key = key("a");
    let at = |seq_num| Append { match_seq_num: Some(seq_num), ..Append::one(data("x")) };
    assert_eq!(store.append(&key, at(0)).await.unwrap().start.seq_num, 0);
    for wrong in [0, 2, u64::MAX] {
        let refused = store.append(&key, at(wrong)).await;
        assert!(matches!(refused, Err(Error::SeqNumMismatch { tail_seq_num: 1 })), "{refused:?}");
    }
    assert_eq!(store.append(&key, at(1)).await.unwrap().start.seq_num, 1);
}

pub(crate) async fn a_race_for_a_number_has_one_winner(store: Store) {
    let key = key("a");
    for round in 0..10 {
        let appends = (0..16).map(|writer| {
            let append = Append { match_seq_num: Some(round), ..Append::one(data(&format!("{writer}"))) };
            let (store, key) = (store.clone(), key.clone());
            tokio::spawn(async move { store.append(&key, append).await })
        });
        let done = future::join_all(appends.collect::<Vec<_>>()).await;
        let (won, lost): (Vec<_>, Vec<_>) = done.into_iter().map(std::result::Result::unwrap).partition(Result::is_ok);
        assert_eq!((won.len(), lost.len()), (1, 15));
        for lost in lost {
            assert!(matches!(lost, Err(Error::SeqNumMismatch { tail_seq_num }) if tail_seq_num == round + 1));
        }
    }
    assert_eq!(read_all(&store, &key).await.len(), 10);
}

pub(crate) async fn a_repeated_part_id_gets_the_first_outcome(store: Store) {
    let key = key("a");
    put(&store, &key, "before").await;
    let first = store.append(&key, with_part("x", "p")).await.unwrap();
    put(&store, &key, "after").await;
    let again = store.append(&key, with_part("x", "p")).await.unwrap();
    assert_eq!((again.start, again.end, again.repeated), (first.start, first.end, true));
    assert_eq!(again.tail.seq_num, 3);
    assert_eq!(bodies(&store, &key).await, ["before", "x", "after"]);
    assert_eq!(store.part(&key, &PartId::parse("p").unwrap()).await.unwrap(), Some(1));
}

pub(crate) async fn concurrent_repeats_make_one_record(store: Store) {
    let key = key("a");
    for round in 0..10u64 {
        let part_id = format!("p{round}");
        let appends = (0..32).map(|_| {
            let (store, key, append) = (store.clone(), key.clone(), with_part("x", &part_id));
            tokio::spawn(async move { store.append(&key, append).await.unwrap() })
        });
        let done = future::join_all(appends.collect::<Vec<_>>()).await;
        let done: Vec<_> = done.into_iter().map(std::result::Result::unwrap).collect();
        assert!(done.iter().all(|appended| appended.start == done[0].start && appended.start.seq_num == round));
        assert_eq!(done.iter().filter(|appended| !appended.repeated).count(), 1);
    }
    assert_eq!(read_all(&store, &key).await.len(), 10);
}

pub(crate) async fn a_part_id_with_another_record_is_refused(store: Store) {
    let key = key("a");
    store.append(&key, with_part("x", "p")).await.unwrap();
    let other = store.append(&key, with_part("y", "p")).await;
    assert!(matches!(other, Err(Error::PartIdReused { seq_num: 0 })), "{other:?}");
    let mut with_header = with_part("x", "p");
    with_header.records[0].headers.push(Header::new("a", "b"));
    let other = store.append(&key, with_header).await;
    assert!(matches!(other, Err(Error::PartIdReused { seq_num: 0 })), "{other:?}");
    assert_eq!(bodies(&store, &key).await, ["x"]);
}

pub(crate) async fn a_part_id_is_known_before_any_condition(store: Store) {
    let key = key("a");
    let first = store.append(&key, with_part("x", "p")).await.unwrap();
    store.append(&key, Append::one(NewRecord::fence(&token("2.0")))).await.unwrap();
    let again = Append { fencing_token: Some(token("1.0")), match_seq_num: Some(77), ..with_part("x", "p") };
    let again = store.append(&key, again).await.unwrap();
    assert_eq!((again.start, again.repeated), (first.start, true));
    let fresh = Append { fencing_token: Some(token("1.0")), ..with_part("x", "q") };
    assert!(matches!(store.append(&key, fresh).await, Err(Error::Fenced { .. })));
    assert_eq!(store.part(&key, &PartId::parse("q").unwrap()).await.unwrap(), None);
}

pub(crate) async fn a_part_id_belongs_to_its_channel(store: Store) {
    store.append(&key("a"), with_part("x", "p")).await.unwrap();
    let other = store.append(&key("b"), with_part("y", "p")).await.unwrap();
    assert!(!other.repeated);
    assert_eq!(bodies(&store, &key("b")).await, ["y"]);
}

pub(crate) async fn a_fencing_token_must_be_in_force(store: Store) {
    let key = key("a");
    let under = |text| Append { fencing_token: Some(token(text)), ..Append::one(data("x")) };
    store.append(&key, under("")).await.unwrap();
    let refused = store.append(&key, under("1.0")).await;
    assert!(matches!(&refused, Err(Error::Fenced { fencing_token }) if fencing_token.is_empty()), "{refused:?}");
    store.append(&key, Append::one(NewRecord::fence(&token("1.0")))).await.unwrap();
    assert_eq!(store.tail(&key).await.unwrap().fencing_token, token("1.0"));
    store.append(&key, under("1.0")).await.unwrap();
    let refused = store.append(&key, under("")).await;
    assert!(matches!(&refused, Err(Error::Fenced { fencing_token }) if fencing_token == "1.0"), "{refused:?}");
    // Who names no token is not fenced.
    put(&store, &key, "x").await;
    // The fence is named before the number.
    let both = Append { match_seq_num: Some(99), ..under("0.1") };
    assert!(matches!(store.append(&key, both).await, Err(Error::Fenced { .. })));
}

pub(crate) async fn a_fence_counts_for_what_comes_after_it(store: Store) {
    let key = key("a");
    let old = (0..32).map(|_| {
        let append = Append { fencing_token: Some(token("")), ..Append::one(data("old")) };
        let (store, key) = (store.clone(), key.clone());
        tokio::spawn(async move { store.append(&key, append).await })
    });
    let old: Vec<_> = old.collect();
    let fence = store.append(&key, Append::one(NewRecord::fence(&token("1.0")))).await.unwrap().start.seq_num;
    for done in future::join_all(old).await {
        match done.unwrap() {
            Ok(appended) => assert!(appended.start.seq_num < fence),
            Err(error) => assert!(matches!(error, Error::Fenced { .. }), "{error}"),
        }
    }
    let records = read_all(&store, &key).await;
    assert!(records.iter().all(|record| record.is_command() == (record.seq_num == fence)));
    assert!(records.iter().all(|record| record.seq_num <= fence));
}

pub(crate) async fn a_fence_in_the_middle_of_an_append_counts_after_it(store: Store) {
    let key = key("a");
    let records = vec![data("x"), NewRecord::fence(&token("3.0")), data("y")];
    let append = Append { fencing_token: Some(token("")), ..all(records) };
    assert_eq!(store.append(&key, append).await.unwrap().end.seq_num, 3);
    let next = Append { fencing_token: Some(token("3.0")), ..Append::one(data("z")) };
    assert_eq!(store.append(&key, next).await.unwrap().start.seq_num, 3);
}

pub(crate) async fn a_trim_hides_what_lies_before(store: Store) {
    let key = key("a");
    store.append(&key, all(numbered(10, 1))).await.unwrap();
    let trim = store.append(&key, Append::one(NewRecord::trim(7))).await.unwrap();
    assert_eq!(trim.start.seq_num, 10);
    let tail = store.tail(&key).await.unwrap();
    assert_eq!((tail.position.seq_num, tail.earliest_seq_num), (11, 7));
    assert_eq!(numbers(&read_all(&store, &key).await), [7, 8, 9, 10]);
    let (from_three, _) = store.read(&key, from(ReadStart::SeqNum(3))).await.unwrap();
    assert_eq!(from_three[0].seq_num, 7);
    let (from_offset, _) = store.read(&key, from(ReadStart::TailOffset(100))).await.unwrap();
    assert_eq!(from_offset[0].seq_num, 7);
    let (from_time, _) = store.read(&key, from(ReadStart::Timestamp(Timestamp(0)))).await.unwrap();
    assert_eq!(from_time[0].seq_num, 7);
}

pub(crate) async fn a_trim_never_goes_back_nor_past_the_tail(store: Store) {
    let key = key("a");
    store.append(&key, all(numbered(5, 1))).await.unwrap();
    store.append(&key, Append::one(NewRecord::trim(4))).await.unwrap();
    store.append(&key, Append::one(NewRecord::trim(2))).await.unwrap();
    assert_eq!(store.tail(&key).await.unwrap().earliest_seq_num, 4);
    store.append(&key, Append::one(NewRecord::trim(u64::MAX))).await.unwrap();
    let tail = store.tail(&key).await.unwrap();
    assert_eq!((tail.position.seq_num, tail.earliest_seq_num), (8, 8));
    assert_eq!(read_all(&store, &key).await, []);
}

pub(crate) async fn numbers_are_not_used_again_after_a_trim(store: Store) {
    let key = key("a");
    store.append(&key, all(numbered(3, 1))).await.unwrap();
    store.append(&key, Append::one(NewRecord::trim(4))).await.unwrap();
    assert_eq!(put(&store, &key, "x").await.start.seq_num, 4);
    assert_eq!(numbers(&read_all(&store, &key).await), [4]);
}

pub(crate) async fn limits_hold_at_their_edges(store: Store) {
    let key = key("a");
    let largest = || NewRecord::data(vec![b'x'; RECORD_METERED_BYTES_MAX - 8]);
    store.append(&key, Append::one(largest())).await.unwrap();
    let too_large = Append::one(NewRecord::data(vec![b'x'; RECORD_METERED_BYTES_MAX - 7]));
    assert!(matches!(store.append(&key, too_large).await, Err(Error::RecordTooLarge { .. })));
    store.append(&key, all(numbered(APPEND_RECORDS_MAX, 8))).await.unwrap();
    let too_many = all(numbered(APPEND_RECORDS_MAX + 1, 8));
    assert!(matches!(store.append(&key, too_many).await, Err(Error::InvalidArgument(_))));
    let half = || NewRecord::data(vec![b'x'; APPEND_METERED_BYTES_MAX / 2 - 8]);
    store.append(&key, all(vec![half(), half()])).await.unwrap();
    let too_heavy = all(vec![half(), half(), NewRecord::default()]);
    assert!(matches!(store.append(&key, too_heavy).await, Err(Error::InvalidArgument(_))));
    assert!(matches!(store.append(&key, Append::default()).await, Err(Error::InvalidArgument(_))));
    let most_headers = vec![Header::new("a", ""); (RECORD_METERED_BYTES_MAX - 8) / 3];
    store.append(&key, Append::one(NewRecord { headers: most_headers, body: Bytes::new() })).await.unwrap();
    let longest = Append { part_id: Some(PartId::parse(&"p".repeat(1_024)).unwrap()), ..Append::one(largest()) };
    store.append(&key, longest).await.unwrap();
    let records = read_all(&store, &key).await;
    assert_eq!(numbers(&records), (0..1_005).collect::<Vec<_>>());
    assert_eq!(records[0].body, largest().body);
    assert_eq!(records[1_003].headers.len(), (RECORD_METERED_BYTES_MAX - 8) / 3);
}

pub(crate) async fn a_refused_append_changes_nothing(store: Store) {
    let key = key("a");
    put(&store, &key, "x").await;
    let before = store.tail(&key).await.unwrap();
    let bad_command = NewRecord { headers: vec![Header::new("", COMMAND_TRIM)], body: Bytes::from_static(b"1") };
    assert!(store.append(&key, all(vec![data("y"), bad_command])).await.is_err());
    let part_of_two = Append { part_id: Some(PartId::parse("p").unwrap()), ..all(vec![data("y"), data("z")]) };
    assert!(store.append(&key, part_of_two).await.is_err());
    let mismatch = Append { match_seq_num: Some(9), ..with_part("y", "p") };
    assert!(store.append(&key, mismatch).await.is_err());
    let trim_under_a_wrong_token =
        Append { fencing_token: Some(token("9.9")), ..all(vec![NewRecord::trim(1), NewRecord::fence(&token("5.5"))]) };
    assert!(store.append(&key, trim_under_a_wrong_token).await.is_err());
    assert_eq!(store.tail(&key).await.unwrap(), before);
    assert_eq!(store.part(&key, &PartId::parse("p").unwrap()).await.unwrap(), None);
    assert_eq!(put(&store, &key, "z").await.start.seq_num, 1);
}

pub(crate) async fn a_read_begins_where_it_is_asked_to(store: Store) {
    let key = key("a");
    for n in 0..20 {
        put(&store, &key, &n.to_string()).await;
    }
    let records = read_all(&store, &key).await;
    let first = async |start| {
        let (read, tail) = store.read(&key, from(start)).await.unwrap();
        assert_eq!(tail.position.seq_num, 20);
        read.first().map(|record| record.seq_num)
    };
    assert_eq!(first(ReadStart::SeqNum(5)).await, Some(5));
    assert_eq!(first(ReadStart::SeqNum(20)).await, None);
    assert_eq!(first(ReadStart::TailOffset(0)).await, None);
    assert_eq!(first(ReadStart::TailOffset(3)).await, Some(17));
    assert_eq!(first(ReadStart::TailOffset(99)).await, Some(0));
    for record in &records {
        let Timestamp(time) = record.timestamp;
        for at in [time, time - 1] {
            let expected = records.iter().find(|record| record.timestamp.0 >= at).map(|record| record.seq_num);
            assert_eq!(first(ReadStart::Timestamp(Timestamp(at))).await, expected);
        }
    }
}

pub(crate) async fn a_start_past_the_tail_is_refused_or_clamped(store: Store) {
    let key = key("a");
    store.append(&key, all(numbered(3, 1))).await.unwrap();
    let Timestamp(last) = store.tail(&key).await.unwrap().position.timestamp;
    for start in [ReadStart::SeqNum(4), ReadStart::SeqNum(u64::MAX), ReadStart::Timestamp(Timestamp(last + 1))] {
        let refused = store.read(&key, from(start)).await;
        assert!(matches!(refused, Err(Error::PastTail { tail_seq_num: 3 })), "{refused:?}");
        assert!(matches!(store.follow(&key, from(start)).await, Err(Error::PastTail { tail_seq_num: 3 })));
        let clamped = ReadFrom { start, clamp: true };
        assert_eq!(store.read(&key, clamped).await.unwrap().0, []);
        let mut events = store.follow(&key, clamped).await.unwrap();
        assert_eq!(next_tail(&mut events).await.position.seq_num, 3);
    }
    let mut events = store.follow(&key, ReadFrom::seq_num(u64::MAX)).await.unwrap();
    next_tail(&mut events).await;
    put(&store, &key, "x").await;
    assert_eq!(numbers(&next_records(&mut events).await), [3]);
}

pub(crate) async fn a_batch_ends_at_its_limits(store: Store) {
    let many = key("many");
    for _ in 0..3 {
        store.append(&many, all(numbered(900, 4))).await.unwrap();
    }
    let heavy = key("heavy");
    for _ in 0..5 {
        store.append(&heavy, Append::one(NewRecord::data(vec![1u8; 600_000]))).await.unwrap();
    }
    assert!(store.read(&many, ReadFrom::seq_num(0)).await.unwrap().0.len() <= READ_BATCH_RECORDS_MAX);
    // About the limit: a store may count its own overhead.
    assert_eq!(store.read(&heavy, ReadFrom::seq_num(0)).await.unwrap().0.len(), 1);
    for (key, count) in [(many, 2_700), (heavy, 5)] {
        assert_eq!(read_all(&store, &key).await.len(), count);
        let mut events = follow(&store, &key, 0).await;
        let mut seen = 0;
        while seen < count {
            let records = next_records(&mut events).await;
            let bytes: usize = records.iter().map(Record::metered_bytes).sum();
            assert!(records.len() <= READ_BATCH_RECORDS_MAX && (bytes <= READ_BATCH_BYTES_MAX || records.len() == 1));
            seen += records.len();
        }
        assert_eq!(next_tail(&mut events).await.position.seq_num, count as u64);
    }
}

pub(crate) async fn a_long_channel_reads_through(store: Store) {
    let key = key("a");
    for _ in 0..12 {
        store.append(&key, all(numbered(1_000, 16))).await.unwrap();
    }
    let records = read_all(&store, &key).await;
    assert_eq!(numbers(&records), (0..12_000).collect::<Vec<_>>());
    assert!(records.iter().all(|r| r.body == format!("{:016}", r.seq_num % 1_000).as_bytes()));
    let mut events = follow(&store, &key, 4_321).await;
    assert_eq!(numbers(&take(&mut events, 7_679).await), (4_321..12_000).collect::<Vec<_>>());
}

pub(crate) async fn a_follower_replays_then_follows(store: Store) {
    let key = key("a");
    store.append(&key, all(numbered(5, 1))).await.unwrap();
    let mut events = follow(&store, &key, 2).await;
    assert_eq!(numbers(&take(&mut events, 3).await), [2, 3, 4]);
    let tail = next_tail(&mut events).await;
    assert_eq!((tail.position.seq_num, tail.earliest_seq_num), (5, 0));
    assert!(is_waiting(&mut events));
    for n in 5..8 {
        put(&store, &key, "x").await;
        assert_eq!(numbers(&next_records(&mut events).await), [n]);
        assert_eq!(next_tail(&mut events).await.position.seq_num, n + 1);
        assert!(is_waiting(&mut events));
    }
}

pub(crate) async fn a_follower_may_come_before_the_first_record(store: Store) {
    let key = key("a");
    let mut events = follow(&store, &key, 0).await;
    assert_eq!(next_tail(&mut events).await, Tail::default());
    assert!(is_waiting(&mut events));
    let waiting = tokio::spawn(async move {
        let records = next_records(&mut events).await;
        (records, events)
    });
    put(&store, &key, "x").await;
    let (records, _events) = waiting.await.unwrap();
    assert_eq!((records[0].seq_num, records[0].body.as_ref()), (0, b"x".as_slice()));
}

pub(crate) async fn a_follower_sees_everything_once_while_writers_write(store: Store) {
    let key = key("a");
    let followers: Vec<_> = (0..4)
        .map(|n| {
            let (store, key) = (store.clone(), key.clone());
            tokio::spawn(async move {
                let mut events = follow(&store, &key, n * 7).await;
                let expected: Vec<_> = match events.next().now_or_never() {
                    // Clamped, because it came before the record it asked for.
                    Some(Some(Ok(ReadEvent::CaughtUp(tail)))) => (tail.position.seq_num..800).collect(),
                    Some(Some(Ok(ReadEvent::Records(first)))) => {
                        let from = first.last().unwrap().seq_num + 1;
                        (from..800).collect()
                    }
                    Some(other) => panic!("{other:?}"),
                    None => (n * 7..800).collect(),
                };
                assert_eq!(numbers(&take(&mut events, expected.len()).await), expected);
            })
        })
        .collect();
    let writers = (0..8).map(|_| {
        let (store, key) = (store.clone(), key.clone());
        tokio::spawn(async move {
            for _ in 0..50 {
                store.append(&key, all(numbered(2, 40))).await.unwrap();
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    assert!(future::join_all(writers).await.iter().all(std::result::Result::is_ok));
    for follower in followers {
        follower.await.unwrap();
    }
}

pub(crate) async fn a_follower_that_sleeps_blocks_nobody(store: Store) {
    let key = key("a");
    let mut sleeper = follow(&store, &key, 0).await;
    let mut awake = follow(&store, &key, 0).await;
    next_tail(&mut sleeper).await;
    next_tail(&mut awake).await;
    // More than any buffer between the writer and the sleeper should hold.
    for n in 0..100u64 {
        let record = NewRecord::data(vec![n as u8; 900_000]);
        store.append(&key, Append::one(record)).await.unwrap();
        assert_eq!(numbers(&take(&mut awake, 1).await), [n]);
    }
    let records = take(&mut sleeper, 100).await;
    assert_eq!(numbers(&records), (0..100).collect::<Vec<_>>());
    assert!(records.iter().all(|record| record.body.iter().all(|&byte| u64::from(byte) == record.seq_num)));
}

pub(crate) async fn a_follower_is_told_of_a_gap(store: Store) {
    let key = key("a");
    store.append(&key, all(numbered(10, 1))).await.unwrap();
    store.append(&key, Append::one(NewRecord::trim(6))).await.unwrap();
    let mut events = follow(&store, &key, 2).await;
    assert!(matches!(next(&mut events).await, ReadEvent::Gap { requested: 2, earliest: 6 }));
    assert_eq!(numbers(&take(&mut events, 5).await), [6, 7, 8, 9, 10]);
    // Who asks for no number misses nothing.
    for start in [ReadStart::TailOffset(50), ReadStart::Timestamp(Timestamp(0))] {
        let mut events = store.follow(&key, from(start)).await.unwrap();
        assert_eq!(next_records(&mut events).await[0].seq_num, 6);
    }
    store.append(&key, Append::one(NewRecord::trim(u64::MAX))).await.unwrap();
    let mut events = follow(&store, &key, 2).await;
    assert!(matches!(next(&mut events).await, ReadEvent::Gap { requested: 2, earliest: 12 }));
    assert_eq!(next_tail(&mut events).await.earliest_seq_num, 12);
}

pub(crate) async fn a_follower_overtaken_by_a_trim_is_told_of_the_gap(store: Store) {
    let key = key("a");
    store.append(&key, all(numbered(2, 1))).await.unwrap();
    let mut events = follow(&store, &key, 0).await;
    assert_eq!(take(&mut events, 2).await.len(), 2);
    next_tail(&mut events).await;
    store.append(&key, all(numbered(5, 1))).await.unwrap();
    store.append(&key, Append::one(NewRecord::trim(6))).await.unwrap();
    assert!(matches!(next(&mut events).await, ReadEvent::Gap { requested: 2, earliest: 6 }));
    assert_eq!(numbers(&take(&mut events, 2).await), [6, 7]);
}

pub(crate) async fn a_follower_of_an_emptied_channel_is_told_when_it_has_caught_up(store: Store) {
    let key = key("a");
    store.append(&key, all(numbered(2, 1))).await.unwrap();
    let mut events = follow(&store, &key, 0).await;
    assert_eq!(take(&mut events, 2).await.len(), 2);
    next_tail(&mut events).await;
    store.append(&key, Append::one(NewRecord::trim(SeqNum::MAX))).await.unwrap();
    // A gap, or the command itself, where that is still there.
    while !matches!(next(&mut events).await, ReadEvent::CaughtUp(tail) if tail.position.seq_num == 3) {}
}

pub(crate) async fn many_followers_of_one_channel_see_the_same(store: Store) {
    let key = key("a");
    let mut followers = Vec::new();
    for _ in 0..1_000 {
        let mut events = follow(&store, &key, 0).await;
        next_tail(&mut events).await;
        followers.push(events);
    }
    assert!(followers.iter_mut().all(is_waiting));
    put(&store, &key, "x").await;
    for events in &mut followers {
        assert_eq!(next_records(events).await[0].body.as_ref(), b"x");
    }
}

pub(crate) async fn a_deleted_session_starts_anew(store: Store) {
    let (key, session) = (key("a"), session("a"));
    store.append(&key, with_part("x", "p")).await.unwrap();
    store.append(&key, Append::one(NewRecord::fence(&token("1.0")))).await.unwrap();
    store.delete(&session).await.unwrap();
    store.delete(&session).await.unwrap();
    assert_eq!(store.tail(&key).await.unwrap(), Tail::default());
    assert_eq!(read_all(&store, &key).await, []);
    assert_eq!(store.part(&key, &PartId::parse("p").unwrap()).await.unwrap(), None);
    let appended = store.append(&key, with_part("y", "p")).await.unwrap();
    assert_eq!((appended.start.seq_num, appended.repeated), (0, false));
    assert_eq!(bodies(&store, &key).await, ["y"]);
    // An append racing with a delete lands before it and is gone, or after it and is there; never half.
    for _ in 0..20 {
        let racing = tokio::spawn({
            let (store, key) = (store.clone(), key.clone());
            async move { put(&store, &key, "r").await.start }
        });
        store.delete(&session).await.unwrap();
        let Position { seq_num, .. } = racing.await.unwrap();
        let left = numbers(&read_all(&store, &key).await);
        assert!(left.is_empty() || (left == [0] && seq_num == 0), "{left:?} after {seq_num}");
    }
}

pub(crate) async fn a_delete_ends_followers(store: Store) {
    let (written, empty) = (key("a"), ChannelKey::reserved(session("a"), Direction::Out));
    put(&store, &written, "x").await;
    let mut followers = vec![follow(&store, &written, 1).await, follow(&store, &empty, 0).await];
    for events in &mut followers {
        next_tail(events).await;
        assert!(is_waiting(events));
    }
    store.delete(&session("a")).await.unwrap();
    for events in &mut followers {
        assert!(matches!(events.next().await, Some(Err(Error::SessionNotFound))));
        assert!(events.next().await.is_none());
    }
    let mut events = follow(&store, &written, 0).await;
    next_tail(&mut events).await;
    put(&store, &written, "new").await;
    assert_eq!(next_records(&mut events).await[0].seq_num, 0);
}

pub(crate) async fn a_delete_leaves_other_sessions(store: Store) {
    for body in ["a", "ab", "b"] {
        put(&store, &key(body), body).await;
    }
    store.delete(&session("a")).await.unwrap();
    assert_eq!(bodies(&store, &key("a")).await, [] as [&str; 0]);
    assert_eq!(bodies(&store, &key("ab")).await, ["ab"]);
    assert_eq!(bodies(&store, &key("b")).await, ["b"]);
}

fn in_session(body: &str, name: &str, direction: Direction) -> ChannelKey {
    let name = (!name.is_empty()).then(|| ChannelName::parse(name).unwrap());
    ChannelKey { session: session(body), name, direction }
}

async fn page(store: &Store, session: &SessionId, after: Option<&ChannelKey>, limit: usize) -> Vec<WrittenChannel> {
    store.written(session, WrittenPage { after, limit, wanted: &|_| true }).await.unwrap()
}

async fn written(store: &Store, body: &str) -> Vec<ChannelKey> {
    page(store, &session(body), None, 1_000).await.into_iter().map(|written| written.channel).collect()
}

pub(crate) async fn a_session_lists_the_channels_that_were_written(store: Store) {
    assert_eq!(written(&store, "a").await, []);
    // Looked at, followed, refused: none of it is a write.
    let read = in_session("a", "read", Direction::In);
    store.tail(&read).await.unwrap();
    let mut events = follow(&store, &read, 0).await;
    next_tail(&mut events).await;
    let refused = in_session("a", "refused", Direction::In);
    let mismatch = Append { match_seq_num: Some(9), ..Append::one(data("x")) };
    assert!(store.append(&refused, mismatch).await.is_err());
    assert_eq!(written(&store, "a").await, []);

    use Direction::{In, Out};
    // A name sorts before the names it begins, also where a stream's name would not.
    let sides = [("", In), ("", Out), ("B", Out), ("a", In), ("a", Out), ("a-b", In), ("a.b", Out), ("ab", In)];
    let keys: Vec<_> = sides.iter().map(|(name, side)| in_session("a", name, *side)).collect();
    for key in keys.iter().rev().chain([&in_session("ab", "a", In), &in_session("b", "", Out)]) {
        put(&store, key, "x").await;
    }
    assert_eq!(written(&store, "a").await, keys);
    assert_eq!(written(&store, "ab").await, [in_session("ab", "a", In)]);

    let (fenced, trimmed, emptied) = (&keys[1], &keys[4], &keys[7]);
    store.append(fenced, Append::one(NewRecord::fence(&token("1.0")))).await.unwrap();
    store.append(trimmed, all(vec![data("y"), NewRecord::trim(2)])).await.unwrap();
    store.append(emptied, Append::one(NewRecord::trim(u64::MAX))).await.unwrap();
    let commanded = in_session("a", "commanded", In);
    store.append(&commanded, Append::one(NewRecord::fence(&token("1.0")))).await.unwrap();
    for found in page(&store, &session("a"), None, 1_000).await {
        let expected = match &found.channel {
            channel if channel == fenced => (2, 0),
            channel if channel == trimmed => (3, 2),
            channel if channel == emptied => (2, 2),
            _once => (1, 0),
        };
        assert_eq!((found.tail.seq_num, found.earliest_seq_num), expected, "{}", found.channel);
        assert_eq!(found.tail, store.tail(&found.channel).await.unwrap().position);
    }
    assert_eq!(written(&store, "a").await.len(), keys.len() + 1, "a command is enough");
}

pub(crate) async fn a_list_of_channels_goes_on_where_its_page_ended(store: Store) {
    let named = (0..13).flat_map(|n| [Direction::In, Direction::Out].map(|io| in_session("a", &format!("n{n}"), io)));
    let mut keys: Vec<_> = named.chain([in_session("a", "", Direction::Out)]).collect();
    future::join_all(keys.iter().map(|key| put(&store, key, "x"))).await;
    keys.sort();
    for limit in [1, 10, 26, 27, 28] {
        let (mut found, mut pages) = (Vec::new(), 0);
        loop {
            let next = page(&store, &session("a"), found.last(), limit).await;
            let is_last = next.len() < limit;
            found.extend(next.into_iter().map(|written| written.channel));
            pages += 1;
            if is_last {
                break;
            }
        }
        assert_eq!((found, pages), (keys.clone(), 27 / limit + 1), "{limit}");
    }
    // Behind one that is not there; and no more than were picked, over all pages.
    let absent = in_session("a", "n10-", Direction::In);
    let behind = page(&store, &session("a"), Some(&absent), 3).await;
    assert_eq!(behind[0].channel, in_session("a", "n11", Direction::In));
    let wanted = |channel: &ChannelKey| channel.direction == Direction::Out && !channel.is_reserved();
    let picked = |after, limit| store.written(&keys[0].session, WrittenPage { after, limit, wanted: &wanted });
    let first = picked(None, 12).await.unwrap();
    assert!(first.len() == 12 && first.iter().all(|written| wanted(&written.channel)));
    let rest = picked(Some(&first[11].channel), 12).await.unwrap();
    assert_eq!(rest.len(), 1);
    assert_eq!(
        store.written(&keys[0].session, WrittenPage { after: None, limit: 5, wanted: &|_| false }).await.unwrap(),
        []
    );
}

pub(crate) async fn a_list_has_what_was_acknowledged_before_it(store: Store) {
    let writers = (0..8).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            for n in 0..6 {
                let key = in_session("a", &format!("w{writer}.{n}"), Direction::In);
                let wanted = |channel: &ChannelKey| *channel == key;
                for seq_num in 0..3 {
                    put(&store, &key, "x").await;
                    let page = WrittenPage { after: None, limit: 2, wanted: &wanted };
                    let found = store.written(&key.session, page).await.unwrap();
                    assert_eq!((found.len(), found[0].tail.seq_num), (1, seq_num + 1));
                }
            }
        })
    });
    let writers = future::join_all(writers.collect::<Vec<_>>()).await;
    assert!(writers.iter().all(std::result::Result::is_ok));
    assert_eq!(written(&store, "a").await.len(), 48);
}

pub(crate) async fn a_deleted_session_lists_what_was_written_since(store: Store) {
    let keys = ["", "x", "y"].map(|name| in_session("a", name, Direction::In));
    for _ in 0..3 {
        for key in &keys {
            store.append(key, all(numbered(3, 4))).await.unwrap();
        }
        store.delete(&session("a")).await.unwrap();
        assert_eq!(written(&store, "a").await, []);
        put(&store, &keys[1], "new").await;
        let found = page(&store, &session("a"), None, 10).await;
        assert_eq!((found.len(), &found[0].channel, found[0].tail.seq_num), (1, &keys[1], 1));
        // A list that meets a delete has of each channel what was there before it, or nothing.
        let listing = tokio::spawn({
            let store = store.clone();
            async move { page(&store, &session("a"), None, 10).await }
        });
        store.delete(&session("a")).await.unwrap();
        let met = listing.await.unwrap();
        assert!(met.is_empty() || met == found, "{met:?}");
    }
}
