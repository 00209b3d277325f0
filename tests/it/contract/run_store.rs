//! What every `RunStore` promises. In `tests/races.md`: 10, 11, 24.
//!
//! ```ignore
//! run_store_contract!(sqlite, crate::contract::run_store, on_a_temp_dir());
//! ```

use super::rows::*;
use continuo_domain::channel::{ChannelKey, ChannelName, Direction};
use continuo_domain::run::{Debounce, Holder, KeyScope, MetadataUpdate, NewRun, Parent, Run, RunCommand, RunError};
use continuo_domain::run::{RunStatus, UserKey};
use continuo_domain::session::Json;
use continuo_domain::waitpoint::{ChannelWait, Completion, WaitedSession, Waitpoint, WaitpointKind};
use continuo_domain::{Error, RunId, SessionId, WaitpointId};
use continuo_ports::run_store::{Applied, DequeueRequest, LeaseRef, PageFrom, RunFilter, WaitpointFilter};
use std::collections::{HashMap, HashSet};

macro_rules! run_store_contract {
    ($adapter:ident, $($suite:ident)::+, $new:expr) => {
        mod $adapter {
            use super::*;
            use $($suite)::+ as suite;

            rows_tests! { $new;
                a_run_reads_back_as_it_was_made
                an_idempotency_key_names_one_run
                of_many_triggers_with_one_key_one_makes_the_run
                runs_are_listed_newest_first
                a_run_lives_with_its_attempts
                a_stale_holder_changes_nothing
                a_repeat_writes_nothing
                the_queue_goes_by_priority_then_age
                a_worker_gets_the_tasks_it_knows_up_to_its_capacity
                each_run_goes_to_one_worker
                a_queue_keeps_its_limit
                workers_together_keep_the_limit
                a_full_queue_holds_up_no_other
                what_is_late_or_over_time_is_not_handed_out
                a_lost_worker_gives_the_run_back
                a_lease_ends_with_the_link_it_is_held_through
                the_clock_finds_what_is_due
                metadata_and_tags_are_kept
                a_wait_that_completes_resumes_its_run
                a_wait_that_was_complete_resumes_its_run_at_once
                suspending_and_completing_always_meet
                of_many_completions_one_is_first
                a_completion_resumes_every_run_that_waits
                a_wait_on_nothing_is_refused
                a_waitpoint_reads_back_as_it_was_made
                a_waitpoint_key_names_one_waitpoint
                open_waits_are_found_by_channel_and_number
                open_waits_are_found_by_channels
                open_waits_are_swept_in_pages
                time_outs_are_found
                waitpoints_are_listed_newest_first
            }
        }
    };
}
pub(crate) use run_store_contract;

fn id(body: &str) -> RunId {
    RunId::from_body(body)
}

fn wp(body: &str) -> WaitpointId {
    WaitpointId::from_body(body)
}

fn boom() -> RunError {
    RunError { name: "Error".into(), message: "boom".into(), stack_trace: Some("at task".into()) }
}

async fn trigger(rows: &Rows, run: NewRun, ms: u64) -> Run {
    let made = rows.runs.trigger(run.into(), after(ms)).await.unwrap();
    assert!(!made.is_cached);
    made.row
}

fn names(runs: &[Run]) -> Vec<&str> {
    runs.iter().map(|run| run.spec.id.as_str().trim_start_matches("run_")).collect()
}

fn resumed(applied: Vec<Applied>) -> Vec<Run> {
    applied.into_iter().map(|applied| applied.run).collect()
}

async fn dequeued(rows: &Rows, request: DequeueRequest, ms: u64) -> Vec<Run> {
    let assignments = rows.runs.dequeue(request, after(ms)).await.unwrap();
    assignments.into_iter().map(|a| a.run).collect()
}

pub(crate) async fn a_run_reads_back_as_it_was_made(rows: Rows) {
    let spec = NewRun {
        payload: r#"{ "b":1.0, "a":12345678901234567890 }"#.into(),
        payload_type: "application/store".into(),
        queue: Some("q".into()),
        queue_limit: Some(2),
        concurrency_key: Some("k".into()),
        priority: -3,
        machine: Some("micro".into()),
        region: Some("eu".into()),
        lock_to_version: Some("v1".into()),
        max_attempts: 3,
        max_duration_s: Some(u32::MAX),
        ttl_ms: Some(1_000),
        delay_until: Some(after(500)),
        idempotency_key: Some("key".into()),
        idempotency_key_ttl_ms: Some(9),
        tags: vec!["a".into(), "ü\"".into()],
        metadata: Some(Json::trusted(r#"{"x": 1}"#.into())),
        is_test: true,
        external_deployment_id: Some("d".into()),
        parent: Some(Parent { run: id("p"), root: id("r"), depth: 2, waits: true }),
        batch: Some("batch_1".into()),
        bulk_action: Some("bulk_1".into()),
        limits: Some(Json::trusted(r#"{"concurrency":["a"]}"#.into())),
        user_key: Some(UserKey { key: "mine".into(), scope: KeyScope::Attempt }),
        debounce: Some(Debounce { key: "d".into(), delay_ms: 500, is_trailing: true, max_delay_ms: Some(9_000) }),
        ..new_run("a")
    };
    let run = trigger(&rows, spec.clone(), 0).await;
    assert_eq!(run, Run::new(spec, 0, T0));
    assert_eq!(rows.read_run(&id("a")).await, run);
    assert_eq!(rows.runs.get(&other_env(), &id("a")).await.unwrap(), None);
    assert_eq!(rows.runs.get(&env(), &id("b")).await.unwrap(), None);
    assert!(rows.runs.attempts(&id("a")).await.unwrap().is_empty());
    let (run, holder) = rows.executing(NewRun { max_attempts: 2, ..new_run("c") }, after(1)).await;
    assert_eq!(rows.read_run(&run.spec.id).await, run);
    let failed = rows.apply(&run.spec.id, RunCommand::Fail { holder, error: boom(), may_retry: true }, after(2)).await;
    assert_eq!((failed.status, failed.error.clone()), (RunStatus::RetryingAfterFailure, Some(boom())));
    assert_eq!(rows.read_run(&run.spec.id).await, failed);
}

pub(crate) async fn an_idempotency_key_names_one_run(rows: Rows) {
    let keyed = |body: &str| NewRun { idempotency_key: Some("key".into()), ..new_run(body) };
    let first = trigger(&rows, NewRun { idempotency_key_ttl_ms: Some(100), ..keyed("a") }, 0).await;
    let again = rows.runs.trigger(keyed("b").into(), after(99)).await.unwrap();
    assert_eq!((again.is_cached, again.row), (true, first.clone()));
    let cancel = RunCommand::Cancel { reason: "over".into() };
    rows.apply(&first.spec.id, cancel, after(99)).await;
    assert!(rows.runs.trigger(keyed("c").into(), after(99)).await.unwrap().is_cached, "over, but named by its key");
    let later = trigger(&rows, keyed("d"), 100).await;
    assert_eq!(
        rows.runs.trigger(keyed("e").into(), after(9_999_999)).await.unwrap().row,
        later,
        "for ever, without an end"
    );
    assert_eq!(rows.read_run(&first.spec.id).await.spec.idempotency_key.as_deref(), Some("key"));
    trigger(&rows, NewRun { task_identifier: "other".into(), ..keyed("f") }, 0).await;
    trigger(&rows, NewRun { environment: other_env(), ..keyed("g") }, 0).await;
    assert_eq!(rows.runs.get(&env(), &id("b")).await.unwrap(), None, "a repeat makes nothing");
}

pub(crate) async fn of_many_triggers_with_one_key_one_makes_the_run(rows: Rows) {
    let made = together(32, |i| {
        let runs = rows.runs.clone();
        let run = NewRun { idempotency_key: Some("key".into()), ..new_run(&format!("r{i}")) };
        async move { runs.trigger(run.into(), T0).await.unwrap() }
    });
    let made = made.await;
    assert_eq!(made.iter().filter(|m| !m.is_cached).count(), 1);
    assert_eq!(made.iter().map(|m| m.row.spec.id.clone()).collect::<HashSet<_>>().len(), 1);
}

pub(crate) async fn runs_are_listed_newest_first(rows: Rows) {
    let session = rows.session("s", None).await;
    trigger(&rows, NewRun { tags: vec!["x".into()], ..new_run("c") }, 1).await;
    trigger(&rows, NewRun { tags: vec!["y".into()], task_identifier: "other".into(), ..new_run("a") }, 2).await;
    trigger(&rows, new_run("b"), 2).await;
    trigger(&rows, NewRun { environment: other_env(), ..new_run("z") }, 3).await;
    rows.won(&session.id, 0, "s").await;
    rows.apply(&id("b"), RunCommand::Cancel { reason: "over".into() }, after(3)).await;
    let list = async |filter: RunFilter, after: Option<&str>, size| {
        let from = after.map_or(PageFrom::Start, |body| PageFrom::After(id(body)));
        let page = rows.runs.list(&env(), &filter, &from, size).await.unwrap();
        names(&page.rows).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let all = RunFilter::default;
    assert_eq!(list(all(), None, 10).await, ["b", "a", "c", "s"]);
    assert_eq!(list(all(), None, 2).await, ["b", "a"]);
    assert_eq!(list(all(), Some("b"), 2).await, ["a", "c"]);
    assert_eq!(list(all(), Some("a"), 9).await, ["c", "s"]);
    let tags = vec!["x".into(), "y".into()];
    assert_eq!(list(RunFilter { tags: tags.clone(), ..all() }, None, 9).await, ["a", "c"]);
    let other = vec!["other".into()];
    assert_eq!(list(RunFilter { tags, task_identifiers: other, ..all() }, None, 9).await, ["a"]);
    assert_eq!(list(RunFilter { session: Some(session.id), ..all() }, None, 9).await, ["s"]);
    let statuses = vec![RunStatus::Canceled, RunStatus::Executing];
    assert_eq!(list(RunFilter { statuses, ..all() }, None, 9).await, ["b"]);
    let unknown = rows.runs.list(&env(), &all(), &PageFrom::After(id("nope")), 9).await;
    assert!(matches!(unknown, Err(Error::RunNotFound)), "{unknown:?}");
}

pub(crate) async fn a_run_lives_with_its_attempts(rows: Rows) {
    let (run, holder) = rows.executing(NewRun { max_attempts: 2, ..new_run("a") }, after(1)).await;
    let id = run.spec.id;
    let began = rows.runs.attempts(&id).await.unwrap();
    assert_eq!((began.len(), began[0].number, began[0].worker.as_str()), (1, 1, "worker"));
    assert_eq!((began[0].started_at, began[0].ended_at), (after(1), None));
    let failed = rows.apply(&id, RunCommand::Fail { holder, error: boom(), may_retry: true }, after(2)).await;
    let retry_at = failed.available_at.unwrap();
    let taken = dequeued(&rows, request("second", 1, retry_at), retry_at.ms_since(T0)).await.pop().unwrap();
    let holder = Holder::Lease(taken.lease.unwrap().number);
    rows.apply(&id, RunCommand::Start(holder), retry_at).await;
    let complete = RunCommand::Complete { holder, output: Some("[1 ]".into()), output_type: Some("text".into()) };
    let done = rows.apply(&id, complete, retry_at.plus_ms(5)).await;
    assert_eq!((done.status, done.output.as_deref()), (RunStatus::CompletedSuccessfully, Some("[1 ]")));
    let attempts = rows.runs.attempts(&id).await.unwrap();
    let seen: Vec<_> = attempts.into_iter().map(|a| (a.number, a.worker, a.ended_at, a.error)).collect();
    assert_eq!(
        seen,
        [
            (1, "worker".to_owned(), Some(after(2)), Some(boom())),
            (2, "second".to_owned(), Some(retry_at.plus_ms(5)), None),
        ]
    );
    assert_eq!(rows.read_run(&id).await, done);
}

pub(crate) async fn a_stale_holder_changes_nothing(rows: Rows) {
    let (run, holder) = rows.executing(new_run("a"), after(1)).await;
    let Holder::Lease(number) = holder else { panic!() };
    let stale = Holder::Lease(number - 1);
    for command in [
        RunCommand::Start(stale),
        RunCommand::Renew { holder: stale, link: Some("link".into()), lease_until: after(99_999) },
        RunCommand::Read { holder: stale, seq_num: 9 },
        RunCommand::Suspend { holder: stale, waitpoint: wp("w") },
        RunCommand::Complete { holder: stale, output: None, output_type: None },
        RunCommand::Fail { holder: stale, error: boom(), may_retry: false },
    ] {
        let refused = rows.runs.apply(&env(), &run.spec.id, command, after(2)).await;
        assert!(matches!(refused, Err(Error::StaleSnapshot { snapshot }) if snapshot == run.snapshot), "{refused:?}");
    }
    let elsewhere = rows.runs.apply(&other_env(), &run.spec.id, RunCommand::Tick, after(2)).await;
    assert!(matches!(elsewhere, Err(Error::RunNotFound)), "{elsewhere:?}");
    let missing = rows.runs.apply(&env(), &id("x"), RunCommand::Tick, after(2)).await;
    assert!(matches!(missing, Err(Error::RunNotFound)), "{missing:?}");
    assert_eq!(rows.read_run(&run.spec.id).await, run);
    assert_eq!(rows.runs.attempts(&run.spec.id).await.unwrap().len(), 1);
}

pub(crate) async fn a_repeat_writes_nothing(rows: Rows) {
    let (run, holder) = rows.executing(new_run("a"), after(1)).await;
    let again = rows.runs.apply(&env(), &run.spec.id, RunCommand::Start(holder), after(9)).await.unwrap();
    assert!(again.change.is_noop);
    assert_eq!((&again.run, &rows.read_run(&run.spec.id).await), (&run, &run));
    let cancels = together(8, |i| {
        let (runs, id) = (rows.runs.clone(), run.spec.id.clone());
        let cancel = RunCommand::Cancel { reason: format!("reason {i}") };
        async move { runs.apply(&env(), &id, cancel, after(20)).await.unwrap() }
    });
    let cancels = cancels.await;
    assert_eq!(cancels.iter().filter(|c| !c.change.is_noop).count(), 1);
    assert!(cancels.iter().all(|c| c.run == cancels[0].run), "the first cancel stands");
}

pub(crate) async fn the_queue_goes_by_priority_then_age(rows: Rows) {
    for (body, priority, at) in [("d", 0, 2), ("c", 0, 1), ("a", 5, 9), ("b", 1, 3), ("e", 0, 2), ("f", -1, 0)] {
        trigger(&rows, NewRun { priority, ..new_run(body) }, at).await;
    }
    let first = dequeued(&rows, request("w", 2, after(10)), 10).await;
    assert_eq!(names(&first), ["a", "b"]);
    assert!(first.iter().all(|run| run.status == RunStatus::Dequeued && run.available_at.is_none()));
    let lease = first[0].lease.clone().unwrap();
    assert_eq!((lease.worker.as_str(), lease.link.as_str(), lease.until), ("w", "link", after(30_010)));
    assert_eq!(rows.read_run(&id("a")).await, first[0], "it is written before it is handed out");
    assert_eq!(names(&dequeued(&rows, request("w", 9, after(10)), 10).await), ["c", "d", "e", "f"]);
    assert!(dequeued(&rows, request("w", 9, after(10)), 10).await.is_empty());
}

pub(crate) async fn a_worker_gets_the_tasks_it_knows_up_to_its_capacity(rows: Rows) {
    for (body, task) in [("a", "one"), ("b", "two"), ("c", "three"), ("d", "one")] {
        trigger(&rows, NewRun { task_identifier: task.into(), ..new_run(body) }, body.as_bytes()[0].into()).await;
    }
    trigger(&rows, NewRun { environment: other_env(), task_identifier: "one".into(), ..new_run("x") }, 0).await;
    let of = |tasks: &[&str], capacity| DequeueRequest {
        task_identifiers: tasks.iter().map(|&t| t.to_owned()).collect(),
        ..request("w", capacity, after(200))
    };
    assert!(dequeued(&rows, of(&["four"], 9), 200).await.is_empty());
    assert!(dequeued(&rows, of(&[], 9), 200).await.is_empty());
    assert!(dequeued(&rows, of(&["one"], 0), 200).await.is_empty());
    assert_eq!(names(&dequeued(&rows, of(&["one", "two"], 2), 200).await), ["a", "b"]);
    assert_eq!(names(&dequeued(&rows, of(&["three", "one", "three"], 9), 200).await), ["c", "d"]);
}

pub(crate) async fn each_run_goes_to_one_worker(rows: Rows) {
    for i in 0..100 {
        trigger(&rows, new_run(&format!("r{i:03}")), i).await;
    }
    let taken = together(8, |i| {
        let runs = rows.runs.clone();
        async move {
            let mut taken = Vec::new();
            loop {
                let batch = runs.dequeue(request(&format!("w{i}"), 3, after(200)), after(200)).await.unwrap();
                if batch.is_empty() {
                    return taken;
                }
                taken.extend(batch.into_iter().map(|a| a.run));
            }
        }
    });
    let taken: Vec<Run> = taken.await.into_iter().flatten().collect();
    assert_eq!(taken.len(), 100);
    assert_eq!(taken.iter().map(|run| run.spec.id.clone()).collect::<HashSet<_>>().len(), 100);
    for run in &taken {
        assert_eq!(rows.read_run(&run.spec.id).await.lease, run.lease);
    }
}

fn limited(body: &str, key: Option<&str>) -> NewRun {
    NewRun { queue: Some("q".into()), queue_limit: Some(2), concurrency_key: key.map(Into::into), ..new_run(body) }
}

pub(crate) async fn a_queue_keeps_its_limit(rows: Rows) {
    for (i, key) in [None, None, None, Some("k"), Some("k"), Some("k"), Some("l")].into_iter().enumerate() {
        trigger(&rows, limited(&format!("r{i}"), key), i as u64).await;
    }
    trigger(&rows, new_run("free"), 9).await;
    let out = dequeued(&rows, request("w", 20, after(10)), 10).await;
    assert_eq!(names(&out), ["r0", "r1", "r3", "r4", "r6", "free"]);
    assert!(dequeued(&rows, request("w", 20, after(10)), 10).await.is_empty());
    rows.apply(&id("r0"), RunCommand::Cancel { reason: "over".into() }, after(11)).await;
    assert_eq!(names(&dequeued(&rows, request("w", 20, after(11)), 11).await), ["r2"], "room for one");

    let holder = Holder::Lease(out[2].lease.as_ref().unwrap().number);
    rows.apply(&id("r3"), RunCommand::Start(holder), after(12)).await;
    assert!(dequeued(&rows, request("w", 20, after(12)), 12).await.is_empty(), "an executing run takes room");
    rows.runs.create_waitpoint(waitpoint("w")).await.unwrap();
    rows.apply(&id("r3"), RunCommand::Suspend { holder, waitpoint: wp("w") }, after(13)).await;
    assert_eq!(names(&dequeued(&rows, request("w", 20, after(13)), 13).await), ["r5"], "a suspended one does not");
    rows.runs.complete_waitpoint(&wp("w"), Completion::empty(), after(14)).await.unwrap();
    assert!(dequeued(&rows, request("w", 20, after(14)), 14).await.is_empty(), "to go on it needs room again");
    rows.apply(&id("r4"), RunCommand::Cancel { reason: "over".into() }, after(15)).await;
    assert_eq!(names(&dequeued(&rows, request("w", 20, after(15)), 15).await), ["r3"]);
}

pub(crate) async fn workers_together_keep_the_limit(rows: Rows) {
    for i in 0..30 {
        trigger(&rows, limited(&format!("r{i:02}"), Some(["k", "l"][i % 2])), i as u64).await;
    }
    let taken = together(8, |i| {
        let runs = rows.runs.clone();
        async move { runs.dequeue(request(&format!("w{i}"), 3, after(99)), after(99)).await.unwrap() }
    });
    let mut out: HashMap<String, u32> = HashMap::new();
    for assignment in taken.await.into_iter().flatten() {
        *out.entry(assignment.run.spec.concurrency_key.unwrap()).or_default() += 1;
    }
    assert_eq!(out, HashMap::from([("k".into(), 2), ("l".into(), 2)]));
}

pub(crate) async fn a_full_queue_holds_up_no_other(rows: Rows) {
    for i in 0..150 {
        trigger(&rows, NewRun { priority: 9 - i / 75, ..limited(&format!("r{i:03}"), None) }, i as u64 % 3).await;
    }
    trigger(&rows, new_run("free"), 5).await;
    let out = dequeued(&rows, request("w", 10, after(10)), 10).await;
    assert_eq!(names(&out), ["r000", "r003", "free"]);
    assert_eq!(names(&dequeued(&rows, request("w", 10, after(10)), 10).await), Vec::<&str>::new());
}

pub(crate) async fn what_is_late_or_over_time_is_not_handed_out(rows: Rows) {
    trigger(&rows, NewRun { delay_until: Some(after(50)), ..new_run("delayed") }, 0).await;
    trigger(&rows, NewRun { ttl_ms: Some(10), ..new_run("short") }, 0).await;
    assert!(dequeued(&rows, request("w", 9, after(49)), 49).await.is_empty());
    assert_eq!(rows.read_run(&id("short")).await.status, RunStatus::Pending, "the clock ends it, and says so");
    assert_eq!(names(&dequeued(&rows, request("w", 9, after(50)), 50).await), ["delayed"]);
    rows.apply(&id("short"), RunCommand::Tick, after(50)).await;
    assert_eq!(rows.read_run(&id("short")).await.status, RunStatus::Expired);
}

pub(crate) async fn a_lost_worker_gives_the_run_back(rows: Rows) {
    trigger(&rows, new_run("a"), 0).await;
    let first = dequeued(&rows, request("w", 1, after(1)), 1).await.pop().unwrap();
    let number = first.lease.unwrap().number;
    let lost = RunCommand::LoseLease { number, link: "link".into(), error: boom() };
    rows.apply(&id("a"), lost.clone(), after(2)).await;
    let second = dequeued(&rows, request("v", 1, after(2)), 2).await.pop().unwrap();
    assert_eq!(second.lease.as_ref().unwrap().worker, "v");
    assert_eq!(rows.apply(&id("a"), lost, after(3)).await, second, "another lease is left alone");
}

pub(crate) async fn a_lease_ends_with_the_link_it_is_held_through(rows: Rows) {
    trigger(&rows, new_run("a"), 0).await;
    let taken = dequeued(&rows, request("w", 1, after(1)), 1).await.pop().unwrap();
    let number = taken.lease.as_ref().unwrap().number;
    let lease = [LeaseRef { run: id("a"), number }];
    let lost = |link: &str| RunCommand::LoseLease { number, link: link.into(), error: boom() };
    let link = async || rows.read_run(&id("a")).await.lease.map(|lease| lease.link);
    assert!(rows.runs.renew(&env(), &lease, Some("newer"), after(40_000), after(2)).await.unwrap()[0].is_ok());
    assert_eq!(link().await.as_deref(), Some("newer"));
    assert!(rows.runs.renew(&env(), &lease, None, after(50_000), after(3)).await.unwrap()[0].is_ok());
    assert_eq!(link().await.as_deref(), Some("newer"), "a heartbeat takes it from nobody");
    let renewed = rows.read_run(&id("a")).await;
    assert_eq!(rows.apply(&id("a"), lost("link"), after(4)).await, renewed, "the worker came back");
    assert_eq!(rows.apply(&id("a"), lost("newer"), after(4)).await.status, RunStatus::Pending);
}

pub(crate) async fn the_clock_finds_what_is_due(rows: Rows) {
    assert_eq!(rows.runs.next_due(T0).await.unwrap(), None);
    trigger(&rows, NewRun { ttl_ms: Some(100), ..new_run("ttl") }, 0).await;
    trigger(&rows, NewRun { delay_until: Some(after(50)), ..new_run("delayed") }, 0).await;
    let waitpoint = Waitpoint { timeout_at: Some(after(30)), ..waitpoint("w") };
    rows.runs.create_waitpoint(waitpoint).await.unwrap();
    let due = async |ms, limit| {
        let runs = rows.runs.due_runs(after(ms), limit).await.unwrap();
        names(&runs).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(due(49, 9).await.is_empty());
    assert_eq!(due(50, 9).await, ["delayed"]);
    assert_eq!(due(100, 9).await, ["delayed", "ttl"], "oldest first");
    assert_eq!(due(100, 1).await, ["delayed"]);
    let next = async |ms| rows.runs.next_due(after(ms)).await.unwrap();
    assert_eq!((next(0).await, next(30).await, next(50).await), (Some(after(30)), Some(after(50)), Some(after(100))));
    assert_eq!(next(100).await, None);
    rows.runs.complete_waitpoint(&wp("w"), Completion::empty(), after(1)).await.unwrap();
    assert_eq!(next(0).await, Some(after(50)), "a complete waitpoint has no timeout");
    let taken = rows.dequeue(9, after(60)).await;
    assert_eq!(taken.len(), 2);
    assert_eq!(next(60).await, Some(after(30_060)), "the end of the leases");
    let holder = Holder::Lease(taken[0].run.lease.as_ref().unwrap().number);
    let error = boom();
    rows.apply(&taken[0].run.spec.id, RunCommand::Start(holder), after(61)).await;
    rows.apply(&taken[0].run.spec.id, RunCommand::Fail { holder, error, may_retry: false }, after(62)).await;
    rows.apply(&taken[1].run.spec.id, RunCommand::Cancel { reason: "over".into() }, after(62)).await;
    assert_eq!((next(0).await, due(99_999, 9).await), (None, vec![]), "what is over is never due");
}

pub(crate) async fn metadata_and_tags_are_kept(rows: Rows) {
    trigger(&rows, NewRun { tags: vec!["a".into()], ..new_run("a") }, 0).await;
    let metadata = Some(Json::trusted(r#"{"n": 1.0}"#.into()));
    let set = |metadata: Option<Json>| MetadataUpdate { replace: Some(metadata), ..MetadataUpdate::default() };
    let run = rows.runs.update_metadata(&id("a"), set(metadata.clone()), after(1)).await.unwrap();
    assert_eq!((&run.spec.metadata, run.updated_at), (&metadata, after(1)));
    let added = together(8, |i| {
        let runs = rows.runs.clone();
        async move { runs.add_tags(&id("a"), vec!["a".into(), format!("t{i}")], after(2)).await.unwrap() }
    });
    added.await;
    let run = rows.read_run(&id("a")).await;
    assert_eq!(run.spec.tags.iter().collect::<HashSet<_>>().len(), 9, "{:?}", run.spec.tags);
    assert_eq!((run.spec.tags.len(), &run.spec.metadata), (9, &metadata));
    assert_eq!(rows.runs.update_metadata(&id("a"), set(None), after(3)).await.unwrap().spec.metadata, None);
    let missing = rows.runs.add_tags(&id("x"), vec![], after(3)).await;
    assert!(matches!(missing, Err(Error::RunNotFound)), "{missing:?}");
}

fn on_channel(body: &str, session: &str, direction: Direction, from_seq_num: u64) -> Waitpoint {
    let session = WaitedSession::Id(SessionId::from_body(session));
    Waitpoint { channel: Some(ChannelWait { session, direction, from_seq_num }), ..waitpoint(body) }
}

pub(crate) async fn a_wait_that_completes_resumes_its_run(rows: Rows) {
    let (run, holder) = rows.executing(new_run("a"), after(1)).await;
    rows.runs.create_waitpoint(on_channel("w", "s", Direction::In, 0)).await.unwrap();
    let suspend = RunCommand::Suspend { holder, waitpoint: wp("w") };
    let suspended = rows.apply(&run.spec.id, suspend.clone(), after(2)).await;
    assert_eq!((suspended.status, suspended.lease.clone()), (RunStatus::WaitingToResume, None));
    assert_eq!(rows.apply(&run.spec.id, suspend, after(3)).await, suspended, "a repeat is no second suspension");
    assert!(rows.dequeue(9, after(3)).await.is_empty());
    let output = Completion::json("raw \u{1F600} body");
    let completed = rows.runs.complete_waitpoint(&wp("w"), output.clone(), after(4)).await.unwrap();
    assert!(completed.is_first);
    assert_eq!((completed.waitpoint.completed_at, &completed.waitpoint.completion), (Some(after(4)), &Some(output)));
    assert_eq!(resumed(completed.resumed), [rows.read_run(&run.spec.id).await]);
    let channel = ChannelKey::reserved(SessionId::from_body("s"), Direction::In);
    assert!(rows.runs.open_waits(&channel, 9).await.unwrap().is_empty(), "its registration is gone");
    let mut taken = rows.dequeue(9, after(5)).await;
    let assignment = taken.pop().unwrap();
    assert_eq!((assignment.run.status, assignment.run.attempt_number), (RunStatus::Executing, 1));
    assert_eq!(assignment.resumed_by, Some(completed.waitpoint));
    assert!(taken.is_empty());
}

pub(crate) async fn a_wait_that_was_complete_resumes_its_run_at_once(rows: Rows) {
    let (run, holder) = rows.executing(new_run("a"), after(1)).await;
    rows.runs.create_waitpoint(waitpoint("w")).await.unwrap();
    let completed = rows.runs.complete_waitpoint(&wp("w"), Completion::empty(), after(2)).await.unwrap();
    assert!(completed.is_first && completed.resumed.is_empty());
    let suspend = RunCommand::Suspend { holder, waitpoint: wp("w") };
    let applied = rows.runs.apply(&env(), &run.spec.id, suspend, after(3)).await.unwrap();
    assert!(applied.change.ended_lease.is_some());
    assert_eq!(applied.run.available_at, Some(after(3)));
    let taken = rows.dequeue(9, after(3)).await;
    assert_eq!((taken.len(), taken[0].resumed_by.as_ref()), (1, Some(&completed.waitpoint)));
}

pub(crate) async fn suspending_and_completing_always_meet(rows: Rows) {
    for round in 0..24 {
        let (run, holder) = rows.executing(new_run(&format!("r{round}")), after(1)).await;
        let waitpoint = wp(&format!("w{round}"));
        rows.runs.create_waitpoint(super::rows::waitpoint(&format!("w{round}"))).await.unwrap();
        let outcomes = together(2, |i| {
            let (runs, id, waitpoint) = (rows.runs.clone(), run.spec.id.clone(), waitpoint.clone());
            async move {
                if (i + round) % 2 == 0 {
                    let suspend = RunCommand::Suspend { holder, waitpoint };
                    runs.apply(&env(), &id, suspend, after(2)).await.unwrap();
                    return 0;
                }
                runs.complete_waitpoint(&waitpoint, Completion::empty(), after(2)).await.unwrap().resumed.len()
            }
        });
        outcomes.await;
        let taken = rows.dequeue(9, after(3)).await;
        assert_eq!(taken.iter().map(|a| &a.run.spec.id).collect::<Vec<_>>(), [&run.spec.id], "round {round}");
        assert!(taken[0].resumed_by.as_ref().unwrap().completed_at.is_some());
    }
}

pub(crate) async fn of_many_completions_one_is_first(rows: Rows) {
    let (run, holder) = rows.executing(new_run("a"), after(1)).await;
    rows.runs.create_waitpoint(waitpoint("w")).await.unwrap();
    rows.apply(&run.spec.id, RunCommand::Suspend { holder, waitpoint: wp("w") }, after(2)).await;
    let completions = together(16, |i| {
        let runs = rows.runs.clone();
        async move { runs.complete_waitpoint(&wp("w"), Completion::json(format!("{i}")), after(3)).await.unwrap() }
    });
    let completions = completions.await;
    assert_eq!(completions.iter().filter(|c| c.is_first).count(), 1);
    assert_eq!(completions.iter().map(|c| c.resumed.len()).sum::<usize>(), 1, "the run is resumed once");
    assert!(completions.iter().all(|c| c.waitpoint == completions[0].waitpoint), "the first completion stands");
    assert_eq!(rows.dequeue(9, after(4)).await.len(), 1);
    let late = rows.runs.complete_waitpoint(&wp("w"), Completion::empty(), after(5)).await.unwrap();
    assert_eq!((late.is_first, late.resumed.len(), &late.waitpoint), (false, 0, &completions[0].waitpoint));
    let missing = rows.runs.complete_waitpoint(&wp("x"), Completion::empty(), after(5)).await;
    assert!(matches!(missing, Err(Error::WaitpointNotFound)), "{missing:?}");
}

pub(crate) async fn a_completion_resumes_every_run_that_waits(rows: Rows) {
    rows.runs.create_waitpoint(waitpoint("w")).await.unwrap();
    rows.runs.create_waitpoint(waitpoint("other")).await.unwrap();
    for (body, waitpoint) in [("a", "w"), ("b", "w"), ("c", "other"), ("d", "w")] {
        let (run, holder) = rows.executing(new_run(body), after(1)).await;
        rows.apply(&run.spec.id, RunCommand::Suspend { holder, waitpoint: wp(waitpoint) }, after(2)).await;
    }
    rows.apply(&id("d"), RunCommand::Cancel { reason: "over".into() }, after(3)).await;
    let completed = rows.runs.complete_waitpoint(&wp("w"), Completion::empty(), after(4)).await.unwrap();
    assert_eq!(names(&resumed(completed.resumed)), ["a", "b"], "not one that waits for another, not one that is over");
}

pub(crate) async fn a_wait_on_nothing_is_refused(rows: Rows) {
    let (run, holder) = rows.executing(new_run("a"), after(1)).await;
    rows.runs.create_waitpoint(Waitpoint { environment: other_env(), ..waitpoint("theirs") }).await.unwrap();
    for waitpoint in [wp("x"), wp("theirs")] {
        let suspend = RunCommand::Suspend { holder, waitpoint };
        let refused = rows.runs.apply(&env(), &run.spec.id, suspend, after(2)).await;
        assert!(matches!(refused, Err(Error::WaitpointNotFound)), "{refused:?}");
    }
    assert_eq!(rows.read_run(&run.spec.id).await, run, "it executes on");
}

pub(crate) async fn a_waitpoint_reads_back_as_it_was_made(rows: Rows) {
    let full = Waitpoint {
        kind: WaitpointKind::DateTime,
        run: Some(id("a")),
        idempotency_key: Some("key:1".into()),
        idempotency_key_expires_at: Some(after(9)),
        tags: vec!["t".into()],
        timeout_at: Some(after(5)),
        ..on_channel("w", "s", Direction::Out, 7)
    };
    let made = rows.runs.create_waitpoint(full.clone()).await.unwrap();
    assert_eq!((made.is_cached, &made.row), (false, &full));
    assert_eq!(rows.runs.get_waitpoint(&env(), &wp("w")).await.unwrap(), Some(full.clone()));
    assert_eq!(rows.runs.get_waitpoint(&other_env(), &wp("w")).await.unwrap(), None);
    let timed_out = Completion::timed_out("2026-01-01T00:00:00.000Z");
    let completed = rows.runs.complete_waitpoint(&wp("w"), timed_out.clone(), after(5)).await.unwrap().waitpoint;
    assert_eq!((completed.channel.as_ref(), completed.completion.as_ref()), (full.channel.as_ref(), Some(&timed_out)));
    assert_eq!(rows.runs.get_waitpoint(&env(), &wp("w")).await.unwrap(), Some(completed));
}

pub(crate) async fn a_waitpoint_key_names_one_waitpoint(rows: Rows) {
    let keyed = |body: &str, ms: u64| Waitpoint {
        idempotency_key: Some("key".into()),
        idempotency_key_expires_at: Some(after(ms + 100)),
        created_at: after(ms),
        ..on_channel(body, "s", Direction::In, 0)
    };
    let made = together(16, |i| {
        let (runs, waitpoint) = (rows.runs.clone(), keyed(&format!("w{i}"), 0));
        async move { runs.create_waitpoint(waitpoint).await.unwrap() }
    });
    let made = made.await;
    assert_eq!(made.iter().filter(|m| !m.is_cached).count(), 1);
    let first = made[0].row.clone();
    assert!(made.iter().all(|m| m.row == first));
    let channel = ChannelKey::reserved(SessionId::from_body("s"), Direction::In);
    assert_eq!(rows.runs.open_waits(&channel, 0).await.unwrap().len(), 1, "a repeat registers nothing");
    rows.runs.complete_waitpoint(&first.id, Completion::empty(), after(50)).await.unwrap();
    let again = rows.runs.create_waitpoint(keyed("later", 99)).await.unwrap();
    assert_eq!((again.is_cached, again.row.id), (true, first.id.clone()), "complete, and still named by its key");
    let next = rows.runs.create_waitpoint(keyed("next", 100)).await.unwrap();
    assert_eq!((next.is_cached, next.row.id), (false, wp("next")));
    assert!(rows.runs.create_waitpoint(keyed("after", 150)).await.unwrap().is_cached);
    let elsewhere = Waitpoint { environment: other_env(), ..keyed("theirs", 0) };
    assert!(!rows.runs.create_waitpoint(elsewhere).await.unwrap().is_cached);
    assert!(rows.runs.get_waitpoint(&env(), &first.id).await.unwrap().unwrap().idempotency_key.is_some());
}

pub(crate) async fn open_waits_are_found_by_channel_and_number(rows: Rows) {
    for waitpoint in [
        on_channel("a", "s", Direction::In, 0),
        on_channel("b", "s", Direction::In, 5),
        on_channel("c", "s", Direction::Out, 0),
        on_channel("d", "t", Direction::In, 0),
        waitpoint("e"),
    ] {
        rows.runs.create_waitpoint(waitpoint).await.unwrap();
    }
    let open = async |session: &str, direction, seq_num| {
        let channel = ChannelKey::reserved(SessionId::from_body(session), direction);
        let waits = rows.runs.open_waits(&channel, seq_num).await.unwrap();
        waits.into_iter().map(|w| w.id.to_string().replace("waitpoint_", "")).collect::<Vec<_>>()
    };
    assert_eq!(open("s", Direction::In, 4).await, ["a"]);
    assert_eq!(open("s", Direction::In, 5).await, ["a", "b"]);
    assert_eq!(open("s", Direction::Out, 9).await, ["c"]);
    assert_eq!(open("t", Direction::In, 0).await, ["d"]);
    let mut named = ChannelKey::reserved(SessionId::from_body("s"), Direction::In);
    named.name = Some(ChannelName::parse("tools").unwrap());
    assert!(rows.runs.open_waits(&named, 9).await.unwrap().is_empty(), "named channels have no waits");
    rows.runs.complete_waitpoint(&wp("a"), Completion::empty(), after(1)).await.unwrap();
    assert_eq!(open("s", Direction::In, 5).await, ["b"]);
}

pub(crate) async fn open_waits_are_found_by_channels(rows: Rows) {
    for waitpoint in [
        on_channel("a", "s", Direction::In, 0),
        on_channel("b", "s", Direction::In, 5),
        on_channel("c", "s", Direction::Out, 0),
        on_channel("d", "t", Direction::Out, 9),
        on_channel("e", "u", Direction::In, 0),
        waitpoint("f"),
    ] {
        rows.runs.create_waitpoint(waitpoint).await.unwrap();
    }
    let channel = |session, direction| ChannelKey::reserved(SessionId::from_body(session), direction);
    let open = async |channels: &[ChannelKey]| {
        let waits = rows.runs.open_waits_on(channels).await.unwrap();
        let mut ids: Vec<_> = waits.into_iter().map(|w| w.id.to_string().replace("waitpoint_", "")).collect();
        ids.sort();
        ids
    };
    let (s_in, t_out) = (channel("s", Direction::In), channel("t", Direction::Out));
    assert_eq!(open(&[s_in.clone(), t_out.clone()]).await, ["a", "b", "d"], "whatever record they wait for");
    assert_eq!(open(&[channel("t", Direction::In), channel("x", Direction::In)]).await, [""; 0]);
    assert_eq!(open(&[]).await, [""; 0]);
    let named = ChannelKey { name: Some(ChannelName::parse("tools").unwrap()), ..channel("u", Direction::In) };
    assert_eq!(open(&[named, t_out]).await, ["d"], "named channels have no waits");
    rows.runs.complete_waitpoint(&wp("a"), Completion::empty(), after(1)).await.unwrap();
    assert_eq!(open(&[s_in]).await, ["b"]);
}

pub(crate) async fn open_waits_are_swept_in_pages(rows: Rows) {
    for i in [3, 1, 4, 0, 2] {
        rows.runs.create_waitpoint(on_channel(&format!("w{i}"), "s", Direction::In, i)).await.unwrap();
    }
    let unbound = ChannelWait { session: WaitedSession::Name("n".into()), direction: Direction::In, from_seq_num: 0 };
    rows.runs.create_waitpoint(Waitpoint { channel: Some(unbound), ..waitpoint("u") }).await.unwrap();
    rows.runs.create_waitpoint(waitpoint("v")).await.unwrap();
    rows.runs.complete_waitpoint(&wp("w3"), Completion::empty(), after(1)).await.unwrap();
    let (mut seen, mut last) = (Vec::new(), None);
    loop {
        let page = rows.runs.all_open_waits(last.as_ref(), 2).await.unwrap();
        let Some(end) = page.last() else { break };
        last = Some(end.id.clone());
        seen.extend(page.into_iter().map(|w| w.id));
    }
    assert_eq!(seen, [wp("w0"), wp("w1"), wp("w2"), wp("w4")]);
}

pub(crate) async fn time_outs_are_found(rows: Rows) {
    for (body, ms) in [("a", Some(30)), ("b", Some(10)), ("c", Some(20)), ("d", None), ("e", Some(10))] {
        rows.runs.create_waitpoint(Waitpoint { timeout_at: ms.map(after), ..waitpoint(body) }).await.unwrap();
    }
    rows.runs.complete_waitpoint(&wp("e"), Completion::empty(), after(1)).await.unwrap();
    let found = async |ms, limit| {
        let waits = rows.runs.timed_out_waitpoints(after(ms), limit).await.unwrap();
        waits.into_iter().map(|w| w.id.to_string().replace("waitpoint_", "")).collect::<Vec<_>>()
    };
    assert!(found(9, 9).await.is_empty());
    assert_eq!(found(20, 9).await, ["b", "c"]);
    assert_eq!(found(99, 2).await, ["b", "c"]);
    assert_eq!(found(99, 9).await, ["b", "c", "a"]);
}

pub(crate) async fn waitpoints_are_listed_newest_first(rows: Rows) {
    for (body, ms) in [("c", 1), ("a", 2), ("b", 2)] {
        rows.runs.create_waitpoint(Waitpoint { created_at: after(ms), ..waitpoint(body) }).await.unwrap();
    }
    rows.runs.create_waitpoint(Waitpoint { environment: other_env(), ..waitpoint("z") }).await.unwrap();
    let list = async |after: Option<&str>, size| {
        let from = after.map_or(PageFrom::Start, |body| PageFrom::After(wp(body)));
        let page = rows.runs.list_waitpoints(&env(), &WaitpointFilter::default(), &from, size).await.unwrap();
        page.rows.into_iter().map(|w| w.id.to_string().replace("waitpoint_", "")).collect::<Vec<_>>()
    };
    assert_eq!(list(None, 9).await, ["b", "a", "c"]);
    assert_eq!(list(None, 1).await, ["b"]);
    assert_eq!(list(Some("b"), 9).await, ["a", "c"]);
    assert!(list(Some("c"), 9).await.is_empty());
    let unknown = rows.runs.list_waitpoints(&env(), &WaitpointFilter::default(), &PageFrom::After(wp("nope")), 9).await;
    assert!(matches!(unknown, Err(Error::WaitpointNotFound)), "{unknown:?}");
}
