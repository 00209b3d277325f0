//! What every `AppendClaims` promises.
//!
//! ```ignore
//! append_claims_contract!(sqlite, crate::contract::append_claims, on_a_temp_dir());
//! ```

use super::rows::*;
use continuo_domain::channel::{ChannelKey, ChannelName, Direction, PartId, Position, SeqNum};
use continuo_domain::claim::{Claim, Claimed, NewClaim};
use continuo_domain::session::SessionRef;
use continuo_domain::{Error, SessionId};
use continuo_ports::append_claims::Settled;

macro_rules! append_claims_contract {
    ($adapter:ident, $($suite:ident)::+, $new:expr) => {
        mod $adapter {
            use super::*;
            use $($suite)::+ as suite;

            rows_tests! { $new;
                a_claim_reads_back_as_it_was_made
                of_many_claims_of_one_part_id_one_is_fresh
                a_claim_asked_for_again_is_the_same
                a_lower_bound_counts_for_the_session_it_names
                a_part_id_belongs_to_one_side_of_one_channel
                a_claim_is_held_until_it_is_settled
                a_settled_claim_of_a_client_stays_and_one_of_the_server_goes
                many_are_settled_at_once
                a_repeated_settlement_changes_nothing
                a_claim_is_taken_over_as_it_was_read_or_not_at_all
                of_many_takers_one_takes_the_claim_over
                a_claim_whose_record_was_trimmed_is_taken_over
                with_another_mark_nothing_changes
                a_release_frees_the_part_id
                released_while_it_is_claimed_again_it_is_claimed_once
                debts_come_oldest_first
                claims_are_forgotten_by_session
                claims_go_with_their_session
                a_claim_on_a_session_that_is_not_there_is_refused
                claims_and_a_deletion_agree
                a_basin_is_pinned_with_the_session
            }
        }
    };
}
pub(crate) use append_claims_contract;

fn part(id: &str) -> PartId {
    PartId::parse(id).unwrap()
}

fn on_in(session: &SessionId) -> ChannelKey {
    ChannelKey::reserved(session.clone(), Direction::In)
}

fn at(seq_num: SeqNum) -> Position {
    Position { seq_num, timestamp: after(1_000 + seq_num) }
}

fn outcome(claim: &Claim, seq_num: SeqNum) -> Settled {
    let Claim { channel, part_id, mark, .. } = claim.clone();
    Settled { channel, part_id, mark, at: at(seq_num) }
}

fn settled(claim: Claim, seq_num: SeqNum) -> Claim {
    Claim { settled_at: Some(at(seq_num)), ..claim }
}

/// A client's claim on `.in`; the mark is what tells it from others of the same part id.
fn new_claim(part_id: &str, mark: &str) -> NewClaim {
    NewClaim {
        name: None,
        direction: Direction::In,
        part_id: part(part_id),
        is_servers: false,
        digest: [7; 32],
        mark: mark.into(),
        from: None,
        claimed_at: T0,
    }
}

fn servers(part_id: &str) -> NewClaim {
    NewClaim { is_servers: true, ..new_claim(part_id, &format!("mark of {part_id}")) }
}

impl Rows {
    /// Claims a part id that is free.
    async fn claimed(&self, session: &SessionId, claim: NewClaim) -> Claim {
        match self.claims.claim(session, claim).await.unwrap() {
            Claimed::Fresh(claim) => claim,
            Claimed::Known(claim) => panic!("known: {claim:?}"),
        }
    }

    /// The row of a claim as it is now.
    async fn row_of(&self, claim: &Claim) -> Option<Claim> {
        self.claims.claim_of(&claim.channel, &claim.part_id).await.unwrap()
    }

    async fn is_held(&self, claim: &Claim) -> bool {
        let there = self.claims.claim_of(&claim.channel, &claim.part_id).await.unwrap();
        there.is_some_and(|there| there.mark == claim.mark && there.settled_at.is_none())
    }
}

pub(crate) async fn a_claim_reads_back_as_it_was_made(rows: Rows) {
    let session = rows.session("a", None).await.id;
    for (body, name) in [("reserved", None), ("named", Some("tools.v1"))] {
        for direction in [Direction::In, Direction::Out] {
            let new = NewClaim {
                name: name.map(|name| ChannelName::parse(name).unwrap()),
                direction,
                part_id: part(&format!("ü:{body}/{direction:?}")),
                is_servers: name.is_some(),
                digest: std::array::from_fn(|i| 255 - i as u8),
                mark: format!("mark {body} {direction:?}"),
                from: Some((session.clone(), u64::MAX >> 1)),
                claimed_at: after(5),
            };
            let claim = rows.claimed(&session, new.clone()).await;
            assert_eq!(claim, new.of(&session));
            assert_eq!((claim.from_seq_num, claim.settled_at), (u64::MAX >> 1, None));
            assert_eq!(rows.row_of(&claim).await, Some(claim));
        }
    }
    assert_eq!(rows.claims.claim_of(&on_in(&session), &part("none")).await.unwrap(), None);
}

pub(crate) async fn of_many_claims_of_one_part_id_one_is_fresh(rows: Rows) {
    let session = rows.session("a", None).await.id;
    for round in 0..4 {
        let claimed = together(64, |i| {
            let (claims, session) = (rows.claims.clone(), session.clone());
            let claim = new_claim(&format!("p{round}"), &format!("mark {i}"));
            async move { claims.claim(&session, claim).await.unwrap() }
        });
        let claimed = claimed.await;
        let fresh: Vec<_> =
            claimed.iter().filter_map(|c| if let Claimed::Fresh(c) = c { Some(c) } else { None }).collect();
        let [fresh] = fresh[..] else { panic!("{} of 64 came first", fresh.len()) };
        assert_eq!(rows.row_of(fresh).await.as_ref(), Some(fresh));
        for claimed in &claimed {
            if let Claimed::Known(known) = claimed {
                assert_eq!(known, fresh, "who comes later gets the claim of the first");
            }
        }
    }
}

pub(crate) async fn a_claim_asked_for_again_is_the_same(rows: Rows) {
    let session = rows.session("a", None).await.id;
    let look = async |claim| {
        let reference = SessionRef::Id(session.clone());
        rows.sessions.probe(&env(), &reference, Some(claim)).await.unwrap().unwrap().claimed.unwrap()
    };
    let claim = rows.claimed(&session, new_claim("p", "m")).await;
    let again = NewClaim { claimed_at: after(5), ..new_claim("p", "m") };
    assert_eq!(rows.claims.claim(&session, again.clone()).await.unwrap(), Claimed::Fresh(claim.clone()));
    assert_eq!(look(again.clone()).await, Claimed::Fresh(claim.clone()), "as it was made");
    rows.claims.settle(vec![outcome(&claim, 4)]).await.unwrap();
    let known = Claimed::Known(settled(claim, 4));
    assert_eq!(rows.claims.claim(&session, again.clone()).await.unwrap(), known);
    assert_eq!(look(again).await, known, "its record is there");
}

pub(crate) async fn a_lower_bound_counts_for_the_session_it_names(rows: Rows) {
    let [session, other] = [rows.session("a", None).await.id, rows.session("b", None).await.id];
    for (known, expected) in [(Some((session.clone(), 9)), 9), (Some((other, 9)), 0), (None, 0)] {
        let new = NewClaim { from: known, ..new_claim(&format!("from {expected}"), "m") };
        let claim = rows.claims.claim(&session, new).await.unwrap();
        let (Claimed::Fresh(claim) | Claimed::Known(claim)) = claim;
        assert_eq!(claim.from_seq_num, expected);
        assert_eq!(rows.row_of(&claim).await.unwrap().from_seq_num, expected);
    }
}

pub(crate) async fn a_part_id_belongs_to_one_side_of_one_channel(rows: Rows) {
    let [a, b] = [rows.session("a", None).await.id, rows.session("b", None).await.id];
    let mut marks = Vec::new();
    for session in [&a, &b] {
        for name in [None, Some("in"), Some("x")] {
            for direction in [Direction::In, Direction::Out] {
                let name = name.map(|name| ChannelName::parse(name).unwrap());
                let mark = format!("{session} {name:?} {direction:?}");
                let claim = rows.claimed(session, NewClaim { name, direction, ..new_claim("p", &mark) }).await;
                marks.push((claim, mark));
            }
        }
    }
    for (claim, mark) in marks {
        assert_eq!(rows.row_of(&claim).await.unwrap().mark, mark);
    }
}

pub(crate) async fn a_claim_is_held_until_it_is_settled(rows: Rows) {
    let session = rows.session("a", None).await.id;
    let claim = rows.claimed(&session, new_claim("p", "mine")).await;
    assert!(rows.is_held(&claim).await);
    let taken = Claim { mark: "theirs".into(), ..claim.clone() };
    assert!(!rows.is_held(&taken).await, "not by that one");
    assert_eq!(rows.claims.claim_of(&on_in(&session), &part("none")).await.unwrap(), None);
    rows.claims.settle(vec![outcome(&claim, 3)]).await.unwrap();
    assert!(!rows.is_held(&claim).await);
}

pub(crate) async fn a_settled_claim_of_a_client_stays_and_one_of_the_server_goes(rows: Rows) {
    let session = rows.session("a", None).await.id;
    let ours = rows.claimed(&session, servers("ours")).await;
    let theirs = rows.claimed(&session, new_claim("theirs", "m")).await;
    rows.claims.settle(vec![outcome(&ours, 3), outcome(&theirs, 4)]).await.unwrap();
    assert_eq!(rows.row_of(&ours).await, None);
    let theirs = settled(theirs, 4);
    assert_eq!(rows.row_of(&theirs).await.as_ref(), Some(&theirs));
    let again = rows.claims.claim(&session, new_claim("theirs", "later")).await.unwrap();
    assert_eq!(again, Claimed::Known(theirs), "a repeat gets the outcome");
}

pub(crate) async fn many_are_settled_at_once(rows: Rows) {
    let sessions = [rows.session("a", None).await.id, rows.session("b", None).await.id];
    let mut claims = Vec::new();
    for n in 0..50u64 {
        let new = if n % 3 == 0 { servers(&format!("p{n}")) } else { new_claim(&format!("p{n}"), "m") };
        claims.push(rows.claimed(&sessions[n as usize % 2], new).await);
    }
    let untouched = rows.claimed(&sessions[0], new_claim("untouched", "m")).await;
    rows.claims.settle(claims.iter().zip(0..).map(|(claim, n)| outcome(claim, n)).collect()).await.unwrap();
    for (claim, n) in claims.into_iter().zip(0..) {
        let expected = (!claim.is_servers).then(|| settled(claim.clone(), n));
        assert_eq!(rows.row_of(&claim).await, expected);
    }
    assert_eq!(rows.claims.unsettled(after(1), 100).await.unwrap(), [untouched]);
    rows.claims.settle(Vec::new()).await.unwrap();
}

pub(crate) async fn a_repeated_settlement_changes_nothing(rows: Rows) {
    let session = rows.session("a", None).await.id;
    let claim = rows.claimed(&session, new_claim("p", "m")).await;
    let gone = rows.claimed(&session, servers("gone")).await;
    let both = vec![outcome(&claim, 4), outcome(&gone, 5), outcome(&claim, 4), outcome(&gone, 5)];
    let settlements = together(8, |_| {
        let (claims, both) = (rows.claims.clone(), both.clone());
        async move { claims.settle(both).await.unwrap() }
    });
    settlements.await;
    assert_eq!(rows.row_of(&claim).await, Some(settled(claim, 4)));
    assert_eq!(rows.row_of(&gone).await, None);
}

pub(crate) async fn a_claim_is_taken_over_as_it_was_read_or_not_at_all(rows: Rows) {
    let session = rows.session("a", None).await.id;
    let old = rows.claimed(&session, new_claim("p", "old")).await;
    let new = NewClaim {
        digest: [9; 32],
        is_servers: true,
        from: Some((session.clone(), 8)),
        claimed_at: after(3),
        ..new_claim("p", "new")
    };
    assert!(rows.claims.take_over(&old, new.clone()).await.unwrap());
    let taken = new.of(&session);
    assert_eq!(rows.row_of(&old).await.as_ref(), Some(&taken));
    assert!(!rows.claims.take_over(&old, new_claim("p", "third")).await.unwrap(), "it is not as it was read");
    rows.claims.settle(vec![outcome(&old, 1)]).await.unwrap();
    assert_eq!(rows.row_of(&old).await.as_ref(), Some(&taken), "who was taken over settles nothing");
    let missing = Claim { part_id: part("none"), ..old };
    assert!(!rows.claims.take_over(&missing, new_claim("none", "third")).await.unwrap());
    assert_eq!(rows.row_of(&missing).await, None);
}

pub(crate) async fn of_many_takers_one_takes_the_claim_over(rows: Rows) {
    let session = rows.session("a", None).await.id;
    let old = rows.claimed(&session, new_claim("p", "old")).await;
    let taken = together(16, |i| {
        let (claims, old) = (rows.claims.clone(), old.clone());
        async move { claims.take_over(&old, new_claim("p", &format!("taker {i}"))).await.unwrap() }
    });
    let taken = taken.await;
    assert_eq!(taken.iter().filter(|taken| **taken).count(), 1);
    let winner = taken.iter().position(|taken| *taken).unwrap();
    assert_eq!(rows.row_of(&old).await.unwrap().mark, format!("taker {winner}"));
}

/// The part id counts as long as the record lives.
pub(crate) async fn a_claim_whose_record_was_trimmed_is_taken_over(rows: Rows) {
    let session = rows.session("a", None).await.id;
    let before = rows.claimed(&session, new_claim("p", "m")).await;
    rows.claims.settle(vec![outcome(&before, 4)]).await.unwrap();
    let stale = new_claim("p", "new");
    assert!(!rows.claims.take_over(&before, stale.clone()).await.unwrap(), "it was settled since it was read");
    assert!(!rows.claims.take_over(&settled(before.clone(), 3), stale.clone()).await.unwrap(), "somewhere else");
    assert!(rows.claims.take_over(&settled(before.clone(), 4), stale).await.unwrap());
    let fresh = rows.row_of(&before).await.unwrap();
    assert_eq!((fresh.mark.as_str(), fresh.settled_at), ("new", None));
    assert!(rows.is_held(&fresh).await);
}

pub(crate) async fn with_another_mark_nothing_changes(rows: Rows) {
    let session = rows.session("a", None).await.id;
    for claim in [rows.claimed(&session, new_claim("p", "m")).await, rows.claimed(&session, servers("q")).await] {
        let other = Claim { mark: "another".into(), ..claim.clone() };
        rows.claims.settle(vec![outcome(&other, 1)]).await.unwrap();
        rows.claims.release(&other.channel, &other.part_id, &other.mark).await.unwrap();
        assert!(!rows.claims.take_over(&other, new_claim("p", "new")).await.unwrap());
        assert_eq!(rows.row_of(&claim).await, Some(claim));
    }
}

pub(crate) async fn a_release_frees_the_part_id(rows: Rows) {
    let session = rows.session("a", None).await.id;
    let claim = rows.claimed(&session, new_claim("p", "m")).await;
    rows.claims.release(&claim.channel, &claim.part_id, &claim.mark).await.unwrap();
    rows.claims.release(&claim.channel, &claim.part_id, &claim.mark).await.unwrap();
    assert_eq!(rows.row_of(&claim).await, None);
    let again = rows.claimed(&session, new_claim("p", "again")).await;
    rows.claims.settle(vec![outcome(&again, 2)]).await.unwrap();
    rows.claims.release(&again.channel, &again.part_id, &again.mark).await.unwrap();
    assert_eq!(rows.row_of(&again).await, Some(settled(again, 2)), "what is in the log is not given up");
}

/// A claim that goes between the look of another and its own try is no error.
pub(crate) async fn released_while_it_is_claimed_again_it_is_claimed_once(rows: Rows) {
    let session = rows.session("a", None).await.id;
    for round in 0..16 {
        let part_id = format!("p{round}");
        let first = rows.claimed(&session, new_claim(&part_id, "first")).await;
        let fresh = together(8, |i| {
            let (claims, first, session) = (rows.claims.clone(), first.clone(), session.clone());
            let again = new_claim(&part_id, &format!("mark {i}"));
            async move {
                if i == 0 {
                    claims.release(&first.channel, &first.part_id, &first.mark).await.unwrap();
                    return false;
                }
                matches!(claims.claim(&session, again).await.unwrap(), Claimed::Fresh(_))
            }
        });
        let fresh = fresh.await.into_iter().filter(|fresh| *fresh).count();
        assert_eq!(fresh, usize::from(rows.row_of(&first).await.is_some()), "round {round}");
    }
}

pub(crate) async fn debts_come_oldest_first(rows: Rows) {
    let sessions = [rows.session("a", None).await.id, rows.session("b", None).await.id];
    for (n, ms) in [30, 10, 50, 20, 40].into_iter().enumerate() {
        let new = NewClaim { claimed_at: after(ms), ..new_claim(&format!("p{ms}"), "m") };
        rows.claimed(&sessions[n % 2], new).await;
    }
    let part_ids = async |before, limit| {
        let debts = rows.claims.unsettled(after(before), limit).await.unwrap();
        debts.into_iter().map(|claim| claim.part_id.as_str().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(part_ids(100, 10).await, ["p10", "p20", "p30", "p40", "p50"]);
    assert_eq!(part_ids(30, 10).await, ["p10", "p20"], "made before, not then");
    assert_eq!(part_ids(100, 2).await, ["p10", "p20"]);
    let paid = rows.claims.unsettled(after(100), 2).await.unwrap();
    rows.claims.settle(paid.iter().map(|claim| outcome(claim, 1)).collect()).await.unwrap();
    assert_eq!(part_ids(100, 10).await, ["p30", "p40", "p50"]);
}

pub(crate) async fn claims_are_forgotten_by_session(rows: Rows) {
    let [session, kept] = [rows.session("a", None).await.id, rows.session("b", None).await.id];
    let name = Some(ChannelName::parse("x").unwrap());
    let gone = [
        rows.claimed(&session, new_claim("p", "m")).await,
        rows.claimed(&session, NewClaim { name, direction: Direction::Out, ..new_claim("p", "m") }).await,
    ];
    let other = rows.claimed(&kept, new_claim("p", "m")).await;
    rows.claims.forget(&session).await.unwrap();
    rows.claims.forget(&session).await.unwrap();
    for claim in gone {
        assert_eq!(rows.row_of(&claim).await, None);
    }
    assert_eq!(rows.row_of(&other).await, Some(other));
}

pub(crate) async fn claims_go_with_their_session(rows: Rows) {
    let session = rows.session("a", None).await.id;
    let claims = [rows.claimed(&session, new_claim("p", "m")).await, rows.claimed(&session, servers("q")).await];
    rows.claims.settle(vec![outcome(&claims[0], 1)]).await.unwrap();
    assert!(rows.sessions.delete(&session).await.unwrap());
    for claim in &claims {
        assert_eq!(rows.row_of(claim).await, None);
        assert!(!rows.is_held(claim).await);
    }
    assert!(rows.claims.unsettled(after(9), 9).await.unwrap().is_empty(), "nobody owes anything");
    rows.claims.settle(claims.iter().map(|claim| outcome(claim, 1)).collect()).await.unwrap();
}

pub(crate) async fn a_claim_on_a_session_that_is_not_there_is_refused(rows: Rows) {
    let session = SessionId::from_body("x");
    let refused = rows.claims.claim(&session, new_claim("p", "m")).await;
    assert!(matches!(refused, Err(Error::SessionNotFound)), "{refused:?}");
    assert_eq!(rows.claims.claim_of(&on_in(&session), &part("p")).await.unwrap(), None);
}

pub(crate) async fn claims_and_a_deletion_agree(rows: Rows) {
    for round in 0..50 {
        let session = rows.session(&format!("s{round}"), None).await.id;
        let claimed = together(4, |i| {
            let (rows, session) = (rows.clone(), session.clone());
            async move {
                let claim = new_claim(&format!("p{i}"), "m");
                let reference = SessionRef::Id(session.clone());
                match i {
                    0 => rows.sessions.delete(&session).await.map(drop),
                    1 => rows.sessions.probe(&env(), &reference, Some(claim)).await.map(drop),
                    _ => rows.claims.claim(&session, claim).await.map(drop),
                }
            }
        });
        for outcome in claimed.await {
            assert!(matches!(outcome, Ok(()) | Err(Error::SessionNotFound)), "round {round}: {outcome:?}");
        }
    }
    assert!(rows.claims.unsettled(after(9), 9).await.unwrap().is_empty(), "nobody owes what nobody can read");
}

pub(crate) async fn a_basin_is_pinned_with_the_session(rows: Rows) {
    let mut pinned = new_session("a", Some("chat-1"));
    pinned.basin = Some("basin-1".into());
    let session = rows.sessions.upsert(pinned.clone(), T0).await.unwrap().session;
    pinned.id = SessionId::from_body("b");
    pinned.basin = Some("basin-2".into());
    assert_eq!(rows.sessions.upsert(pinned, T0).await.unwrap().session.basin.as_deref(), Some("basin-1"));
    assert_eq!(rows.claims.basin(&session.id).await.unwrap().as_deref(), Some("basin-1"));
    let without = rows.session("c", None).await;
    assert_eq!(rows.claims.basin(&without.id).await.unwrap(), None);
    assert_eq!(rows.claims.basin(&SessionId::from_body("x")).await.unwrap(), None);
}
