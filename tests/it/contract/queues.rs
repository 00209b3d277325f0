//! What every `RunStore` promises of its queues' counts.
//!
//! ```ignore
//! queues_contract!(sqlite, crate::contract::queues, on_a_temp_dir());
//! ```

use super::rows::*;
use continuo_domain::run::{Holder, NewRun, Run, RunCommand, RunError};
use continuo_domain::waitpoint::Completion;
use continuo_domain::{RunId, Timestamp};
use continuo_ports::run_store::{QueueCounts, Queues};

macro_rules! queues_contract {
    ($adapter:ident, $($suite:ident)::+, $new:expr) => {
        mod $adapter {
            use super::*;
            use $($suite)::+ as suite;

            rows_tests! { $new;
                every_run_that_is_not_over_is_counted_once
                a_run_that_is_due_is_pending
                what_is_over_is_in_no_queue
                the_fullest_queues_come_first
            }
        }
    };
}
pub(crate) use queues_contract;

fn none(name: &str) -> QueueCounts {
    QueueCounts {
        name: name.into(),
        pending: 0,
        delayed: 0,
        dequeued: 0,
        executing: 0,
        retrying: 0,
        waiting: 0,
        oldest_pending_at: None,
    }
}

async fn at(rows: &Rows, ms: u64) -> Vec<QueueCounts> {
    let Queues { queues, has_more } = rows.runs.queues(&env(), 100, after(ms)).await.unwrap();
    assert!(!has_more);
    queues
}

async fn trigger(rows: &Rows, run: NewRun, ms: u64) -> RunId {
    rows.runs.trigger(run.into(), after(ms)).await.unwrap().row.spec.id
}

/// Triggers a run that goes first and hands it to a worker.
async fn dequeued(rows: &Rows, body: &str) -> (Run, Holder) {
    let first = NewRun { priority: 9, max_attempts: 2, queue: Some("q".into()), ..new_run(body) };
    trigger(rows, first, 0).await;
    let run = rows.dequeue(1, T0).await.pop().unwrap().run;
    let holder = Holder::Lease(run.lease.as_ref().unwrap().number);
    (run, holder)
}

async fn executing(rows: &Rows, body: &str) -> (Run, Holder) {
    let (run, holder) = dequeued(rows, body).await;
    (rows.apply(&run.spec.id, RunCommand::Start(holder), T0).await, holder)
}

fn fails(holder: Holder) -> RunCommand {
    RunCommand::Fail { holder, error: RunError::new("Error", "boom"), may_retry: true }
}

pub(crate) async fn every_run_that_is_not_over_is_counted_once(rows: Rows) {
    assert_eq!(at(&rows, 0).await, []);
    dequeued(&rows, "d").await;
    for body in ["e1", "e2"] {
        executing(&rows, body).await;
    }
    let (failed, holder) = executing(&rows, "f").await;
    rows.apply(&failed.spec.id, fails(holder), T0).await;
    let (suspended, holder) = executing(&rows, "s").await;
    rows.runs.create_waitpoint(waitpoint("w")).await.unwrap();
    rows.apply(&suspended.spec.id, RunCommand::Suspend { holder, waitpoint: waitpoint("w").id }, T0).await;
    let in_q = |body| NewRun { queue: Some("q".into()), ..new_run(body) };
    for body in ["later1", "later2", "later3"] {
        trigger(&rows, NewRun { delay_until: Some(after(90_000)), ..in_q(body) }, 0).await;
    }
    for (body, ms) in [("p1", 5), ("p2", 3), ("p3", 4), ("p4", 6)] {
        trigger(&rows, in_q(body), ms).await;
    }
    let q = QueueCounts {
        pending: 4,
        delayed: 3,
        dequeued: 1,
        executing: 2,
        retrying: 1,
        waiting: 1,
        oldest_pending_at: Some(after(3)),
        ..none("q")
    };
    assert_eq!(at(&rows, 6).await, [q]);
    assert!(rows.runs.queues(&other_env(), 100, after(6)).await.unwrap().queues.is_empty());
}

pub(crate) async fn a_run_that_is_due_is_pending(rows: Rows) {
    let (failed, holder) = executing(&rows, "f").await;
    let due = rows.apply(&failed.spec.id, fails(holder), T0).await.available_at.unwrap();
    let ms = |at: Timestamp| (at.0 - T0.0) as u64;
    assert_eq!(at(&rows, ms(due) - 1).await, [QueueCounts { retrying: 1, ..none("q") }]);
    let pending = |since| QueueCounts { pending: 1, oldest_pending_at: Some(since), ..none("q") };
    assert_eq!(at(&rows, ms(due)).await, [pending(due)]);
    rows.apply(&failed.spec.id, RunCommand::Cancel { reason: "test".into() }, due).await;

    let (suspended, holder) = executing(&rows, "s").await;
    rows.runs.create_waitpoint(waitpoint("w")).await.unwrap();
    rows.apply(&suspended.spec.id, RunCommand::Suspend { holder, waitpoint: waitpoint("w").id }, T0).await;
    assert_eq!(at(&rows, 99).await, [QueueCounts { waiting: 1, ..none("q") }]);
    rows.runs.complete_waitpoint(&waitpoint("w").id, Completion::empty(), after(100)).await.unwrap();
    assert_eq!(at(&rows, 100).await, [pending(after(100))], "it goes on as soon as a worker takes it");
    rows.apply(&suspended.spec.id, RunCommand::Cancel { reason: "test".into() }, after(100)).await;

    let later = NewRun { delay_until: Some(after(200)), queue: Some("q".into()), ..new_run("later") };
    trigger(&rows, later, 100).await;
    assert_eq!(at(&rows, 199).await, [QueueCounts { delayed: 1, ..none("q") }]);
    assert_eq!(at(&rows, 200).await, [pending(after(200))]);
}

pub(crate) async fn what_is_over_is_in_no_queue(rows: Rows) {
    let (run, holder) = executing(&rows, "done").await;
    rows.apply(&run.spec.id, RunCommand::Complete { holder, output: None, output_type: None }, T0).await;
    let id = trigger(&rows, new_run("canceled"), 0).await;
    assert_eq!(at(&rows, 0).await.len(), 1);
    rows.apply(&id, RunCommand::Cancel { reason: "test".into() }, T0).await;
    assert_eq!(at(&rows, 0).await, []);
}

pub(crate) async fn the_fullest_queues_come_first(rows: Rows) {
    for (queue, runs) in [("b", 1), ("c", 2), ("a", 1)] {
        for i in 0..runs {
            trigger(&rows, NewRun { queue: Some(queue.into()), ..new_run(&format!("{queue}{i}")) }, 0).await;
        }
    }
    // A task's own queue, with nothing that a worker could take.
    trigger(&rows, NewRun { delay_until: Some(after(9)), ..new_run("own") }, 0).await;
    let first = async |limit| {
        let Queues { queues, has_more } = rows.runs.queues(&env(), limit, T0).await.unwrap();
        (queues.into_iter().map(|queue| queue.name).collect::<Vec<_>>(), has_more)
    };
    let own = format!("task/{TASK}");
    assert_eq!(first(4).await, (vec!["c".into(), "a".into(), "b".into(), own], false));
    assert_eq!(first(3).await, (vec!["c".into(), "a".into(), "b".into()], true));
    assert_eq!(first(1).await, (vec!["c".into()], true));
}
