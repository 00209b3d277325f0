use super::*;
use crate::session::{Json, Session, Tenant, TriggerConfig};
use crate::{EnvironmentId, Error, RunId};

const T0: Timestamp = Timestamp(1_000_000);

fn after(ms: u64) -> Timestamp {
    T0.plus_ms(ms)
}

fn run(change: impl FnOnce(&mut NewRun)) -> Run {
    let mut spec = NewRun::of_task(RunId::from_body("a"), EnvironmentId::from_body("e"), "task", "{}".into());
    change(&mut spec);
    Run::new(spec, 0, T0)
}

fn dequeue(run: &mut Run) -> Holder {
    run.apply(RunCommand::Dequeue { worker: "w".into(), link: "l".into(), lease_until: after(10_000) }, T0).unwrap();
    Holder::Lease(run.snapshot)
}

fn executing(change: impl FnOnce(&mut NewRun)) -> (Run, Holder) {
    let mut run = run(change);
    let holder = dequeue(&mut run);
    run.apply(RunCommand::Start(holder), T0).unwrap();
    (run, holder)
}

fn boom() -> RunError {
    RunError::new("Error", "boom")
}

#[test]
fn a_run_is_queued_started_and_completed() {
    let (mut run, holder) = executing(|_| {});
    assert_eq!((run.status, run.attempt_number), (RunStatus::Executing, 1));
    let complete = RunCommand::Complete { holder, output: Some("1".into()), output_type: None };
    let change = run.apply(complete.clone(), after(5)).unwrap();
    assert_eq!(change.attempt, Some(AttemptChange::Ended { number: 1, error: None }));
    assert!(change.ended_lease.is_some());
    assert_eq!(run.completed_at, Some(after(5)));
    let stale = run.clone();
    assert!(matches!(run.apply(complete, after(6)), Err(Error::StaleSnapshot { .. })));
    assert_eq!(run, stale, "a stale caller changes nothing");
}

#[test]
fn a_suspended_run_holds_no_lease_and_resumes_once() {
    let (mut run, holder) = executing(|_| {});
    let waitpoint = WaitpointId::from_body("w");
    run.apply(RunCommand::Suspend { holder, waitpoint: waitpoint.clone() }, after(1)).unwrap();
    assert_eq!((run.lease.clone(), run.available_at), (None, None));
    assert!(run.apply(RunCommand::Resume { waitpoint: WaitpointId::from_body("x") }, after(2)).unwrap().is_noop);
    assert!(!run.apply(RunCommand::Resume { waitpoint: waitpoint.clone() }, after(2)).unwrap().is_noop);
    assert!(run.apply(RunCommand::Resume { waitpoint }, after(2)).unwrap().is_noop);
    run.apply(RunCommand::Dequeue { worker: "v".into(), link: "l".into(), lease_until: after(9) }, after(3)).unwrap();
    assert_eq!((run.status, run.attempt_number), (RunStatus::Executing, 1), "the attempt goes on");
    assert!(
        run.apply(RunCommand::Renew { holder, link: None, lease_until: after(99) }, after(4)).is_err(),
        "the old lease is over"
    );
}

#[test]
fn a_run_that_is_suspended_before_its_start_was_heard_of_has_begun() {
    let mut run = run(|_| {});
    let holder = dequeue(&mut run);
    let suspend = RunCommand::Suspend { holder: Holder::Owner, waitpoint: WaitpointId::from_body("w") };
    assert!(
        matches!(run.apply(suspend, after(1)), Err(Error::RunNotReady { .. })),
        "only its worker knows that it began"
    );
    let suspend = RunCommand::Suspend { holder, waitpoint: WaitpointId::from_body("w") };
    let change = run.apply(suspend, after(1)).unwrap();
    assert_eq!(change.attempt, Some(AttemptChange::Started { number: 1, worker: "w".into() }));
    assert_eq!((run.status, run.attempt_number, run.lease.clone()), (RunStatus::WaitingToResume, 1, None));
    let suspended = run.clone();
    assert!(matches!(run.apply(RunCommand::Start(holder), after(2)), Err(Error::StaleSnapshot { .. })));
    assert_eq!(run, suspended, "what comes late changes nothing");
}

#[test]
fn a_lost_worker_crashes_or_retries_with_backoff() {
    let (mut once, holder) = executing(|_| {});
    let Holder::Lease(number) = holder else { unreachable!() };
    once.apply(RunCommand::LoseLease { number, link: "l".into(), error: boom() }, after(1)).unwrap();
    assert_eq!(once.status, RunStatus::Crashed);

    let (mut twice, holder) = executing(|r| r.max_attempts = 2);
    let Holder::Lease(number) = holder else { unreachable!() };
    twice.apply(RunCommand::LoseLease { number, link: "l".into(), error: boom() }, after(1)).unwrap();
    assert_eq!((twice.status, twice.available_at), (RunStatus::RetryingAfterFailure, Some(after(201))));
    assert!(
        twice
            .apply(RunCommand::Dequeue { worker: "w".into(), link: "l".into(), lease_until: after(9) }, after(200))
            .is_err()
    );
    assert!(
        twice
            .apply(RunCommand::Dequeue { worker: "w".into(), link: "l".into(), lease_until: after(9) }, after(201))
            .is_ok()
    );
}

#[test]
fn an_unstarted_assignment_goes_back_without_an_attempt() {
    let mut run = run(|_| {});
    dequeue(&mut run);
    run.apply(RunCommand::Tick, after(10_000)).unwrap();
    assert_eq!((run.status, run.attempt_number), (RunStatus::Pending, 0));
}

#[test]
fn the_clock_expires_delays_and_times_out() {
    let mut short = run(|r| r.ttl_ms = Some(5));
    short.apply(RunCommand::Tick, after(5)).unwrap();
    assert_eq!(short.status, RunStatus::Expired);

    let mut late = run(|r| r.delay_until = Some(after(50)));
    assert_eq!((late.status, late.due_at()), (RunStatus::Delayed, Some(after(50))));
    late.apply(RunCommand::Tick, after(50)).unwrap();
    assert_eq!(late.status, RunStatus::Pending);

    let (mut long, holder) = executing(|r| r.max_duration_s = Some(2));
    let waitpoint = WaitpointId::from_body("w");
    long.apply(RunCommand::Suspend { holder, waitpoint: waitpoint.clone() }, after(1_500)).unwrap();
    long.apply(RunCommand::Resume { waitpoint }, after(60_000)).unwrap();
    long.apply(RunCommand::Dequeue { worker: "w".into(), link: "l".into(), lease_until: after(90_000) }, after(60_000))
        .unwrap();
    assert_eq!(long.times_out_at(), Some(after(60_500)), "waiting does not count");
    long.apply(RunCommand::Tick, after(60_500)).unwrap();
    assert_eq!(long.status, RunStatus::TimedOut);
}

#[test]
fn cancel_is_final_and_a_stop_has_a_grace() {
    let (mut run, holder) = executing(|_| {});
    run.apply(RunCommand::HandOver { by: after(30) }, T0).unwrap();
    assert_eq!(run.status, RunStatus::Executing);
    run.apply(RunCommand::Tick, after(30)).unwrap();
    assert_eq!(run.status, RunStatus::Canceled);
    assert!(run.apply(RunCommand::Cancel { reason: "again".into() }, after(31)).unwrap().is_noop);
    assert!(run.apply(RunCommand::Complete { holder, output: None, output_type: None }, after(31)).is_err());
}

#[test]
fn a_failure_before_the_start_is_an_attempt_too() {
    let mut run = run(|_| {});
    let holder = dequeue(&mut run);
    run.apply(RunCommand::Fail { holder, error: boom(), may_retry: true }, T0).unwrap();
    assert_eq!((run.status, run.attempt_number), (RunStatus::CompletedWithErrors, 1));
}

#[test]
fn a_run_that_hands_over_has_a_grace_only_if_it_executes() {
    let mut queued = run(|_| {});
    queued.apply(RunCommand::HandOver { by: after(30) }, T0).unwrap();
    assert_eq!(queued.status, RunStatus::Canceled);
}

#[test]
fn a_continuation_drops_what_belonged_to_the_first_boot() {
    let base = r#"{"chatId":"c","message":{"a":1},"messages":[],"trigger":"preload","n":12345678901234567890}"#;
    let mut config = TriggerConfig::new(Json::trusted(base.into()));
    config.idle_timeout_s = Some(60);
    let session = Session {
        id: crate::SessionId::from_body("s"),
        external_id: None,
        session_type: "chat".into(),
        task_identifier: "task".into(),
        tenant: Tenant {
            organization: crate::id::OrganizationId::from_body("o"),
            project: crate::id::ProjectId::from_body("p"),
            environment: EnvironmentId::from_body("e"),
            environment_type: crate::session::EnvironmentType::Development,
        },
        trigger_config: config,
        tags: vec![],
        metadata: None,
        is_test: false,
        current_run: None,
        current_run_version: 0,
        closed_at: None,
        closed_reason: None,
        close_finished: false,
        expires_at: None,
        basin: None,
        boot: crate::session::BootState::default(),
        created_at: T0,
        updated_at: T0,
    };
    let first = NewRun::of_session(RunId::from_body("1"), &session, None).unwrap();
    assert_eq!(
        first.payload,
        r#"{"chatId":"c","message":{"a":1},"messages":[],"trigger":"preload","n":12345678901234567890,"idleTimeoutInSeconds":60,"sessionId":"session_s"}"#
    );
    let next = NewRun::of_session(RunId::from_body("2"), &session, Some(&first.id)).unwrap();
    assert_eq!(
        next.payload,
        r#"{"chatId":"c","n":12345678901234567890,"idleTimeoutInSeconds":60,"sessionId":"session_s","continuation":true,"previousRunId":"run_1"}"#
    );
}
