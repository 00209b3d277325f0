//! What every `RunStore` promises of triggers: tokens that count once, debounce, parents and children, labels and lists.
//!
//! ```ignore
//! triggers_contract!(sqlite, crate::contract::triggers, on_a_temp_dir());
//! ```

use super::rows::*;
use continuo_domain::principal::OneTimeToken;
use continuo_domain::run::{Debounce, Holder, MetadataOperation, MetadataUpdate, MetadataVerb, NewRun, Parent};
use continuo_domain::run::{Run, RunCommand, RunError, RunStatus};
use continuo_domain::session::Json;
use continuo_domain::waitpoint::{Completion, Waitpoint, WaitpointKind};
use continuo_domain::{Error, RunId, WaitpointId};
use continuo_ports::run_store::{LeaseRef, NewTrigger, PageFrom, ParentWait, RunFilter, Triggered};
use continuo_ports::run_store::{WaitpointFilter, WaitpointState};
use serde_json::{Value, json};

macro_rules! triggers_contract {
    ($adapter:ident, $($suite:ident)::+, $new:expr) => {
        mod $adapter {
            use super::*;
            use $($suite)::+ as suite;

            rows_tests! { $new;
                a_one_time_token_is_spent_once
                a_spent_token_is_forgotten_after_its_end
                a_trigger_that_fails_spends_nothing
                debounced_triggers_are_one_run
                a_trigger_beyond_the_longest_delay_gets_a_run_of_its_own
                of_many_debounced_triggers_one_makes_the_run
                a_parent_waits_for_its_child
                a_parent_that_waits_for_what_is_over_goes_on_at_once
                a_parent_that_cannot_wait_makes_no_child
                a_failure_is_what_the_parent_is_told
                the_children_of_a_canceled_run_are_canceled
                concurrent_metadata_operations_are_all_kept
                metadata_operations_reach_parent_and_root
                runs_are_listed_by_what_they_were_made_with
                pages_of_runs_go_both_ways
                waitpoints_are_listed_by_state_key_and_tags
                leases_are_renewed_together
            }
        }
    };
}
pub(crate) use triggers_contract;

fn id(body: &str) -> RunId {
    RunId::from_body(body)
}

fn token(name: &str, expires_ms: u64) -> OneTimeToken {
    OneTimeToken { id: name.into(), expires_at: after(expires_ms) }
}

fn with_token(body: &str, name: &str) -> NewTrigger {
    NewTrigger { one_time_token: Some(token(name, 1_000)), ..new_run(body).into() }
}

async fn trigger(rows: &Rows, run: NewRun, ms: u64) -> Triggered {
    rows.runs.trigger(run.into(), after(ms)).await.unwrap()
}

fn is_refused(outcome: continuo_domain::Result<Triggered>) -> bool {
    matches!(outcome, Err(Error::Unauthenticated(_)))
}

pub(crate) async fn a_one_time_token_is_spent_once(rows: Rows) {
    let outcomes = together(16, |i| {
        let runs = rows.runs.clone();
        async move { runs.trigger(with_token(&format!("r{i}"), "token"), T0).await.map(|made| made.row.spec.id) }
    });
    let outcomes = outcomes.await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    let all = rows.runs.list(&env(), &RunFilter::default(), &PageFrom::Start, 99).await.unwrap();
    assert_eq!(all.rows.len(), 1, "a refused trigger makes nothing");
    assert!(rows.runs.trigger(with_token("other", "another"), T0).await.is_ok());
    let keyed = |body: &str| NewRun { idempotency_key: Some("k".into()), ..new_run(body) };
    trigger(&rows, keyed("a"), 0).await;
    let by_key = |body: &str| NewTrigger { run: keyed(body), ..with_token(body, "third") };
    assert!(rows.runs.trigger(by_key("b"), T0).await.unwrap().is_cached);
    assert!(is_refused(rows.runs.trigger(by_key("c"), T0).await), "a run that was found spends it, too");
}

pub(crate) async fn a_spent_token_is_forgotten_after_its_end(rows: Rows) {
    rows.runs.trigger(with_token("a", "token"), T0).await.unwrap();
    assert!(is_refused(rows.runs.trigger(with_token("b", "token"), after(1_000)).await), "it is not yet certain");
    // Nobody gets this far with it: it counts for nothing since long. That the row is gone is all that shows.
    assert!(rows.runs.trigger(with_token("c", "token"), after(120_000)).await.is_ok());
}

pub(crate) async fn a_trigger_that_fails_spends_nothing(rows: Rows) {
    let (parent, _) = rows.executing(new_run("p"), after(1)).await;
    let run = NewRun { parent: Some(Parent::of_child(&parent, true)), ..new_run("a") };
    let wait = ParentWait { holder: Holder::Lease(99), waitpoint: WaitpointId::from_body("w") };
    let refused = NewTrigger { run, wait: Some(wait), ..with_token("a", "token") };
    let refused = rows.runs.trigger(refused, after(2)).await.map(drop);
    assert!(matches!(refused, Err(Error::StaleSnapshot { .. })), "{refused:?}");
    assert!(rows.runs.trigger(with_token("b", "token"), after(3)).await.is_ok());
}

fn debounced(body: &str, payload: &str, now_ms: u64, is_trailing: bool) -> NewRun {
    let debounce = Debounce { key: "k".into(), delay_ms: 1_000, is_trailing, max_delay_ms: Some(2_500) };
    let delay_until = Some(after(now_ms + debounce.delay_ms));
    NewRun { payload: payload.into(), debounce: Some(debounce), delay_until, ..new_run(body) }
}

pub(crate) async fn debounced_triggers_are_one_run(rows: Rows) {
    let first = trigger(&rows, debounced("a", "1", 0, false), 0).await;
    assert_eq!((first.is_cached, first.row.status), (false, RunStatus::Delayed));
    let second = trigger(&rows, debounced("b", "2", 500, false), 500).await;
    assert_eq!((second.is_cached, &second.row.spec.id), (true, &id("a")));
    assert_eq!((second.row.spec.delay_until, second.row.spec.payload.as_str()), (Some(after(1_500)), "1"));
    let third = trigger(&rows, debounced("c", "3", 900, true), 900).await;
    assert_eq!(third.row, rows.read_run(&id("a")).await, "what is told is what is stored");
    assert_eq!(third.row.spec.payload, "3", "the last one trails");
    assert!(rows.dequeue(9, after(1_899)).await.is_empty(), "it was put off");
    assert_eq!(rows.dequeue(9, after(1_900)).await[0].run.spec.payload, "3");
    let other_task = NewRun { task_identifier: "other".into(), ..debounced("d", "4", 900, false) };
    assert!(!trigger(&rows, other_task, 900).await.is_cached, "a key is a task's");
    assert!(!trigger(&rows, debounced("e", "5", 1_950, false), 1_950).await.is_cached, "that one is on its way");
}

pub(crate) async fn a_trigger_beyond_the_longest_delay_gets_a_run_of_its_own(rows: Rows) {
    trigger(&rows, debounced("a", "1", 0, false), 0).await;
    for ms in [900, 1_500] {
        assert!(trigger(&rows, debounced("x", "x", ms, false), ms).await.is_cached);
    }
    let fresh = trigger(&rows, debounced("b", "2", 2_000, false), 2_000).await;
    assert_eq!((fresh.is_cached, fresh.row.spec.id), (false, id("b")));
    assert_eq!(rows.read_run(&id("a")).await.spec.delay_until, Some(after(2_500)));
    assert_eq!(trigger(&rows, debounced("c", "3", 2_100, false), 2_100).await.row.spec.id, id("b"), "the newer one");
}

pub(crate) async fn of_many_debounced_triggers_one_makes_the_run(rows: Rows) {
    let made = together(16, |i| {
        let runs = rows.runs.clone();
        async move { runs.trigger(debounced(&format!("r{i}"), "1", 0, true).into(), T0).await.unwrap() }
    });
    assert_eq!(made.await.iter().filter(|made| !made.is_cached).count(), 1);
}

/// A parent on a worker, and the trigger by which it waits for a child.
async fn parent_of(rows: &Rows, child: NewRun) -> (Run, NewTrigger) {
    let (parent, holder) = rows.executing(new_run("p"), after(1)).await;
    let run = NewRun { parent: Some(Parent::of_child(&parent, true)), ..child };
    let wait = Some(ParentWait { holder, waitpoint: WaitpointId::from_body("w") });
    (parent, NewTrigger { run, one_time_token: None, wait })
}

pub(crate) async fn a_parent_waits_for_its_child(rows: Rows) {
    let (parent, by_parent) = parent_of(&rows, new_run("c")).await;
    let made = rows.runs.trigger(by_parent, after(2)).await.unwrap();
    let (waitpoint, suspended) = made.wait.unwrap();
    assert_eq!((waitpoint.kind, waitpoint.awaited_run.clone()), (WaitpointKind::Run, Some(id("c"))));
    assert_eq!((suspended.run.status, suspended.run.lease.clone()), (RunStatus::WaitingToResume, None));
    let child = rows.dequeue(9, after(3)).await.pop().unwrap().run;
    assert_eq!(child.spec.id, id("c"), "the parent holds no place");
    let holder = Holder::Lease(child.lease.unwrap().number);
    rows.apply(&id("c"), RunCommand::Start(holder), after(3)).await;
    let complete = RunCommand::Complete { holder, output: Some("42".into()), output_type: None };
    let applied = rows.runs.apply(&env(), &id("c"), complete, after(4)).await.unwrap();
    assert_eq!(applied.others.iter().map(|other| &other.run.spec.id).collect::<Vec<_>>(), [&parent.spec.id]);
    let resumed = rows.dequeue(9, after(5)).await.pop().unwrap();
    assert_eq!((resumed.run.spec.id, resumed.run.status), (parent.spec.id, RunStatus::Executing));
    assert_eq!(resumed.resumed_by.unwrap().completion, Some(Completion::json("42")));
}

pub(crate) async fn a_parent_that_waits_for_what_is_over_goes_on_at_once(rows: Rows) {
    let keyed = |body: &str| NewRun { idempotency_key: Some("k".into()), ..new_run(body) };
    let (done, holder) = rows.executing(keyed("done"), after(1)).await;
    let complete = RunCommand::Complete { holder, output: Some("1".into()), output_type: None };
    rows.apply(&done.spec.id, complete, after(1)).await;
    let (parent, by_parent) = parent_of(&rows, keyed("again")).await;
    let made = rows.runs.trigger(by_parent, after(2)).await.unwrap();
    assert_eq!((made.is_cached, made.row.spec.id), (true, done.spec.id));
    assert!(!made.wait.unwrap().0.is_open());
    let resumed = rows.dequeue(9, after(3)).await.pop().unwrap();
    assert_eq!(resumed.run.spec.id, parent.spec.id);
    assert_eq!(resumed.resumed_by.unwrap().completion, Some(Completion::json("1")));
}

pub(crate) async fn a_parent_that_cannot_wait_makes_no_child(rows: Rows) {
    let (parent, by_parent) = parent_of(&rows, new_run("c")).await;
    rows.apply(&parent.spec.id, RunCommand::Cancel { reason: "over".into() }, after(2)).await;
    let refused = rows.runs.trigger(by_parent, after(3)).await.map(drop);
    assert!(matches!(refused, Err(Error::StaleSnapshot { .. })), "{refused:?}");
    assert_eq!(rows.runs.get(&env(), &id("c")).await.unwrap(), None);
}

pub(crate) async fn a_failure_is_what_the_parent_is_told(rows: Rows) {
    let (_, by_parent) = parent_of(&rows, new_run("c")).await;
    rows.runs.trigger(by_parent, after(2)).await.unwrap();
    let child = rows.dequeue(9, after(3)).await.pop().unwrap().run;
    let error = RunError::new("TypeError", "boom");
    let holder = Holder::Lease(child.lease.unwrap().number);
    rows.apply(&id("c"), RunCommand::Fail { holder, error, may_retry: true }, after(4)).await;
    let completion = rows.dequeue(9, after(5)).await.pop().unwrap().resumed_by.unwrap().completion.unwrap();
    let told: Value = serde_json::from_str(&completion.output.unwrap()).unwrap();
    assert!(completion.is_error);
    assert_eq!(told, json!({ "type": "BUILT_IN_ERROR", "name": "TypeError", "message": "boom", "stackTrace": "" }));
}

pub(crate) async fn the_children_of_a_canceled_run_are_canceled(rows: Rows) {
    let top = trigger(&rows, new_run("top"), 0).await.row;
    let child = |body: &str, parent: &Run| NewRun { parent: Some(Parent::of_child(parent, false)), ..new_run(body) };
    let middle = trigger(&rows, child("middle", &top), 1).await.row;
    let low = trigger(&rows, child("low", &middle), 2).await.row;
    assert_eq!(low.spec.parent, Some(Parent { run: id("middle"), root: id("top"), depth: 2, waits: false }));
    trigger(&rows, child("done", &top), 3).await;
    rows.apply(&id("done"), RunCommand::Cancel { reason: "before".into() }, after(4)).await;
    trigger(&rows, new_run("beside"), 5).await;
    let applied = rows.runs.apply(&env(), &id("top"), RunCommand::Cancel { reason: "over".into() }, after(6)).await;
    let others: Vec<_> = applied.unwrap().others.into_iter().map(|other| other.run.spec.id).collect();
    assert_eq!(others, [id("middle"), id("low")]);
    for (body, status) in
        [("middle", RunStatus::Canceled), ("low", RunStatus::Canceled), ("beside", RunStatus::Pending)]
    {
        assert_eq!(rows.read_run(&id(body)).await.status, status, "{body}");
    }
    assert_eq!(rows.read_run(&id("done")).await.completed_at, Some(after(4)));
}

fn operation(verb: MetadataVerb, key: &str, value: &str) -> MetadataOperation {
    MetadataOperation { verb, key: key.into(), value: Some(value.into()) }
}

fn metadata(run: &Run) -> Value {
    serde_json::from_str(run.spec.metadata.as_ref().map_or("null", Json::as_str)).unwrap()
}

pub(crate) async fn concurrent_metadata_operations_are_all_kept(rows: Rows) {
    trigger(&rows, new_run("a"), 0).await;
    let changes = together(32, |i| {
        let runs = rows.runs.clone();
        let own =
            vec![operation(MetadataVerb::Increment, "n", "1"), operation(MetadataVerb::Append, "list", &i.to_string())];
        async move { runs.update_metadata(&id("a"), MetadataUpdate { own, ..Default::default() }, after(1)).await.unwrap() }
    });
    changes.await;
    let after_all = metadata(&rows.read_run(&id("a")).await);
    assert_eq!((&after_all["n"], after_all["list"].as_array().unwrap().len()), (&json!(32), 32));
}

pub(crate) async fn metadata_operations_reach_parent_and_root(rows: Rows) {
    let top = trigger(&rows, new_run("top"), 0).await.row;
    let child = |body: &str, parent: &Run| NewRun { parent: Some(Parent::of_child(parent, false)), ..new_run(body) };
    let middle = trigger(&rows, child("middle", &top), 1).await.row;
    trigger(&rows, child("low", &middle), 2).await;
    let update = || MetadataUpdate {
        replace: None,
        own: vec![operation(MetadataVerb::Set, "own", "1")],
        parent: vec![operation(MetadataVerb::Increment, "parent", "1")],
        root: vec![operation(MetadataVerb::Increment, "root", "1")],
    };
    let low = rows.runs.update_metadata(&id("low"), update(), after(3)).await.unwrap();
    assert_eq!(metadata(&low), json!({ "own": 1 }));
    assert_eq!(metadata(&rows.read_run(&id("middle")).await), json!({ "parent": 1 }));
    assert_eq!(metadata(&rows.read_run(&id("top")).await), json!({ "root": 1 }));
    rows.runs.update_metadata(&id("middle"), update(), after(4)).await.unwrap();
    assert_eq!(metadata(&rows.read_run(&id("top")).await), json!({ "root": 2, "parent": 1 }), "one run may be both");
    let alone = rows.runs.update_metadata(&id("top"), update(), after(5)).await.unwrap();
    assert_eq!(metadata(&alone), json!({ "root": 3, "parent": 2, "own": 1 }), "without a parent it is its own");
    let too_long = vec![operation(MetadataVerb::Set, "x", &format!("\"{}\"", "x".repeat(600_000)))];
    let both = MetadataUpdate { own: update().own, root: too_long, ..Default::default() };
    let refused = rows.runs.update_metadata(&id("middle"), both, after(6)).await;
    assert!(matches!(refused, Err(Error::InvalidArgument(_))));
    assert_eq!(rows.read_run(&id("middle")).await.updated_at, after(4), "all or nothing");
}

pub(crate) async fn runs_are_listed_by_what_they_were_made_with(rows: Rows) {
    let a = NewRun { lock_to_version: Some("v1".into()), queue: Some("q".into()), is_test: true, ..new_run("a") };
    let b = NewRun { machine: Some("micro".into()), region: Some("eu".into()), ..new_run("b") };
    let c = NewRun { batch: Some("batch".into()), bulk_action: Some("bulk".into()), ..new_run("c") };
    for (ms, run) in [a, b, c].into_iter().enumerate() {
        trigger(&rows, run, ms as u64).await;
    }
    let list = async |filter: RunFilter| {
        let page = rows.runs.list(&env(), &filter, &PageFrom::Start, 9).await.unwrap();
        page.rows.iter().map(|run| run.spec.id.as_str().replace("run_", "")).collect::<String>()
    };
    let all = RunFilter::default;
    let one = |text: &str| vec![text.to_owned()];
    for (filter, expected) in [
        (all(), "cba"),
        (RunFilter { versions: one("v1"), ..all() }, "a"),
        (RunFilter { queues: one("q"), ..all() }, "a"),
        (RunFilter { queues: vec![format!("task/{TASK}"), "q".into()], ..all() }, "cba"),
        (RunFilter { machines: one("micro"), ..all() }, "b"),
        (RunFilter { regions: one("eu"), ..all() }, "b"),
        (RunFilter { regions: one("eu"), machines: one("small-1x"), ..all() }, ""),
        (RunFilter { batch: Some("batch".into()), ..all() }, "c"),
        (RunFilter { bulk_action: Some("bulk".into()), ..all() }, "c"),
        (RunFilter { is_test: Some(true), ..all() }, "a"),
        (RunFilter { is_test: Some(false), ..all() }, "cb"),
        (RunFilter { created_from: Some(after(1)), ..all() }, "cb"),
        (RunFilter { created_from: Some(after(1)), created_to: Some(after(1)), ..all() }, "b"),
    ] {
        assert_eq!(list(filter.clone()).await, expected, "{filter:?}");
    }
}

pub(crate) async fn pages_of_runs_go_both_ways(rows: Rows) {
    for (ms, body) in ["a", "b", "c", "d", "e"].into_iter().enumerate() {
        trigger(&rows, new_run(body), ms as u64 / 2).await;
    }
    let page = async |from: PageFrom<RunId>| {
        let page = rows.runs.list(&env(), &RunFilter::default(), &from, 2).await.unwrap();
        let names: String = page.rows.iter().map(|run| run.spec.id.as_str().replace("run_", "")).collect();
        (names, page.has_older, page.has_newer)
    };
    assert_eq!(page(PageFrom::Start).await, ("ed".into(), true, false));
    assert_eq!(page(PageFrom::After(id("d"))).await, ("cb".into(), true, true));
    assert_eq!(page(PageFrom::After(id("b"))).await, ("a".into(), false, true));
    assert_eq!(page(PageFrom::Before(id("a"))).await, ("cb".into(), true, true));
    assert_eq!(page(PageFrom::Before(id("c"))).await, ("ed".into(), true, false));
    assert_eq!(page(PageFrom::Before(id("e"))).await, (String::new(), true, false));
}

fn labelled(body: &str, ms: u64) -> Waitpoint {
    let (idempotency_key, tags) = (Some(format!("key-{body}")), vec![body.into()]);
    Waitpoint { idempotency_key, tags, created_at: after(ms), ..waitpoint(body) }
}

pub(crate) async fn waitpoints_are_listed_by_state_key_and_tags(rows: Rows) {
    for (ms, body) in ["a", "b", "c"].into_iter().enumerate() {
        rows.runs.create_waitpoint(labelled(body, ms as u64)).await.unwrap();
    }
    let clock = Waitpoint { kind: WaitpointKind::DateTime, ..labelled("d", 3) };
    rows.runs.create_waitpoint(clock).await.unwrap();
    rows.runs.complete_waitpoint(&WaitpointId::from_body("a"), Completion::empty(), after(9)).await.unwrap();
    let late = Completion::timed_out("2026-01-01T00:00:00.000Z");
    rows.runs.complete_waitpoint(&WaitpointId::from_body("b"), late, after(9)).await.unwrap();
    let list = async |filter: WaitpointFilter, from: PageFrom<WaitpointId>, size| {
        let page = rows.runs.list_waitpoints(&env(), &filter, &from, size).await.unwrap();
        let names: String = page.rows.iter().map(|row| row.id.as_str().replace("waitpoint_", "")).collect();
        (names, page.has_older, page.has_newer)
    };
    let all = WaitpointFilter::default;
    for (filter, expected) in [
        (all(), "dcba"),
        (WaitpointFilter { kinds: vec![WaitpointKind::Manual], ..all() }, "cba"),
        (WaitpointFilter { states: vec![WaitpointState::Open], ..all() }, "dc"),
        (WaitpointFilter { states: vec![WaitpointState::Completed], ..all() }, "a"),
        (WaitpointFilter { states: vec![WaitpointState::Failed, WaitpointState::Completed], ..all() }, "ba"),
        (WaitpointFilter { idempotency_key: Some("key-b".into()), ..all() }, "b"),
        (WaitpointFilter { tags: vec!["a".into(), "c".into()], ..all() }, "ca"),
        (WaitpointFilter { created_from: Some(after(1)), created_to: Some(after(2)), ..all() }, "cb"),
    ] {
        assert_eq!(list(filter.clone(), PageFrom::Start, 9).await, (expected.to_owned(), false, false), "{filter:?}");
    }
    let at = WaitpointId::from_body;
    assert_eq!(list(all(), PageFrom::After(at("c")), 1).await, ("b".into(), true, true));
    assert_eq!(list(all(), PageFrom::Before(at("b")), 1).await, ("c".into(), true, true));
}

pub(crate) async fn leases_are_renewed_together(rows: Rows) {
    let (a, _) = rows.executing(NewRun { max_duration_s: Some(40), ..new_run("a") }, after(1)).await;
    let (b, _) = rows.executing(new_run("b"), after(1)).await;
    let lease = |run: &Run| LeaseRef { run: run.spec.id.clone(), number: run.lease.as_ref().unwrap().number };
    let stale = LeaseRef { number: 99, ..lease(&b) };
    let leases = [lease(&a), stale, LeaseRef { run: id("none"), number: 1 }, lease(&b)];
    let answers = rows.runs.renew(&env(), &leases, None, after(60_000), after(10)).await.unwrap();
    assert!(answers[0].is_ok() && answers[3].is_ok());
    assert!(matches!(answers[1], Err(Error::StaleSnapshot { .. })) && matches!(answers[2], Err(Error::RunNotFound)));
    let renewed = rows.read_run(&a.spec.id).await;
    assert_eq!((renewed.lease.as_ref().unwrap().until, renewed.updated_at), (after(60_000), after(10)));
    assert_eq!(renewed, Run { lease: renewed.lease.clone(), updated_at: after(10), ..a }, "and nothing else");
    assert_eq!(rows.runs.next_due(after(11)).await.unwrap(), Some(after(40_001)), "its time limit comes first");
    let theirs = rows.runs.renew(&other_env(), &leases[..1], None, after(70_000), after(11)).await.unwrap();
    assert!(matches!(theirs[0], Err(Error::RunNotFound)));
}
