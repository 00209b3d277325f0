//! How often Postgres is asked for what every append and every create needs, counted; and the race that one statement
//! instead of several must not lose.

use crate::contract::postgres::PostgresDatabase;
use crate::contract::rows::*;
use crate::contract::rows_of;
use crate::{Database, waitpoints};
use continuo_domain::SessionId;
use continuo_domain::channel::{ChannelKey, Direction, PartId, Position};
use continuo_domain::claim::{Claim, Claimed, NewClaim};
use continuo_domain::run::{Holder, RunCommand};
use continuo_domain::session::SessionRef;
use continuo_domain::waitpoint::{ChannelWait, WaitedSession, Waitpoint};
use continuo_ports::append_claims::Settled;
use continuo_ports::environments::{Environment, KeyOwner, RotatedKey};
use futures_util::FutureExt;
use sea_orm::{ConnectionTrait, DbBackend, Statement};
use std::sync::Arc;
use tokio::sync::Notify;

struct Counted {
    rows: Rows,
    database: Database,
    guard: PostgresDatabase,
}

async fn counted() -> Counted {
    let guard = PostgresDatabase::migrated().await;
    let database = guard.connect().await;
    Counted { rows: rows_of(database.clone()), database, guard }
}

impl Counted {
    /// What a call answers, and how often it asked.
    async fn of<T>(&self, call: impl Future<Output = continuo_domain::Result<T>>) -> (u64, T) {
        let before = self.database.round_trips();
        let answer = call.await.unwrap();
        (self.database.round_trips() - before, answer)
    }
}

fn new_claim(part_id: &str) -> NewClaim {
    NewClaim {
        name: None,
        direction: Direction::In,
        part_id: PartId::parse(part_id).unwrap(),
        is_servers: part_id.ends_with('s'),
        digest: [7; 32],
        mark: format!("mark of {part_id}"),
        from: None,
        claimed_at: T0,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_asks_once() {
    let counted = counted().await;
    let sessions = &counted.rows.sessions;
    let session = counted.rows.session("a", Some("chat-1")).await;
    counted.rows.won(&session.id, 0, "1").await;
    for reference in [SessionRef::Id(session.id.clone()), by_name("chat-1")] {
        let environment = env();
        let look = |claim| sessions.probe(&environment, &reference, claim);
        let (asked, probe) = counted.of(look(None)).await;
        assert_eq!((asked, probe.unwrap().is_run_alive), (1, true));
        let claim = new_claim(&format!("{reference:?}"));
        let (asked, probe) = counted.of(look(Some(claim.clone()))).await;
        let claimed = probe.unwrap().claimed.unwrap();
        assert!(asked == 1 && matches!(claimed, Claimed::Fresh(_)), "{asked} {claimed:?}");
        let repeat = NewClaim { mark: "later".into(), ..claim };
        let (asked, probe) = counted.of(look(Some(repeat))).await;
        let claimed = probe.unwrap().claimed.unwrap();
        assert!(asked == 2 && matches!(claimed, Claimed::Known(_)), "{asked} {claimed:?}");
        assert_eq!(counted.of(sessions.get(&environment, &reference)).await.0, 1);
    }
    let nothing = by_name("nothing");
    let (asked, probe) = counted.of(sessions.probe(&env(), &nothing, Some(new_claim("p")))).await;
    assert!(asked == 1 && probe.is_none());
    assert_eq!(counted.of(sessions.without_live_run(&[session.id])).await.0, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_create_asks_once() {
    let counted = counted().await;
    let sessions = &counted.rows.sessions;
    for (body, name, is_first) in [("a", Some("chat-1"), true), ("b", None, true), ("c", Some("chat-1"), false)] {
        let (asked, made) = counted.of(sessions.create(new_session(body, name), new_run(body), T0)).await;
        assert_eq!((asked, made.first_run.is_some()), (1, is_first), "{body}");
    }
}

/// As after an answer that was lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_create_asked_again_finds_itself() {
    let counted = counted().await;
    let rows = &counted.rows;
    for (body, name) in [("a", Some("chat-1")), ("b", None)] {
        let create = || rows.sessions.create(new_session(body, name), new_run(body), T0);
        let (first, again) = (create().await.unwrap(), create().await.unwrap());
        assert_eq!((&again.session, again.first_run.is_some()), (&first.session, true), "{body}");
        assert_eq!(rows.sessions.session_runs(&first.session.id).await.unwrap().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_ask_once() {
    let counted = counted().await;
    let claims = &counted.rows.claims;
    let session = counted.rows.session("a", None).await.id;
    let mut settled = Vec::new();
    for n in 0..50 {
        let (asked, claimed) = counted.of(claims.claim(&session, new_claim(&format!("{n}{}", ["", "s"][n % 2])))).await;
        assert_eq!(asked, 1);
        let Claimed::Fresh(Claim { channel, part_id, mark, .. }) = claimed else { panic!("{claimed:?}") };
        settled.push(Settled { channel, part_id, mark, at: Position { seq_num: n as u64, timestamp: T0 } });
    }
    assert_eq!(counted.of(claims.settle(settled)).await.0, 1);
    let Claimed::Fresh(claim) = claims.claim(&session, new_claim("p")).await.unwrap() else { panic!("it was free") };
    let (channel, part_id) = (&claim.channel, &claim.part_id);
    assert_eq!(counted.of(claims.claim_of(channel, part_id)).await.0, 1);
    let taker = NewClaim { mark: "taker".into(), ..new_claim("p") };
    assert_eq!(counted.of(claims.take_over(&claim, taker)).await, (1, true));
    assert_eq!(counted.of(claims.release(channel, part_id, "taker")).await.0, 1);
    assert_eq!(counted.of(claims.unsettled(after(9), 9)).await, (1, vec![]));
    assert_eq!(counted.of(claims.basin(&session)).await.0, 1);
    assert_eq!(counted.of(claims.forget(&session)).await.0, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_looked_up_at_once() {
    let counted = counted().await;
    let environments = &counted.rows.environments;
    let rotated = |hash: u8| RotatedKey { sealed: vec![hash], hash: vec![hash], valid_until: after(99) };
    let environment = Environment {
        tenant: tenant(env()),
        slug: "dev".into(),
        root_key_sealed: vec![1],
        root_key_hash: vec![1],
        rotated: vec![rotated(2), rotated(3)],
        tokens_not_before: None,
    };
    environments.put(environment, T0).await.unwrap();
    let is_whole = |found: &Environment| found.slug == "dev" && found.rotated.len() == 2;
    let (asked, found) = counted.of(environments.get(&env())).await;
    assert!(asked == 1 && found.as_ref().is_some_and(is_whole), "{asked} {found:?}");
    let (asked, all) = counted.of(environments.all()).await;
    assert!(asked == 1 && all.len() == 1 && is_whole(&all[0]), "{asked} {all:?}");
    for hash in [1, 3] {
        let (asked, owner) = counted.of(environments.find_key(&[hash], T0)).await;
        let is_ours = matches!(&owner, Some(KeyOwner::Root(environment)) if is_whole(environment));
        assert!(asked == 1 && is_ours, "{asked} {owner:?}");
    }
}

/// Begin, the run, what changed, commit. Before a run is handed out: is there one, and which comes next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runs_life_asks_so_often() {
    let counted = counted().await;
    let (rows, environment) = (&counted.rows, env());
    let id = rows.runs.trigger(new_run("a").into(), T0).await.unwrap().row.spec.id;
    assert_eq!(counted.of(rows.runs.get(&environment, &id)).await.0, 1);
    let (dequeued, taken) = counted.of(rows.runs.dequeue(request("w", 1, T0), T0)).await;
    let holder = Holder::Lease(taken[0].run.lease.as_ref().unwrap().number);
    let start = RunCommand::Start(holder);
    let (started, _) = counted.of(rows.runs.apply(&environment, &id, start, after(1))).await;
    let complete = RunCommand::Complete { holder, output: None, output_type: None };
    let (completed, _) = counted.of(rows.runs.apply(&environment, &id, complete, after(2))).await;
    assert_eq!((dequeued, started, completed), (6, 4, 4));
}

/// The server ends its connections; what is asked next on one of them does no harm when it is asked again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_connection_costs_no_claim() {
    let counted = counted().await;
    let (rows, other) = (&counted.rows, counted.guard.connect().await);
    let session = rows.session("a", Some("chat-1")).await.id;
    let end_others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                      WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let end_others = || other.write_one(Statement::from_string(DbBackend::Postgres, end_others));
    end_others().await.unwrap();
    let probe = rows.sessions.probe(&env(), &by_name("chat-1"), Some(new_claim("p"))).await.unwrap().unwrap();
    let Some(Claimed::Fresh(claim)) = probe.claimed else { panic!("{:?}", probe.claimed) };
    end_others().await.unwrap();
    assert!(matches!(rows.claims.claim(&session, new_claim("q")).await.unwrap(), Claimed::Fresh(_)));
    end_others().await.unwrap();
    let Claim { channel, part_id, mark, .. } = claim.clone();
    let at = Position { seq_num: 3, timestamp: T0 };
    rows.claims.settle(vec![Settled { channel, part_id, mark, at }]).await.unwrap();
    let settled = rows.claims.claim_of(&claim.channel, &claim.part_id).await.unwrap().unwrap();
    assert_eq!(settled.settled_at, Some(at));
    end_others().await.unwrap();
    let created = rows.sessions.create(new_session("b", Some("chat-2")), new_run("b"), T0).await.unwrap();
    assert_eq!(created.first_run, Some(rows.read_run(&continuo_domain::RunId::from_body("b")).await));
}

fn wait_for(name: &str) -> Waitpoint {
    let session = WaitedSession::Name(name.into());
    Waitpoint { channel: Some(ChannelWait { session, direction: Direction::In, from_seq_num: 0 }), ..waitpoint("w") }
}

/// The create begins before the wait is committed, and waits for it: its own view of the database is older than the wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_create_that_waited_for_a_wait_binds_it() {
    let counted = counted().await;
    let (is_made, may_commit) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let wait = {
        let (database, is_made, may_commit) = (counted.database.clone(), is_made.clone(), may_commit.clone());
        tokio::spawn(async move {
            let made = database.write(|tx| {
                async move {
                    let made = waitpoints::create(tx, wait_for("chat-1")).await?;
                    is_made.notify_one();
                    may_commit.notified().await;
                    Ok(made)
                }
                .boxed()
            });
            made.await.unwrap()
        })
    };
    is_made.notified().await;
    let sessions = counted.rows.sessions.clone();
    let create = async move { sessions.create(new_session("s", Some("chat-1")), new_run("r"), T0).await.unwrap() };
    let create = tokio::spawn(create);
    let waiting = "SELECT 1 FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database \
                   WHERE datname = current_database() AND locktype = 'advisory' AND NOT granted";
    let waiting = Statement::from_string(DbBackend::Postgres, waiting);
    while counted.database.readers().query_one_raw(waiting.clone()).await.unwrap().is_none() {
        assert!(!create.is_finished(), "it did not wait");
        tokio::task::yield_now().await;
    }
    may_commit.notify_one();
    assert!(wait.await.unwrap().row.is_open());
    assert!(create.await.unwrap().first_run.is_some());
    let channel = ChannelKey::reserved(SessionId::from_body("s"), Direction::In);
    assert_eq!(counted.rows.runs.open_waits(&channel, 0).await.unwrap().len(), 1);
}
