//! Two handles on one Postgres, as two replicas have them, and many callers on each: who wins, and that nobody waits in a
//! circle.

use crate::contract::postgres::PostgresDatabase;
use crate::contract::rows::*;
use crate::contract::rows_of;
use crate::{Database, SqlStore};
use continuo_domain::run::{Holder, MetadataOperation, MetadataUpdate, MetadataVerb, NewRun, Parent, RunCommand};
use continuo_domain::session::SessionPatch;
use continuo_domain::waitpoint::{ChannelWait, Completion, WaitedSession, Waitpoint};
use continuo_domain::{RunId, SessionId, WaitpointId, channel::Direction};
use continuo_ports::run_store::{LeaseRef, NewTrigger, ParentWait};
use continuo_ports::session_store::Claim;
use continuo_ports::{RunStore, SessionStore};
use sea_orm::{ConnectionTrait, DbBackend, Statement};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

struct Replicas {
    handles: [Database; 2],
    rows: [Rows; 2],
    database: PostgresDatabase,
}

impl Replicas {
    async fn start() -> Self {
        let database = PostgresDatabase::migrated().await;
        let handles = [database.connect().await, database.connect().await];
        let rows = [rows_of(handles[0].clone()), rows_of(handles[1].clone())];
        Self { handles, rows, database }
    }

    /// Callers take turns.
    fn rows(&self, caller: usize) -> Rows {
        self.rows[caller % 2].clone()
    }

    /// How often the server had to break a circle of waiting transactions. Its counters are written with a delay, and at the
    /// end of a session at the latest.
    async fn deadlocks(self) -> i64 {
        for handle in self.handles {
            handle.close().await;
        }
        let handle = self.database.connect().await;
        let sql = "SELECT deadlocks, pg_stat_force_next_flush() IS NULL AS flushed \
                   FROM pg_stat_database WHERE datname = current_database()";
        let row = handle.readers().query_one_raw(Statement::from_string(DbBackend::Postgres, sql)).await;
        row.unwrap().unwrap().try_get("", "deadlocks").unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_claims_on_two_replicas_one_wins() {
    let replicas = Replicas::start().await;
    let session = replicas.rows(0).session("s", Some("chat")).await.id;
    for version in 0..10 {
        let claims = together(32, |i| {
            let (rows, session) = (replicas.rows(i), session.clone());
            async move {
                let claim = claim(&session, version, &format!("v{version}c{i}"));
                match rows.sessions.claim_run(claim, T0).await.unwrap() {
                    Claim::Won { run, .. } => (Some(run.spec.id), None),
                    Claim::Lost(row) => (None, row.current_run),
                }
            }
        });
        let claims = claims.await;
        let won: Vec<_> = claims.iter().filter_map(|(won, _)| won.clone()).collect();
        assert_eq!(won.len(), 1, "version {version}");
        assert!(claims.iter().all(|(_, seen)| seen.as_ref().is_none_or(|seen| *seen == won[0])), "losers see who won");
        let row = replicas.rows(1).read(&session).await;
        assert_eq!((row.current_run_version, row.current_run.as_ref()), (version + 1, won.first()));
    }
    let audit = replicas.rows(0).sessions.session_runs(&session).await.unwrap();
    assert_eq!(audit.len(), 10, "no loser left a trace");
    assert_eq!(replicas.deadlocks().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_close_on_one_replica_and_claims_on_the_other_agree() {
    let replicas = Replicas::start().await;
    for round in 0..20 {
        let session = replicas.rows(0).session(&format!("s{round}"), None).await.id;
        let done = together(12, |i| {
            let (rows, session) = (replicas.rows(i), session.clone());
            async move {
                match i {
                    0 | 1 => {
                        usize::from(rows.sessions.close(&session, None, after(i as u64)).await.unwrap().is_first) * 100
                    }
                    2 | 3 => {
                        let patch = SessionPatch { tags: Some(vec![format!("t{i}")]), ..SessionPatch::default() };
                        rows.sessions.update(&session, patch, after(9)).await.map(|_| 0).unwrap()
                    }
                    _ => {
                        let claim = claim(&session, 0, &format!("s{round}r{i}"));
                        let claim = rows.sessions.claim_run(claim, T0).await.unwrap();
                        usize::from(matches!(claim, Claim::Won { .. }))
                    }
                }
            }
        });
        let sum: usize = done.await.into_iter().sum();
        let row = replicas.rows(1).read(&session).await;
        assert_eq!((sum / 100, sum % 100), (1, row.current_run_version as usize), "one close, at most one claim");
        assert!(row.closed_at.is_some() && row.tags.len() == 1, "no write undid another: {row:?}");
        assert_eq!(
            replicas.rows(0).sessions.session_runs(&session).await.unwrap().len(),
            row.current_run_version as usize
        );
    }
    assert_eq!(replicas.deadlocks().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_run_goes_to_two_workers_of_two_replicas() {
    let replicas = Replicas::start().await;
    for i in 0..200 {
        let run = NewRun { priority: i % 3, ..new_run(&format!("r{i:03}")) };
        replicas.rows(0).runs.trigger(run.into(), after(i as u64)).await.unwrap();
    }
    let taken = together(16, |i| {
        let rows = replicas.rows(i);
        async move {
            let mut taken = Vec::new();
            loop {
                let batch =
                    rows.runs.dequeue(request(&format!("w{i}"), 1 + i as u32 % 4, after(999)), after(999)).await;
                let batch = batch.unwrap();
                if batch.is_empty() {
                    return taken;
                }
                taken.extend(batch.into_iter().map(|assignment| (assignment.run.spec.id, assignment.run.lease)));
            }
        }
    });
    let taken: Vec<_> = taken.await.into_iter().flatten().collect();
    let distinct: HashMap<_, _> = taken.iter().cloned().collect();
    assert_eq!((taken.len(), distinct.len()), (200, 200));
    for (run, lease) in distinct {
        assert_eq!(replicas.rows(1).read_run(&run).await.lease, lease);
    }
    assert_eq!(replicas.deadlocks().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_of_queues_hold_across_replicas() {
    let replicas = Replicas::start().await;
    let place = |i: usize| (format!("q{}", i % 3), i.is_multiple_of(2).then(|| "key".to_owned()));
    for i in 0..120 {
        let (queue, concurrency_key) = place(i);
        let run = NewRun { queue: Some(queue), queue_limit: Some(3), concurrency_key, ..new_run(&format!("r{i:03}")) };
        let run = NewRun { task_identifier: format!("task-{}", i % 4), ..run };
        replicas.rows(0).runs.trigger(run.into(), T0).await.unwrap();
    }
    for round in 0..5_u64 {
        let taken = together(12, |i| {
            let rows = replicas.rows(i);
            async move {
                // Each in another order: the locks are not taken in it.
                let mut task_identifiers: Vec<_> = (0..4).map(|n| format!("task-{n}")).collect();
                task_identifiers.rotate_left(i % 4);
                let ask = continuo_ports::run_store::DequeueRequest {
                    task_identifiers,
                    ..request(&format!("w{i}"), 2, after(round))
                };
                rows.runs.dequeue(ask, after(round)).await.unwrap()
            }
        });
        let taken: Vec<_> = taken.await.into_iter().flatten().collect();
        let mut out: HashMap<_, usize> = HashMap::new();
        for assignment in &taken {
            *out.entry((assignment.run.queue(), assignment.run.spec.concurrency_key.clone())).or_default() += 1;
        }
        assert_eq!(out, (0..6).map(|i| (place(i), 3)).collect(), "round {round}: as many as there is room for");
        for assignment in taken {
            let holder = Holder::Lease(assignment.run.lease.unwrap().number);
            let complete = RunCommand::Complete { holder, output: None, output_type: None };
            let id = assignment.run.spec.id;
            replicas.rows(1).apply(&id, RunCommand::Start(holder), after(round)).await;
            replicas.rows(1).apply(&id, complete, after(round)).await;
        }
    }
    assert_eq!(replicas.deadlocks().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_and_completions_count_once_across_replicas() {
    let replicas = Replicas::start().await;
    for round in 0..10 {
        let made = together(24, |i| {
            let rows = replicas.rows(i);
            async move {
                let key = Some(format!("k{round}"));
                let id = format!("x{round}i{i}");
                if i % 2 == 0 {
                    let run = NewRun { idempotency_key: key, ..new_run(&id) };
                    let made = rows.runs.trigger(run.into(), T0).await.unwrap();
                    ("run", made.row.spec.id.to_string(), made.is_cached)
                } else {
                    let made =
                        rows.runs.create_waitpoint(Waitpoint { idempotency_key: key, ..waitpoint(&id) }).await.unwrap();
                    ("wait", made.row.id.to_string(), made.is_cached)
                }
            }
        });
        let made = made.await;
        for kind in ["run", "wait"] {
            let of_kind: Vec<_> = made.iter().filter(|(k, ..)| *k == kind).collect();
            assert_eq!(of_kind.iter().filter(|(.., is_cached)| !is_cached).count(), 1, "{kind}");
            assert_eq!(of_kind.iter().map(|(_, id, _)| id).collect::<HashSet<_>>().len(), 1, "{kind}");
        }
        let id = WaitpointId::parse(&made.iter().find(|(kind, ..)| *kind == "wait").unwrap().1).unwrap();
        let completed = together(12, |i| {
            let (rows, id) = (replicas.rows(i), id.clone());
            async move { rows.runs.complete_waitpoint(&id, Completion::json(i.to_string()), after(1)).await.unwrap() }
        });
        let completed = completed.await;
        assert_eq!(completed.iter().filter(|done| done.is_first).count(), 1);
        let outputs: HashSet<_> = completed.into_iter().map(|done| done.waitpoint.completion.unwrap().output).collect();
        assert_eq!(outputs.len(), 1, "all are told the first one's");
    }
    assert_eq!(replicas.deadlocks().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_and_the_waits_by_them_meet_across_replicas() {
    let replicas = Replicas::start().await;
    for round in 0..40 {
        let text = format!("chat-{round}");
        let by_name = |body: String| {
            let session = WaitedSession::Name(text.clone());
            let channel = ChannelWait { session, direction: Direction::In, from_seq_num: 0 };
            Waitpoint { channel: Some(channel), ..waitpoint(&body) }
        };
        // On odd rounds the name comes by a rename.
        let renamed = match round % 2 {
            0 => None,
            _ => Some(replicas.rows(0).session(&format!("s{round}"), None).await.id),
        };
        let done = together(5, |i| {
            let (rows, renamed, wait) = (replicas.rows(i), renamed.clone(), by_name(format!("r{round}w{i}")));
            let text = text.clone();
            async move {
                if i > 0 {
                    rows.runs.create_waitpoint(wait).await.unwrap();
                    return None;
                }
                let Some(id) = renamed else {
                    return Some(
                        rows.sessions.upsert(new_session(&format!("s{round}"), Some(&text)), T0).await.unwrap().session,
                    );
                };
                let patch = SessionPatch { external_id: Some(Some(name(&text))), ..SessionPatch::default() };
                Some(rows.sessions.update(&id, patch, T0).await.unwrap())
            }
        });
        let session = done.await.remove(0).unwrap();
        let channel = continuo_domain::channel::ChannelKey::reserved(session.id, Direction::In);
        let waits = replicas.rows(1).runs.open_waits(&channel, 0).await.unwrap();
        assert_eq!(waits.len(), 4, "round {round}");
    }
    assert_eq!(replicas.deadlocks().await, 0);
}

/// Parents that wait for their children, and everything that is done to them at the same time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn families_are_canceled_completed_and_renewed_without_a_deadlock() {
    let replicas = Replicas::start().await;
    for round in 0..12 {
        let family = make_family(&replicas.rows(0), round).await;
        let family = Arc::new(family);
        together(12, |i| {
            let (rows, family) = (replicas.rows(i), family.clone());
            async move { disturb(&rows, &family, i).await }
        })
        .await;
        let parent = replicas.rows(0).read_run(&family.parent).await;
        assert!(parent.status.is_terminal(), "canceled: {:?}", parent.status);
        for (child, _) in &family.children {
            assert!(replicas.rows(1).read_run(child).await.status.is_terminal());
        }
    }
    assert_eq!(replicas.deadlocks().await, 0);
}

struct Family {
    parent: RunId,
    children: Vec<(RunId, Holder)>,
    leases: Vec<LeaseRef>,
}

/// A parent that waits for the last of its children, all of them on workers.
async fn make_family(rows: &Rows, round: usize) -> Family {
    let (parent, holder) = rows.executing(new_run(&format!("f{round}p")), T0).await;
    let child = |i: usize, waits: bool| NewRun {
        parent: Some(Parent::of_child(&parent, waits)),
        ..new_run(&format!("f{round}c{i}"))
    };
    for i in 0..3 {
        rows.runs.trigger(child(i, false).into(), T0).await.unwrap();
    }
    let wait = Some(ParentWait { holder, waitpoint: WaitpointId::from_body(&format!("f{round}")) });
    rows.runs.trigger(NewTrigger { run: child(3, true), one_time_token: None, wait }, T0).await.unwrap();
    let (mut children, mut leases) = (Vec::new(), Vec::new());
    for assignment in rows.dequeue(9, after(1)).await {
        let number = assignment.run.lease.unwrap().number;
        leases.push(LeaseRef { run: assignment.run.spec.id.clone(), number });
        children.push((assignment.run.spec.id, Holder::Lease(number)));
    }
    assert_eq!(children.len(), 4);
    leases.push(LeaseRef { run: parent.spec.id.clone(), number: 1 });
    Family { parent: parent.spec.id, children, leases }
}

/// What a family meets: any of it may come too late, which is an answer like any other.
async fn disturb(rows: &Rows, family: &Family, caller: usize) {
    let (child, holder) = family.children[caller % 4].clone();
    let set = |key: &str| MetadataOperation { verb: MetadataVerb::Set, key: key.into(), value: Some("1".into()) };
    let refused = match caller {
        0..4 => {
            let complete = RunCommand::Complete { holder, output: Some("1".into()), output_type: None };
            rows.runs.apply(&env(), &child, complete, after(5)).await.err()
        }
        4 | 5 => {
            rows.runs.apply(&env(), &family.parent, RunCommand::Cancel { reason: "over".into() }, after(5)).await.err()
        }
        6..9 => {
            let mut leases = family.leases.clone();
            leases.rotate_left(caller % 5);
            rows.runs.renew(&env(), &leases, None, after(60_000), after(5)).await.err()
        }
        _ => {
            let update = MetadataUpdate { parent: vec![set("p")], root: vec![set("r")], ..Default::default() };
            rows.runs.update_metadata(&child, update, after(5)).await.err()
        }
    };
    if let Some(error) = refused {
        assert!(matches!(error, continuo_domain::Error::StaleSnapshot { .. }), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadlock_is_run_again_and_nobody_is_told() {
    use futures_util::FutureExt;
    use std::sync::atomic::{AtomicU32, Ordering};
    let replicas = Replicas::start().await;
    let ids = [replicas.rows(0).session("a", None).await.id, replicas.rows(0).session("b", None).await.id];
    let (barrier, runs) = (Arc::new(tokio::sync::Barrier::new(2)), Arc::new(AtomicU32::new(0)));
    let changes = [0, 1].map(|i| {
        let (first, second) = (ids[i].clone(), ids[1 - i].clone());
        let (barrier, runs) = (barrier.clone(), runs.clone());
        let handle = replicas.handles[i].clone();
        tokio::spawn(async move { handle.write(move |tx| lock_both(tx, first, second, barrier, runs).boxed()).await })
    });
    for change in changes {
        change.await.unwrap().unwrap();
    }
    assert_eq!(runs.load(Ordering::Relaxed), 3, "one of the two ran twice");
    assert_eq!(replicas.deadlocks().await, 1, "the counter counts");

    async fn lock_both(
        tx: &sea_orm::DatabaseTransaction,
        first: SessionId,
        second: SessionId,
        barrier: Arc<tokio::sync::Barrier>,
        runs: Arc<AtomicU32>,
    ) -> continuo_domain::Result<()> {
        let is_first_try = runs.fetch_add(1, Ordering::Relaxed) < 2;
        crate::sessions::locked(tx, &first).await?;
        if is_first_try {
            barrier.wait().await;
        }
        let mut session = crate::sessions::locked(tx, &second).await?;
        session.tags.push(first.to_string());
        crate::sessions::save(tx, &session).await.map_err(crate::error::failed)?;
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_migrate_at_once_are_fine() {
    let database = PostgresDatabase::migrated().await;
    let handle = database.connect().await;
    let clear = "DROP SCHEMA public CASCADE; CREATE SCHEMA public";
    handle.readers().execute_unprepared(clear).await.unwrap();
    assert_eq!(handle.schema_status().await.unwrap(), crate::SchemaStatus::Empty);
    let handles = [database.connect().await, database.connect().await, handle.clone()];
    let migrated = together(3, |i| {
        let handle = handles[i].clone();
        async move { handle.migrate().await }
    });
    for migrated in migrated.await {
        migrated.unwrap();
    }
    assert_eq!(handle.schema_status().await.unwrap(), crate::SchemaStatus::Current);
    let store = SqlStore::new(handle);
    assert!(store.upsert(new_session("a", None), T0).await.unwrap().is_new);
    assert!(store.next_due(T0).await.unwrap().is_none());
}
