//! What is cut, lost, late or killed between the log and S2, and what the callers are told.

use super::proxy::Proxy;
use super::server::Server;
use super::*;
use continuo_domain::{Error, SessionId};
use continuo_ports::ReadEvent;
use futures_util::StreamExt;
use std::collections::HashMap;

/// A replica behind a proxy, one beside it, and the rows of both.
struct Two {
    proxy: Proxy,
    cut: Arc<S2Log>,
    other: Arc<S2Log>,
    rows: Arc<Rows>,
    _dir: TempDir,
}

async fn two() -> Two {
    let (rows, dir) = own_rows().await;
    let proxy = Proxy::start(&shared_s2()).await;
    // Nothing but the proxy ends a request; a repeat at the other one gives the first writer up soon.
    let cut = open_with(&proxy.endpoint, &rows, |o| o.append_timeout = Duration::from_secs(60));
    let other = open_with(&shared_s2(), &rows, |o| o.repeat_patience = Duration::from_millis(30));
    // Streams and connections are there before anything is cut.
    cut.append(&key("a"), one("first")).await.unwrap();
    other.append(&key("a"), one("second")).await.unwrap();
    Two { proxy, cut, other, rows, _dir: dir }
}

impl Two {
    async fn bodies(&self) -> Vec<String> {
        bodies(&*self.other, &key("a")).await
    }

    async fn until_written(&self, count: usize) {
        until(async || self.bodies().await.len() == count).await;
    }

    fn spawn(&self, append: Append) -> tokio::task::JoinHandle<Result<Appended>> {
        let log = self.cut.clone();
        tokio::spawn(async move { log.append(&key("a"), append).await })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledgement_that_was_lost_is_found_out() {
    let several = Append { records: vec![NewRecord::trim(0), NewRecord::data("x")], ..Append::default() };
    for append in [with_part("x", "p"), one("x"), several] {
        let two = two().await;
        two.proxy.hold_answers();
        let appending = two.spawn(append.clone());
        two.until_written(3).await;
        two.proxy.cut();
        let appended = appending.await.unwrap().unwrap();
        assert_eq!((appended.start.seq_num, appended.repeated), (2, false));
        assert_eq!(appended.end.seq_num, 2 + append.records.len() as u64);
        assert!(appended.debt.is_some());
        if append.part_id.is_some() {
            for log in [&two.cut, &two.other] {
                let again = log.append(&key("a"), append.clone()).await.unwrap();
                assert_eq!((again.start, again.repeated), (appended.start, true));
            }
        }
        assert_eq!(two.bodies().await, ["first", "second", "x"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_was_lost_is_written_once() {
    for append in [with_part("x", "p"), one("x")] {
        let two = two().await;
        let mut held = two.proxy.hold_requests();
        let appending = two.spawn(append);
        held.changed().await.unwrap();
        two.proxy.cut();
        assert!(!appending.await.unwrap().unwrap().repeated);
        assert_eq!(two.bodies().await, ["first", "second", "x"]);
    }
}

/// Nobody else can tell such a record from another one: the caller is told that nothing is known.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_claim_a_lost_acknowledgement_stays_lost() {
    let two = two().await;
    let out = ChannelKey::reserved(SessionId::from_body("a"), Direction::Out);
    two.cut.append(&out, one("x")).await.unwrap();
    two.proxy.hold_answers();
    let appending = tokio::spawn({
        let (log, out) = (two.cut.clone(), out.clone());
        async move { log.append(&out, one("y")).await }
    });
    until(async || bodies(&*two.other, &out).await.len() == 2).await;
    two.proxy.cut();
    let outcome = appending.await.unwrap();
    assert!(matches!(outcome, Err(Error::OutcomeUnknown(_))), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_writer_whose_claim_was_taken_over_writes_nothing() {
    let two = two().await;
    let mut held = two.proxy.hold_requests();
    let frozen = two.spawn(with_part("x", "p"));
    held.changed().await.unwrap();
    let taken = two.other.append(&key("a"), with_part("x", "p")).await.unwrap();
    assert!(!taken.repeated, "the first writer was shut out");
    two.proxy.release();
    let thawed = frozen.await.unwrap().unwrap();
    assert_eq!((thawed.start, thawed.repeated), (taken.start, true));
    assert_eq!(two.bodies().await, ["first", "second", "x"]);
}

/// The writer wakes between the taker's fence, which tells it the new token, and the taker's replacing of the row.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_learns_the_new_token_owns_its_claim_again_or_writes_nothing() {
    let two = two().await;
    let mut held = two.proxy.hold_requests();
    let frozen = two.spawn(with_part("x", "p"));
    held.changed().await.unwrap();
    let (reached, open) = two.rows.stop_next_take_over();
    let taking = tokio::spawn({
        let log = two.other.clone();
        async move { log.append(&key("a"), with_part("x", "p")).await }
    });
    reached.await.unwrap();
    two.proxy.release();
    let thawed = frozen.await.unwrap().unwrap();
    open.send(()).unwrap();
    let taken = taking.await.unwrap().unwrap();
    assert_eq!((thawed.repeated, taken.repeated), (false, true));
    assert_eq!(thawed.start, taken.start);
    assert_eq!(two.bodies().await, ["first", "second", "x"]);
}

/// The taker finds the record, though its writer never heard of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_of_a_writer_that_went_is_found_by_a_repeat_and_by_the_sweep() {
    let two = two().await;
    two.proxy.hold_answers();
    let gone = two.spawn(with_part("x", "p"));
    two.until_written(3).await;
    gone.abort();
    assert!(gone.await.is_err());
    let again = two.other.append(&key("a"), with_part("x", "p")).await.unwrap();
    assert_eq!((again.start.seq_num, again.repeated), (2, true));
    let late = Wall.now().plus_ms(60_000);
    let mut owed = two.other.owed(late, 10).await.unwrap();
    owed.retain(|owed| owed.at == again.start);
    assert_eq!(owed.len(), 1);
    two.other.followed_up(owed[0].debt);
    two.other.inner.debts.flush().await;
    assert!(two.other.owed(late, 10).await.unwrap().iter().all(|owed| owed.at != again.start));
    assert_eq!(two.bodies().await, ["first", "second", "x"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s2_away_is_told_at_once_and_nothing_is_written() {
    let (rows, _dir) = own_rows().await;
    let nowhere = format!("http://127.0.0.1:{}", super::server::free_port());
    let log = open_with(&nowhere, &rows, |o| o.append_timeout = Duration::from_millis(500));
    for append in [one("x"), with_part("x", "p")] {
        let refused = log.append(&key("a"), append).await;
        assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    }
    assert!(matches!(log.tail(&key("a")).await, Err(Error::Unavailable(_))));
    assert!(matches!(log.read(&key("a"), ReadFrom::seq_num(0)).await, Err(Error::Unavailable(_))));
    let back = open(&shared_s2(), &rows);
    assert_eq!(back.part(&key("a"), &part("p")).await.unwrap(), None);
    assert!(!back.append(&key("a"), with_part("x", "p")).await.unwrap().repeated);
    assert_eq!(bodies(&*back, &key("a")).await, ["x"]);
}

/// Writers that repeat what they do not know, a follower, and S2 killed in the middle.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s2_killed_loses_nothing_and_followers_read_on() {
    const WRITERS: usize = 6;
    const EACH: usize = 25;
    let (rows, _dir) = own_rows().await;
    let mut server = Server::start().await;
    let log = open(&server.endpoint, &rows);
    log.append(&key("a"), one("first")).await.unwrap();
    let mut events = log.follow(&key("a"), ReadFrom::seq_num(0)).await.unwrap();
    let (done, count) = tokio::sync::watch::channel(0);
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (log, done) = (log.clone(), done.clone());
            tokio::spawn(async move {
                let mut acknowledged = HashMap::new();
                for n in 0..EACH {
                    let body = format!("{writer}/{n}");
                    let appended = loop {
                        match log.append(&key("a"), with_part(&body, &body)).await {
                            Ok(appended) => break appended,
                            Err(error) => assert!(error.is_retryable(), "{error}"),
                        }
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    };
                    acknowledged.insert(body, appended.start.seq_num);
                    done.send_modify(|count| *count += 1);
                }
                acknowledged
            })
        })
        .collect();
    for kill_at in [20, 80] {
        count.clone().wait_for(|&count| count >= kill_at).await.unwrap();
        server.kill().await;
        server.restart().await;
    }
    let mut acknowledged = HashMap::new();
    for writer in writers {
        acknowledged.extend(writer.await.unwrap());
    }
    assert_eq!(acknowledged.len(), WRITERS * EACH);
    let mut followed = Vec::new();
    let (_, tail) = log.read(&key("a"), ReadFrom::seq_num(0)).await.unwrap();
    while (followed.len() as u64) < tail.position.seq_num {
        match events.next().await.unwrap().unwrap() {
            ReadEvent::Records(records) => followed.extend(records.iter().cloned()),
            ReadEvent::Gap { requested, earliest } => panic!("a gap from {requested} to {earliest}"),
            ReadEvent::CaughtUp(_) => {}
        }
    }
    assert!(followed.iter().zip(0..).all(|(record, seq_num)| record.seq_num == seq_num), "no gap, no repeat");
    let data: Vec<_> = followed.iter().filter(|record| !record.is_command()).skip(1).collect();
    assert_eq!(data.len(), acknowledged.len(), "no record twice");
    for record in data {
        let body = String::from_utf8(record.body.to_vec()).unwrap();
        assert_eq!(acknowledged[&body], record.seq_num, "{body}");
    }
}
