//! Claims between two replicas, and between the log and callers that make them.

use super::*;
use continuo_domain::Error;
use continuo_domain::channel::{FencingToken, RECORD_METERED_BYTES_MAX};
use continuo_domain::claim::Claimed;
use continuo_ports::AppendClaims;

/// Two replicas on the same rows.
async fn two() -> (Arc<S2Log>, Arc<S2Log>, Arc<Rows>, TempDir) {
    let (rows, dir) = own_rows().await;
    let open = || open_with(&shared_s2(), &rows, |o| o.repeat_patience = SOON);
    (open(), open(), rows, dir)
}

/// As the caller of an append claims, together with its look at the session.
async fn claimed(log: &S2Log, rows: &Rows, append: &Append) -> Option<Box<Claimed>> {
    let session = SessionId::from_body("a");
    let new = log.claim(Some(&session), None, Direction::In, append, Wall.now())?;
    Some(Box::new(rows.claim(&session, new).await.unwrap()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_repeats_on_two_replicas_make_one_record() {
    let (a, b, _rows, _dir) = two().await;
    for round in 0..3u64 {
        let repeats: Vec<_> = (0..64)
            .map(|n| {
                let log = if n % 2 == 0 { a.clone() } else { b.clone() };
                tokio::spawn(async move { log.append(&key("a"), with_part("x", &format!("p{round}"))).await.unwrap() })
            })
            .collect();
        let mut done = Vec::new();
        for repeat in repeats {
            done.push(repeat.await.unwrap());
        }
        assert!(done.iter().all(|appended| appended.start == done[0].start && appended.start.seq_num == round));
        assert_eq!(done.iter().filter(|appended| !appended.repeated).count(), 1);
    }
    assert_eq!(read_all(&*a, &key("a")).await.len(), 3, "nobody had to be shut out");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_of_the_caller_is_used_once() {
    let (a, b, rows, _dir) = two().await;
    for append in [with_part("x", "p"), one("y")] {
        let with_claim = Append { claimed: claimed(&a, &rows, &append).await, ..append.clone() };
        assert!(matches!(with_claim.claimed.as_deref(), Some(Claimed::Fresh(_))));
        let first = a.append(&key("a"), with_claim.clone()).await.unwrap();
        assert!(!first.repeated);
        a.followed_up(first.debt.unwrap());
        a.inner.debts.flush().await;
        if append.part_id.is_some() {
            let again = Append { claimed: claimed(&b, &rows, &append).await, ..append };
            assert!(matches!(again.claimed.as_deref(), Some(Claimed::Known(claim)) if claim.settled_at.is_some()));
            let again = b.append(&key("a"), again).await.unwrap();
            assert_eq!((again.start, again.repeated, again.debt), (first.start, true, None));
        }
    }
    assert_eq!(bodies(&*b, &key("a")).await, ["x", "y"]);
    let records = read_all(&*b, &key("a")).await;
    assert!(records.iter().all(|record| record.headers.is_empty()), "no mark is seen");
    assert_eq!(rows.unsettled(Wall.now().plus_ms(60_000), 10).await.unwrap(), []);
}

/// A refusal gives the claim back; who goes on with it all the same has to claim again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_that_was_given_back_is_not_used() {
    let (a, b, rows, _dir) = two().await;
    let append = with_part("x", "p");
    let wrong = FencingToken::parse("9.9").unwrap();
    let claimed = claimed(&a, &rows, &append).await;
    let refused = Append { claimed: claimed.clone(), fencing_token: Some(wrong), ..append.clone() };
    assert!(matches!(a.append(&key("a"), refused).await, Err(Error::Fenced { .. })));
    assert_eq!(rows.claim_of(&key("a"), &part("p")).await.unwrap(), None);
    let again = Append { claimed, fencing_token: Some(FencingToken::default()), ..append.clone() };
    let first = a.append(&key("a"), again).await.unwrap();
    assert!(
        rows.claim_of(&key("a"), &part("p")).await.unwrap().is_some(),
        "a record without a claim would be repeated"
    );
    let repeat = b.append(&key("a"), append).await.unwrap();
    assert_eq!((repeat.start, repeat.repeated), (first.start, true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abandoned_claim_is_free_again() {
    let (a, b, rows, _dir) = two().await;
    let append = with_part("x", "p");
    let claimed = claimed(&a, &rows, &append).await.unwrap();
    a.abandon(*claimed);
    a.inner.debts.flush().await;
    assert_eq!(rows.claim_of(&key("a"), &part("p")).await.unwrap(), None);
    assert!(!b.append(&key("a"), with_part("y", "p")).await.unwrap().repeated);
}

/// The sweep of one replica gives up a claim whose writer, on another, is only slow: that one claims anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_that_a_sweep_gave_up_is_made_again() {
    let (a, b, rows, _dir) = two().await;
    a.append(&key("a"), one("first")).await.unwrap();
    for append in [with_part("x", "p"), one("y")] {
        let slow = Append { claimed: claimed(&a, &rows, &append).await, ..append };
        let late = Wall.now().plus_ms(60_000);
        b.owed(late, 10).await.unwrap().into_iter().for_each(|owed| b.followed_up(owed.debt));
        b.inner.debts.flush().await;
        assert_eq!(rows.unsettled(late, 10).await.unwrap(), []);
        assert!(!a.append(&key("a"), slow).await.unwrap().repeated);
        assert_eq!(rows.unsettled(late, 10).await.unwrap().len(), 1);
    }
    assert_eq!(bodies(&*b, &key("a")).await, ["first", "x", "y"]);
}

/// Nor is one shut out that a sweep finds while it may still be on its way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_leaves_alone_who_may_still_write() {
    let (a, b, rows, _dir) = two().await;
    a.append(&key("a"), one("first")).await.unwrap();
    let append = with_part("x", "p");
    let slow = Append { claimed: claimed(&a, &rows, &append).await, ..append };
    let soon = Wall.now().plus_ms(1_000);
    let owed = b.owed(soon, 10).await.unwrap();
    assert_eq!(owed.iter().map(|owed| owed.at.seq_num).collect::<Vec<_>>(), [0], "what landed is owed for at once");
    assert_eq!(rows.unsettled(soon, 10).await.unwrap().len(), 2);
    assert_eq!(a.append(&key("a"), slow).await.unwrap().start.seq_num, 1, "there is no fence between");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_id_whose_record_was_trimmed_is_free_again() {
    let (a, b, _rows, _dir) = two().await;
    let first = a.append(&key("a"), with_part("x", "p")).await.unwrap();
    a.followed_up(first.debt.unwrap());
    a.inner.debts.flush().await;
    a.append(&key("a"), Append::one(NewRecord::trim(1))).await.unwrap();
    assert_eq!(a.part(&key("a"), &part("p")).await.unwrap(), None);
    // Elsewhere once S2 has carried the trim out.
    until(async || b.part(&key("a"), &part("p")).await.unwrap().is_none()).await;
    let other = b.append(&key("a"), with_part("y", "p")).await.unwrap();
    assert!(!other.repeated && other.start.seq_num > first.start.seq_num);
    assert_eq!(bodies(&*b, &key("a")).await, ["y"]);
    // The one that wrote the first still remembers it, and does not believe itself.
    let again = a.append(&key("a"), with_part("y", "p")).await.unwrap();
    assert_eq!((again.start, again.repeated), (other.start, true));
}

/// Too large for a mark: known by its place and its digest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_without_room_for_a_mark_is_still_written_once() {
    let (a, b, _rows, _dir) = two().await;
    a.append(&key("a"), one("first")).await.unwrap();
    let largest = |fill: u8, part_id: &str| Append {
        part_id: Some(part(part_id)),
        ..Append::one(NewRecord::data(vec![fill; RECORD_METERED_BYTES_MAX - 8]))
    };
    let first = a.append(&key("a"), largest(b'x', "p")).await.unwrap();
    let again = b.append(&key("a"), largest(b'x', "p")).await.unwrap();
    assert_eq!((again.start, again.repeated), (first.start, true));
    let other = b.append(&key("a"), largest(b'y', "p")).await;
    assert!(matches!(other, Err(Error::PartIdReused { seq_num: 1 })), "{other:?}");
    assert_eq!(
        b.append(&key("a"), largest(b'x', "q")).await.unwrap().start.seq_num,
        2,
        "another part id is another record"
    );
    assert_eq!(read_all(&*a, &key("a")).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewed_token_shuts_out_nobody_who_owns_the_channel() {
    let (a, b, _rows, _dir) = two().await;
    let out = ChannelKey::reserved(SessionId::from_body("a"), Direction::Out);
    let owner = FencingToken::parse("1.0").unwrap();
    a.append(&out, Append::one(NewRecord::fence(&owner))).await.unwrap();
    b.inner.stream(&out).await.unwrap().renew().await.unwrap();
    assert_eq!(a.fencing_token_hint(&out), Some(owner.clone()), "as far as this one knows");
    assert_eq!(a.tail(&out).await.unwrap().fencing_token.as_str(), "1.0~1", "as it is");
    for append in [one("x"), with_part("y", "p")] {
        a.append(&out, Append { fencing_token: Some(owner.clone()), ..append }).await.unwrap();
    }
    let superseded = Append { fencing_token: Some(FencingToken::parse("0.9").unwrap()), ..one("z") };
    assert!(
        matches!(a.append(&out, superseded).await, Err(Error::Fenced { fencing_token }) if fencing_token == "1.0~1")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delete_elsewhere_ends_followers_here() {
    use futures_util::StreamExt;
    let (a, b, _rows, _dir) = two().await;
    a.append(&key("a"), one("x")).await.unwrap();
    let mut events = a.follow(&key("a"), ReadFrom::seq_num(1)).await.unwrap();
    events.next().await.unwrap().unwrap();
    b.delete(&SessionId::from_body("a")).await.unwrap();
    assert!(matches!(events.next().await, Some(Err(Error::SessionNotFound))));
    assert!(events.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_log_says_that_it_stops() {
    use futures_util::StreamExt;
    let (a, _b, rows, _dir) = two().await;
    let appended = a.append(&key("a"), with_part("x", "p")).await.unwrap();
    let mut events = a.follow(&key("a"), ReadFrom::seq_num(1)).await.unwrap();
    events.next().await.unwrap().unwrap();
    a.followed_up(appended.debt.unwrap());
    a.close().await;
    assert!(rows.claim_of(&key("a"), &part("p")).await.unwrap().unwrap().settled_at.is_some());
    assert!(matches!(events.next().await, Some(Err(Error::Stopping))));
    assert!(matches!(a.append(&key("a"), one("y")).await, Err(Error::Stopping)));
}
