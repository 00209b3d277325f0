//! What every `SessionStore` promises. In `tests/races.md`: 4, 7, 8, 10, 25 to 33.
//!
//! ```ignore
//! session_store_contract!(sqlite, crate::contract::session_store, on_a_temp_dir());
//! ```

use super::rows::*;
use continuo_domain::channel::{ChannelKey, ChannelName, Direction, PartId};
use continuo_domain::claim::{Claimed, NewClaim};
use continuo_domain::run::{NewRun, Run, RunCommand, RunReason, RunStatus};
use continuo_domain::session::{ExternalId, Json, SessionPatch, SessionRef, SessionStatus, TriggerConfig};
use continuo_domain::waitpoint::{ChannelWait, WaitedSession, Waitpoint};
use continuo_domain::{EnvironmentId, Error, RunId, SessionId, WaitpointId};
use continuo_ports::run_store::PageFrom;
use continuo_ports::session_store::{BootEvent, Claim, ClaimRun, NamedChannel};

macro_rules! session_store_contract {
    ($adapter:ident, $($suite:ident)::+, $new:expr) => {
        mod $adapter {
            use super::*;
            use $($suite)::+ as suite;

            rows_tests! { $new;
                a_row_reads_back_as_it_was_made
                a_create_without_a_name_always_makes_a_row
                of_many_first_creates_one_is_new
                a_found_row_is_left_as_it_is
                a_name_belongs_to_its_environment
                names_compare_as_given
                a_create_binds_the_waits_of_its_name
                a_create_and_a_wait_by_its_name_always_meet
                a_create_with_a_run_makes_all_of_it
                of_many_creates_with_a_run_one_has_the_first
                a_create_with_a_run_leaves_a_found_row_as_it_is
                a_create_with_a_run_and_without_a_name_is_always_the_first
                a_create_with_a_run_binds_the_waits_of_its_name
                creates_and_waits_by_their_name_always_meet
                a_name_given_up_is_created_again
                a_look_sees_the_row_and_its_run
                a_look_with_a_claim_makes_it
                of_many_looks_with_one_part_id_one_claims_it
                a_look_at_nothing_claims_nothing
                a_rename_binds_the_waits_of_the_new_name
                a_trigger_config_is_replaced_while_the_session_is_open
                an_update_changes_what_it_names
                a_taken_name_is_refused_and_a_given_up_one_is_free
                of_many_renames_to_one_name_one_succeeds
                of_many_closes_one_is_first
                a_second_close_changes_nothing
                unfinished_closes_come_oldest_first
                a_delete_takes_what_hangs_on_the_row
                of_many_claims_of_one_version_one_wins
                a_claim_of_another_run_is_lost
                a_claim_on_a_closed_session_is_lost
                a_lost_claim_is_never_offered
                claims_and_a_close_agree
                the_audit_is_in_order
                boots_are_noted
                sessions_without_a_live_run_are_found
                of_some_sessions_those_without_a_live_run_are_found
                channels_are_registered_until_the_close
                a_channel_keeps_its_records_as_long_as_the_last_writer_said
                a_session_that_is_not_there_is_not_found
            }
        }
    };
}
pub(crate) use session_store_contract;

pub(crate) async fn a_row_reads_back_as_it_was_made(rows: Rows) {
    let base = r#"{"z":1, "a":12345678901234567890,"é":"\u00e9"}"#;
    let mut new = new_session("a", Some("chat/ü: 1"));
    new.tags = vec!["user:1".into(), "\"quoted\"".into(), "ü".into()];
    new.metadata = Some(Json::trusted(r#"{"n":1.0,  "m":{}}"#.into()));
    new.is_test = true;
    new.expires_at = Some(after(5));
    new.trigger_config = TriggerConfig {
        base_payload: Json::trusted(base.into()),
        machine: Some("micro".into()),
        queue: Some("q".into()),
        concurrency: vec!["c".into()],
        concurrency_key: Some("k".into()),
        tags: vec!["t".into()],
        max_attempts: Some(3),
        max_duration_s: Some(u32::MAX),
        lock_to_version: Some("v".into()),
        external_deployment_id: Some("d".into()),
        region: Some("r".into()),
        idle_timeout_s: Some(60),
        ttl: Some("10m".into()),
    };
    let made = rows.sessions.upsert(new.clone(), T0).await.unwrap();
    assert!(made.is_new);
    let session = made.session;
    assert_eq!((&session.id, session.created_at, session.updated_at), (&new.id, T0, T0));
    assert_eq!((&session.trigger_config, &session.metadata), (&new.trigger_config, &new.metadata));
    assert_eq!((&session.tags, &session.tenant), (&new.tags, &new.tenant));
    assert_eq!((session.current_run.clone(), session.current_run_version), (None, 0));
    assert_eq!(rows.read(&new.id).await, session);
    assert_eq!(rows.sessions.get(&env(), &by_name("chat/ü: 1")).await.unwrap(), Some(session));
}

pub(crate) async fn a_create_without_a_name_always_makes_a_row(rows: Rows) {
    for body in ["a", "b"] {
        rows.session(body, None).await;
    }
    assert_ne!(rows.read(&SessionId::from_body("a")).await.id, rows.read(&SessionId::from_body("b")).await.id);
}

pub(crate) async fn of_many_first_creates_one_is_new(rows: Rows) {
    let made = together(64, |i| {
        let sessions = rows.sessions.clone();
        async move { sessions.upsert(new_session(&format!("s{i}"), Some("chat-1")), after(i as u64)).await.unwrap() }
    });
    let made = made.await;
    assert_eq!(made.iter().filter(|m| m.is_new).count(), 1);
    let winner = &made.iter().find(|m| m.is_new).unwrap().session;
    assert!(made.iter().all(|m| &m.session == winner), "everyone gets the one row");
}

pub(crate) async fn a_found_row_is_left_as_it_is(rows: Rows) {
    let first = rows.session("a", Some("chat-1")).await;
    let mut again = new_session("b", Some("chat-1"));
    again.tags = vec!["other".into()];
    again.task_identifier = "other-task".into();
    let found = rows.sessions.upsert(again.clone(), after(9)).await.unwrap();
    assert_eq!((found.is_new, &found.session), (false, &first));
    let closed = rows.sessions.close(&first.id, None, after(10)).await.unwrap().session;
    let found = rows.sessions.upsert(again, after(11)).await.unwrap();
    assert_eq!((found.is_new, found.session), (false, closed), "a closed row is found, not replaced");
    assert_eq!(rows.sessions.get(&env(), &SessionRef::Id(SessionId::from_body("b"))).await.unwrap(), None);
}

pub(crate) async fn a_name_belongs_to_its_environment(rows: Rows) {
    let ours = rows.session("a", Some("chat-1")).await;
    let mut theirs = new_session("b", Some("chat-1"));
    theirs.tenant = tenant(other_env());
    assert!(rows.sessions.upsert(theirs, T0).await.unwrap().is_new);
    assert_eq!(rows.sessions.get(&env(), &by_name("chat-1")).await.unwrap().unwrap().id, ours.id);
    let found = rows.sessions.get(&other_env(), &by_name("chat-1")).await.unwrap().unwrap();
    assert_eq!(found.id, SessionId::from_body("b"));
    assert_eq!(rows.sessions.get(&other_env(), &SessionRef::Id(ours.id)).await.unwrap(), None);
}

pub(crate) async fn names_compare_as_given(rows: Rows) {
    let names = ["Chat", "chat", "chat:1", "chat%", "chat_1", "CHÄT", "chät", "cha\u{308}t", "0", "00"];
    for (i, text) in names.iter().enumerate() {
        rows.session(&format!("s{i}"), Some(text)).await;
    }
    for (i, text) in names.iter().enumerate() {
        let found = rows.sessions.get(&env(), &by_name(text)).await.unwrap().unwrap();
        assert_eq!(found.id, SessionId::from_body(&format!("s{i}")), "{text}");
    }
    let untrimmed = SessionRef::External(ExternalId::trusted(" chat".into()));
    assert_eq!(rows.sessions.get(&env(), &untrimmed).await.unwrap(), None);
}

fn wait_by(environment: EnvironmentId, body: &str, session: WaitedSession) -> Waitpoint {
    let channel = Some(ChannelWait { session, direction: Direction::In, from_seq_num: 3 });
    Waitpoint { environment, channel, ..waitpoint(body) }
}

async fn waiting_on(rows: &Rows, session: &SessionId) -> Vec<String> {
    let channel = ChannelKey::reserved(session.clone(), Direction::In);
    let waits = rows.runs.open_waits(&channel, 3).await.unwrap();
    waits.into_iter().map(|w| w.id.to_string()).collect()
}

pub(crate) async fn a_create_binds_the_waits_of_its_name(rows: Rows) {
    let named = |text: &str| WaitedSession::Name(text.into());
    for wait in [
        wait_by(env(), "a", named("chat-1")),
        wait_by(env(), "b", named("chat-1")),
        wait_by(env(), "c", named("chat-2")),
        wait_by(other_env(), "d", named("chat-1")),
    ] {
        rows.runs.create_waitpoint(wait).await.unwrap();
    }
    assert!(rows.runs.all_open_waits(None, 10).await.unwrap().is_empty(), "nothing is bound yet");
    let session = rows.session("s", Some("chat-1")).await;
    assert_eq!(waiting_on(&rows, &session.id).await, ["waitpoint_a", "waitpoint_b"]);
    let row = rows.runs.get_waitpoint(&env(), &WaitpointId::from_body("a")).await.unwrap().unwrap();
    assert_eq!(row.channel.unwrap().session, WaitedSession::Id(session.id));
    let theirs = rows.runs.get_waitpoint(&other_env(), &WaitpointId::from_body("d")).await.unwrap().unwrap();
    assert_eq!(theirs.channel.unwrap().session, named("chat-1"), "the same name elsewhere never cross-wakes");
}

pub(crate) async fn a_create_and_a_wait_by_its_name_always_meet(rows: Rows) {
    for round in 0..16 {
        let text = format!("chat-{round}");
        let (sessions, runs) = (rows.sessions.clone(), rows.runs.clone());
        let create = sessions.upsert(new_session(&format!("s{round}"), Some(&text)), T0);
        let wait = runs.create_waitpoint(wait_by(env(), &format!("w{round}"), WaitedSession::Name(text.clone())));
        let (made, waited) = tokio::join!(create, wait);
        waited.unwrap();
        assert_eq!(waiting_on(&rows, &made.unwrap().session.id).await, [format!("waitpoint_w{round}")]);
    }
}

/// The run, the row and the audit agree, and a worker gets the run.
pub(crate) async fn a_create_with_a_run_makes_all_of_it(rows: Rows) {
    let mut new = new_session("a", Some("chat-1"));
    new.tags = vec!["t".into()];
    new.basin = Some("basin".into());
    new.metadata = Some(Json::trusted(r#"{"n": 1.0}"#.into()));
    let first = NewRun {
        payload: r#"{ "as": "is" }"#.into(),
        priority: 3,
        tags: vec!["ü\"".into()],
        metadata: Some(Json::trusted("{}".into())),
        idempotency_key: Some("of the trigger".into()),
        ..new_run("r")
    };
    let created = rows.sessions.create(new.clone(), first.clone(), after(1)).await.unwrap();
    let (session, run) = (created.session, created.first_run.unwrap());
    assert_eq!((&session.id, &session.tags, &session.metadata), (&new.id, &new.tags, &new.metadata));
    assert_eq!((session.current_run.as_ref(), session.current_run_version), (Some(&first.id), 1));
    assert_eq!((session.created_at, session.updated_at, &session.basin), (after(1), after(1), &new.basin));
    assert_eq!(run, Run::new(NewRun { session: Some(session.id.clone()), ..first.clone() }, 1, after(1)));
    assert_eq!(rows.read(&session.id).await, session);
    assert_eq!(rows.read_run(&first.id).await, run);
    let [(audit, audited)] = &rows.sessions.session_runs(&session.id).await.unwrap()[..] else { panic!("one run") };
    assert_eq!((audit.reason, audit.version, audit.triggered_at), (RunReason::Initial, 1, after(1)));
    assert_eq!((&audit.session, &audit.run, audited), (&session.id, &first.id, &run));
    let unclaimed = rows.runs.trigger(first_of("other", "of the trigger").into(), after(1)).await.unwrap();
    assert!(!unclaimed.is_cached, "a session's run holds no key of its task");
    let offered = rows.dequeue(1, after(1)).await;
    assert_eq!(offered[0].run.spec, run.spec);
}

fn first_of(body: &str, key: &str) -> NewRun {
    NewRun { idempotency_key: Some(key.into()), ..new_run(body) }
}

pub(crate) async fn of_many_creates_with_a_run_one_has_the_first(rows: Rows) {
    for round in 0..4 {
        let made = together(64, |i| {
            let sessions = rows.sessions.clone();
            let new = new_session(&format!("s{round}i{i}"), Some(&format!("chat-{round}")));
            async move { sessions.create(new, new_run(&format!("r{round}i{i}")), after(i as u64)).await.unwrap() }
        });
        let made = made.await;
        let firsts: Vec<_> = made.iter().filter_map(|made| made.first_run.as_ref()).collect();
        let [first] = firsts[..] else { panic!("{} of 64 made the session", firsts.len()) };
        let row = &made[0].session;
        assert_eq!((row.current_run.as_ref(), row.current_run_version), (Some(&first.spec.id), 1));
        assert!(made.iter().all(|made| &made.session == row), "nobody sees the one without the other");
        assert_eq!(rows.sessions.session_runs(&row.id).await.unwrap().len(), 1);
    }
    assert_eq!(rows.dequeue(99, after(99)).await.len(), 4, "a loser's run is never offered");
}

pub(crate) async fn a_create_with_a_run_leaves_a_found_row_as_it_is(rows: Rows) {
    let create = async |body: &str, at| {
        let mut new = new_session(body, Some("chat-1"));
        new.tags = vec![body.into()];
        rows.sessions.create(new, new_run(body), after(at)).await.unwrap()
    };
    let first = create("a", 0).await.session;
    let found = create("b", 1).await;
    assert_eq!((&found.session, found.first_run), (&first, None));
    rows.apply(&RunId::from_body("a"), RunCommand::Cancel { reason: "over".into() }, after(2)).await;
    let closed = rows.sessions.close(&first.id, None, after(3)).await.unwrap().session;
    let found = create("c", 4).await;
    assert_eq!((found.session, found.first_run), (closed, None), "whatever has become of it");
    assert_eq!(rows.runs.get(&env(), &RunId::from_body("b")).await.unwrap(), None);
    let mut elsewhere = new_session("d", Some("chat-1"));
    elsewhere.tenant = tenant(other_env());
    let theirs = NewRun { environment: other_env(), ..new_run("d") };
    assert!(rows.sessions.create(elsewhere, theirs, T0).await.unwrap().first_run.is_some());
}

pub(crate) async fn a_create_with_a_run_and_without_a_name_is_always_the_first(rows: Rows) {
    for body in ["a", "b"] {
        let created = rows.sessions.create(new_session(body, None), new_run(body), T0).await.unwrap();
        assert_eq!(created.session.id, SessionId::from_body(body));
        assert_eq!(created.first_run, Some(rows.read_run(&RunId::from_body(body)).await));
    }
}

pub(crate) async fn a_create_with_a_run_binds_the_waits_of_its_name(rows: Rows) {
    let named = |text: &str| WaitedSession::Name(text.into());
    for wait in [
        wait_by(env(), "a", named("chat-1")),
        wait_by(env(), "b", named("chat-1")),
        wait_by(env(), "c", named("chat-2")),
        wait_by(other_env(), "d", named("chat-1")),
    ] {
        rows.runs.create_waitpoint(wait).await.unwrap();
    }
    let created = rows.sessions.create(new_session("s", Some("chat-1")), new_run("r"), T0).await.unwrap();
    let id = created.session.id;
    assert_eq!(waiting_on(&rows, &id).await, ["waitpoint_a", "waitpoint_b"]);
    for (environment, body, session) in
        [(env(), "a", WaitedSession::Id(id)), (env(), "c", named("chat-2")), (other_env(), "d", named("chat-1"))]
    {
        let row = rows.runs.get_waitpoint(&environment, &WaitpointId::from_body(body)).await.unwrap().unwrap();
        assert_eq!(row.channel.unwrap().session, session);
    }
}

/// Each name meets creates by both ways and waits, all at the same moment: no wait stays with a name that is taken.
pub(crate) async fn creates_and_waits_by_their_name_always_meet(rows: Rows) {
    for round in 0..200 {
        let text = format!("chat-{round}");
        together(6, |i| {
            let (sessions, runs, text) = (rows.sessions.clone(), rows.runs.clone(), text.clone());
            let body = format!("{round}i{i}");
            async move {
                let new = new_session(&body, Some(&text));
                match i {
                    0..3 => {
                        drop(runs.create_waitpoint(wait_by(env(), &body, WaitedSession::Name(text))).await.unwrap())
                    }
                    3 => drop(sessions.upsert(new, T0).await.unwrap()),
                    _ => drop(sessions.create(new, new_run(&body), T0).await.unwrap()),
                }
            }
        })
        .await;
        let session = rows.sessions.get(&env(), &by_name(&text)).await.unwrap().unwrap();
        let all = [0, 1, 2].map(|i| format!("waitpoint_{round}i{i}"));
        assert_eq!(waiting_on(&rows, &session.id).await, all, "round {round}");
    }
}

pub(crate) async fn a_name_given_up_is_created_again(rows: Rows) {
    let first = rows.sessions.create(new_session("a", Some("chat-1")), new_run("a"), T0).await.unwrap().session;
    let patch = SessionPatch { external_id: Some(None), ..SessionPatch::default() };
    rows.sessions.update(&first.id, patch, after(1)).await.unwrap();
    let second = rows.sessions.create(new_session("b", Some("chat-1")), new_run("b"), after(2)).await.unwrap();
    assert!(second.first_run.is_some());
    assert!(rows.sessions.delete(&second.session.id).await.unwrap());
    let third = rows.sessions.create(new_session("c", Some("chat-1")), new_run("c"), after(3)).await.unwrap();
    assert_eq!((third.session.id, third.first_run.is_some()), (SessionId::from_body("c"), true));
}

pub(crate) async fn a_look_sees_the_row_and_its_run(rows: Rows) {
    let session = rows.session("a", Some("chat-1")).await;
    let look = async |reference: &SessionRef| {
        let probe = rows.sessions.probe(&env(), reference, None).await.unwrap().unwrap();
        assert_eq!((&probe.session, probe.claimed), (&rows.read(&session.id).await, None));
        probe.is_run_alive
    };
    let references = [SessionRef::Id(session.id.clone()), by_name("chat-1")];
    for reference in &references {
        assert!(!look(reference).await, "there was no run yet");
    }
    rows.won(&session.id, 0, "1").await;
    for reference in &references {
        assert!(look(reference).await);
    }
    rows.apply(&RunId::from_body("1"), RunCommand::Cancel { reason: "over".into() }, after(1)).await;
    for reference in &references {
        assert!(!look(reference).await, "it is over");
    }
    rows.won(&session.id, 1, "2").await;
    rows.sessions.close(&session.id, None, after(2)).await.unwrap();
    assert!(look(&references[0]).await, "the current run, whatever the session is");
    for reference in &references {
        assert!(rows.sessions.probe(&other_env(), reference, None).await.unwrap().is_none());
    }
    for missing in [SessionRef::Id(SessionId::from_body("x")), by_name("x")] {
        assert!(rows.sessions.probe(&env(), &missing, None).await.unwrap().is_none());
    }
}

fn part_claim(part_id: &str, mark: &str) -> NewClaim {
    NewClaim {
        name: None,
        direction: Direction::In,
        part_id: PartId::parse(part_id).unwrap(),
        is_servers: false,
        digest: [1; 32],
        mark: mark.into(),
        from: None,
        claimed_at: T0,
    }
}

pub(crate) async fn a_look_with_a_claim_makes_it(rows: Rows) {
    let session = rows.session("a", Some("chat-1")).await;
    let other = rows.session("b", None).await;
    rows.won(&session.id, 0, "1").await;
    let look = async |reference: &SessionRef, claim: NewClaim| {
        let probe = rows.sessions.probe(&env(), reference, Some(claim)).await.unwrap().unwrap();
        assert_eq!((&probe.session.id, probe.is_run_alive), (&session.id, true));
        probe.claimed.unwrap()
    };
    let references = [SessionRef::Id(session.id.clone()), by_name("chat-1")];
    for (reference, part_id) in references.iter().zip(["p", "q"]) {
        let known = NewClaim { from: Some((session.id.clone(), 7)), ..part_claim(part_id, "first") };
        let fresh = look(reference, known.clone()).await;
        assert_eq!(fresh, Claimed::Fresh(known.of(&session.id)));
        let Claimed::Fresh(fresh) = fresh else { unreachable!() };
        assert_eq!(fresh.from_seq_num, 7);
        assert_eq!(rows.claims.claim_of(&fresh.channel, &fresh.part_id).await.unwrap().as_ref(), Some(&fresh));
        assert_eq!(look(reference, part_claim(part_id, "second")).await, Claimed::Known(fresh));
    }
    let elsewhere = NewClaim { from: Some((other.id.clone(), 7)), ..part_claim("r", "m") };
    let Claimed::Fresh(fresh) = look(&references[0], elsewhere).await else { panic!("it was free") };
    assert_eq!(rows.claims.claim_of(&fresh.channel, &fresh.part_id).await.unwrap().unwrap().from_seq_num, 0);
    rows.sessions.close(&session.id, None, after(1)).await.unwrap();
    let repeat = look(&references[0], part_claim("r", "late")).await;
    assert_eq!(repeat, Claimed::Known(fresh), "also after a close a repeat finds its outcome");
}

pub(crate) async fn of_many_looks_with_one_part_id_one_claims_it(rows: Rows) {
    let session = rows.session("a", Some("chat-1")).await;
    for round in 0..4 {
        let claimed = together(64, |i| {
            let (sessions, id) = (rows.sessions.clone(), session.id.clone());
            let reference = if i % 2 == 0 { SessionRef::Id(id) } else { by_name("chat-1") };
            let claim = part_claim(&format!("p{round}"), &format!("mark {i}"));
            async move { sessions.probe(&env(), &reference, Some(claim)).await.unwrap().unwrap().claimed.unwrap() }
        });
        let claimed = claimed.await;
        let fresh: Vec<_> =
            claimed.iter().filter_map(|c| if let Claimed::Fresh(c) = c { Some(c) } else { None }).collect();
        let [fresh] = fresh[..] else { panic!("{} of 64 came first", fresh.len()) };
        let known = claimed.iter().filter(|c| matches!(c, Claimed::Known(known) if known == fresh));
        assert_eq!(known.count(), 63);
    }
}

pub(crate) async fn a_look_at_nothing_claims_nothing(rows: Rows) {
    let session = rows.session("a", Some("chat-1")).await;
    for (environment, reference) in [
        (env(), SessionRef::Id(SessionId::from_body("x"))),
        (env(), by_name("x")),
        (other_env(), SessionRef::Id(session.id.clone())),
        (other_env(), by_name("chat-1")),
    ] {
        let claim = Some(part_claim("p", "m"));
        assert!(rows.sessions.probe(&environment, &reference, claim).await.unwrap().is_none());
    }
    assert!(rows.claims.unsettled(after(9), 9).await.unwrap().is_empty());
}

pub(crate) async fn a_rename_binds_the_waits_of_the_new_name(rows: Rows) {
    let session = rows.session("s", Some("old")).await;
    rows.runs.create_waitpoint(wait_by(env(), "w", WaitedSession::Name("new".into()))).await.unwrap();
    let patch = SessionPatch { external_id: Some(Some(name("new"))), ..SessionPatch::default() };
    rows.sessions.update(&session.id, patch, T0).await.unwrap();
    assert_eq!(waiting_on(&rows, &session.id).await, ["waitpoint_w"]);
}

pub(crate) async fn a_trigger_config_is_replaced_while_the_session_is_open(rows: Rows) {
    let config = |n: u32| TriggerConfig::new(Json::trusted(format!("{{\"n\":{n}}}")));
    let mut expiring = new_session("a", None);
    expiring.expires_at = Some(after(10));
    let session = rows.sessions.upsert(expiring, T0).await.unwrap().session;
    let refreshed = rows.sessions.refresh_trigger_config(&session.id, config(1), after(5)).await.unwrap();
    assert_eq!((&refreshed.trigger_config, refreshed.updated_at), (&config(1), after(5)));
    let expired = rows.sessions.refresh_trigger_config(&session.id, config(2), after(10)).await.unwrap();
    assert_eq!(expired, refreshed, "an expired session keeps its config");
    let open = rows.session("b", None).await;
    let closed = rows.sessions.close(&open.id, None, after(1)).await.unwrap().session;
    assert_eq!(rows.sessions.refresh_trigger_config(&open.id, config(3), after(2)).await.unwrap(), closed);
    assert_eq!(rows.read(&open.id).await, closed);
}

pub(crate) async fn an_update_changes_what_it_names(rows: Rows) {
    let mut new = new_session("a", Some("chat-1"));
    new.metadata = Some(Json::trusted("{}".into()));
    let before = rows.sessions.upsert(new, T0).await.unwrap().session;
    assert_eq!(rows.sessions.update(&before.id, SessionPatch::default(), after(1)).await.unwrap(), before);
    let tags = SessionPatch { tags: Some(vec!["t".into()]), ..SessionPatch::default() };
    let tagged = rows.sessions.update(&before.id, tags, after(2)).await.unwrap();
    assert_eq!((tagged.tags.clone(), tagged.updated_at), (vec!["t".to_owned()], after(2)));
    assert_eq!((&tagged.metadata, &tagged.external_id), (&before.metadata, &before.external_id));
    let clear = SessionPatch { metadata: Some(None), external_id: Some(None), ..SessionPatch::default() };
    let cleared = rows.sessions.update(&before.id, clear, after(3)).await.unwrap();
    assert_eq!((&cleared.metadata, &cleared.external_id, &cleared.tags), (&None, &None, &tagged.tags));
    assert_eq!(rows.read(&before.id).await, cleared);
}

pub(crate) async fn a_taken_name_is_refused_and_a_given_up_one_is_free(rows: Rows) {
    let first = rows.session("a", Some("one")).await;
    let second = rows.session("b", Some("two")).await;
    let rename = |text: &str| SessionPatch {
        tags: Some(vec!["renamed".into()]),
        external_id: Some(Some(name(text))),
        ..SessionPatch::default()
    };
    let refused = rows.sessions.update(&second.id, rename("one"), after(1)).await;
    assert!(matches!(refused, Err(Error::ExternalIdTaken)), "{refused:?}");
    assert_eq!(rows.read(&second.id).await, second, "a refused update changes nothing");
    rows.sessions.update(&first.id, rename("three"), after(2)).await.unwrap();
    assert_eq!(rows.sessions.get(&env(), &by_name("one")).await.unwrap(), None);
    let renamed = rows.sessions.update(&second.id, rename("one"), after(3)).await.unwrap();
    assert_eq!(rows.sessions.get(&env(), &by_name("one")).await.unwrap(), Some(renamed));
    assert!(rows.sessions.upsert(new_session("c", Some("two")), after(4)).await.unwrap().is_new);
}

pub(crate) async fn of_many_renames_to_one_name_one_succeeds(rows: Rows) {
    for i in 0..16 {
        rows.session(&format!("s{i}"), None).await;
    }
    let renamed = together(16, |i| {
        let sessions = rows.sessions.clone();
        let patch = SessionPatch { external_id: Some(Some(name("chat-1"))), ..SessionPatch::default() };
        async move { sessions.update(&SessionId::from_body(&format!("s{i}")), patch, T0).await }
    });
    let renamed = renamed.await;
    assert_eq!(renamed.iter().filter(|r| r.is_ok()).count(), 1);
    assert!(renamed.iter().all(|r| matches!(r, Ok(_) | Err(Error::ExternalIdTaken))));
}

pub(crate) async fn of_many_closes_one_is_first(rows: Rows) {
    let session = rows.session("a", None).await;
    let closed = together(32, |i| {
        let (sessions, id) = (rows.sessions.clone(), session.id.clone());
        async move { sessions.close(&id, Some(format!("reason {i}")), after(i as u64)).await.unwrap() }
    });
    let closed = closed.await;
    assert_eq!(closed.iter().filter(|c| c.is_first).count(), 1);
    let first = &closed.iter().find(|c| c.is_first).unwrap().session;
    assert!(closed.iter().all(|c| &c.session == first), "all return the winner's row");
    assert_eq!(&rows.read(&session.id).await, first);
}

pub(crate) async fn a_second_close_changes_nothing(rows: Rows) {
    let session = rows.session("a", None).await;
    let first = rows.sessions.close(&session.id, Some("done".into()), after(1)).await.unwrap();
    assert!(first.is_first);
    assert_eq!((first.session.closed_at, first.session.closed_reason.as_deref()), (Some(after(1)), Some("done")));
    assert_eq!(first.session.status(after(1)), SessionStatus::Closed);
    let second = rows.sessions.close(&session.id, None, after(2)).await.unwrap();
    assert_eq!((second.is_first, second.session), (false, first.session.clone()));
    rows.sessions.finish_close(&session.id).await.unwrap();
    let third = rows.sessions.close(&session.id, Some("other".into()), after(3)).await.unwrap().session;
    assert!(third.close_finished);
    assert_eq!((third.updated_at, third.closed_reason), (first.session.updated_at, first.session.closed_reason));
}

pub(crate) async fn unfinished_closes_come_oldest_first(rows: Rows) {
    for (body, at) in [("a", 3), ("b", 1), ("c", 2)] {
        let session = rows.session(body, None).await;
        rows.sessions.close(&session.id, None, after(at)).await.unwrap();
    }
    let open = rows.session("d", None).await;
    rows.sessions.finish_close(&open.id).await.unwrap();
    assert!(!rows.read(&open.id).await.close_finished, "what is not closed is not finished");
    let ids = async |limit| {
        let found = rows.sessions.unfinished_closes(limit).await.unwrap();
        found.into_iter().map(|s| s.id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(ids(10).await, ["session_b", "session_c", "session_a"]);
    assert_eq!(ids(2).await, ["session_b", "session_c"]);
    rows.sessions.finish_close(&SessionId::from_body("b")).await.unwrap();
    assert_eq!(ids(10).await, ["session_c", "session_a"]);
}

pub(crate) async fn a_delete_takes_what_hangs_on_the_row(rows: Rows) {
    let session = rows.session("a", Some("chat-1")).await;
    let kept = rows.session("b", None).await;
    rows.won(&session.id, 0, "1").await;
    let tools = ChannelName::parse("tools").unwrap();
    for id in [&session.id, &kept.id] {
        rows.sessions.register_channel(id, &tools).await.unwrap();
        let wait = wait_by(env(), id.as_str().trim_start_matches("session_"), WaitedSession::Id(id.clone()));
        rows.runs.create_waitpoint(wait).await.unwrap();
    }
    assert!(rows.sessions.delete(&session.id).await.unwrap());
    assert!(!rows.sessions.delete(&session.id).await.unwrap());
    assert_eq!(rows.sessions.get(&env(), &SessionRef::Id(session.id.clone())).await.unwrap(), None);
    assert!(rows.sessions.session_runs(&session.id).await.unwrap().is_empty());
    assert!(rows.sessions.channels(&session.id).await.unwrap().is_empty());
    assert!(waiting_on(&rows, &session.id).await.is_empty());
    assert_eq!(rows.runs.get_waitpoint(&env(), &WaitpointId::from_body("a")).await.unwrap(), None);
    assert_eq!(rows.sessions.channels(&kept.id).await.unwrap(), [tools]);
    assert_eq!(waiting_on(&rows, &kept.id).await, ["waitpoint_b"]);
    assert!(rows.sessions.upsert(new_session("c", Some("chat-1")), T0).await.unwrap().is_new, "the name is free");
}

pub(crate) async fn of_many_claims_of_one_version_one_wins(rows: Rows) {
    let session = rows.session("a", None).await;
    for version in 0..3 {
        let claims = together(32, |i| {
            let (sessions, claim) = (rows.sessions.clone(), claim(&session.id, version, &format!("v{version}c{i}")));
            async move { sessions.claim_run(claim, after(i as u64)).await.unwrap() }
        });
        let claims = claims.await;
        let won: Vec<_> = claims
            .iter()
            .filter_map(|c| if let Claim::Won { session, run } = c { Some((session, run)) } else { None })
            .collect();
        let [(row, run)] = won[..] else { panic!("{} claims won", won.len()) };
        assert_eq!((row.current_run.as_ref(), row.current_run_version), (Some(&run.spec.id), version + 1));
        assert_eq!(
            (run.session_version, run.status, &run.spec.session),
            (version + 1, RunStatus::Pending, &Some(session.id.clone()))
        );
        for claim in &claims {
            if let Claim::Lost(fresh) = claim {
                assert_eq!(fresh, row, "a loser gets the row as it is now");
            }
        }
        assert_eq!(&rows.read(&session.id).await, &**row);
        assert_eq!(&rows.read_run(&run.spec.id).await, &**run);
    }
    let audit = rows.sessions.session_runs(&session.id).await.unwrap();
    assert_eq!(audit.iter().map(|(a, _)| a.version).collect::<Vec<_>>(), [1, 2, 3], "one audit row per claim that won");
    let all = rows.runs.list(&env(), &Default::default(), &PageFrom::Start, 200).await.unwrap().rows;
    assert_eq!(all.len(), 3, "a loser leaves no run");
}

pub(crate) async fn a_claim_of_another_run_is_lost(rows: Rows) {
    let session = rows.session("a", None).await;
    let first = rows.won(&session.id, 0, "1").await;
    let mut pinned = session.trigger_config.clone();
    pinned.external_deployment_id = Some("next".into());
    let swap = |expected: &RunId, run: &str| ClaimRun {
        expected_run: Some(expected.clone()),
        reason: RunReason::Upgrade,
        trigger_config: Some(pinned.clone()),
        ..claim(&session.id, 1, run)
    };
    let lost = rows.sessions.claim_run(swap(&RunId::from_body("x"), "2"), T0).await.unwrap();
    assert!(
        matches!(&lost, Claim::Lost(row) if row.trigger_config == session.trigger_config),
        "the config stays as well"
    );
    assert!(matches!(&lost, Claim::Lost(row) if row.current_run.as_ref() == Some(&first.spec.id)), "{lost:?}");
    let won = rows.sessions.claim_run(swap(&first.spec.id, "2"), T0).await.unwrap();
    assert!(matches!(&won, Claim::Won { session, .. } if session.trigger_config == pinned));
    assert_eq!(rows.read(&session.id).await.trigger_config, pinned);
    let stale = rows.sessions.claim_run(swap(&first.spec.id, "3"), T0).await.unwrap();
    assert!(matches!(&stale, Claim::Lost(row) if row.current_run == Some(RunId::from_body("2"))), "the true winner");
}

pub(crate) async fn a_claim_on_a_closed_session_is_lost(rows: Rows) {
    let session = rows.session("a", None).await;
    let closed = rows.sessions.close(&session.id, Some("done".into()), after(1)).await.unwrap().session;
    match rows.sessions.claim_run(claim(&session.id, 0, "1"), after(2)).await.unwrap() {
        Claim::Lost(row) => assert_eq!(*row, closed),
        Claim::Won { .. } => panic!("a closed session was claimed"),
    }
    assert_eq!(rows.runs.get(&env(), &RunId::from_body("1")).await.unwrap(), None);
}

pub(crate) async fn a_lost_claim_is_never_offered(rows: Rows) {
    let session = rows.session("a", None).await;
    let winner = rows.won(&session.id, 0, "1").await;
    let lost = rows.sessions.claim_run(claim(&session.id, 0, "2"), T0).await.unwrap();
    assert!(matches!(lost, Claim::Lost(_)));
    let offered: Vec<_> = rows.dequeue(10, after(1)).await.into_iter().map(|a| a.run.spec.id).collect();
    assert_eq!(offered, [winner.spec.id]);
    assert!(rows.sessions.session_runs(&session.id).await.unwrap().len() == 1);
}

pub(crate) async fn claims_and_a_close_agree(rows: Rows) {
    for round in 0..8 {
        let session = rows.session(&format!("s{round}"), None).await;
        let results = together(9, |i| {
            let (sessions, id) = (rows.sessions.clone(), session.id.clone());
            async move {
                if i == 4 {
                    sessions.close(&id, None, after(1)).await.unwrap();
                    return false;
                }
                let won = sessions.claim_run(claim(&id, 0, &format!("r{round}c{i}")), after(1)).await.unwrap();
                matches!(won, Claim::Won { .. })
            }
        });
        let won = results.await.into_iter().filter(|won| *won).count() as u64;
        let row = rows.read(&session.id).await;
        assert!(won <= 1 && row.closed_at.is_some());
        assert_eq!((row.current_run_version, row.current_run.is_some()), (won, won == 1));
        assert_eq!(rows.sessions.session_runs(&session.id).await.unwrap().len() as u64, won);
    }
}

pub(crate) async fn the_audit_is_in_order(rows: Rows) {
    let session = rows.session("a", None).await;
    let payload = NewRun { payload: r#"{ "as": "is" }"#.into(), ..new_run("9") };
    let first = ClaimRun { run: payload, ..claim(&session.id, 0, "9") };
    rows.sessions.claim_run(first, after(1)).await.unwrap();
    let second = ClaimRun { reason: RunReason::Continuation, ..claim(&session.id, 1, "1") };
    rows.sessions.claim_run(second, after(2)).await.unwrap();
    rows.apply(&RunId::from_body("9"), RunCommand::Cancel { reason: "over".into() }, after(3)).await;
    let audit = rows.sessions.session_runs(&session.id).await.unwrap();
    let seen: Vec<_> =
        audit.iter().map(|(a, r)| (a.run.as_str(), a.reason, a.version, a.triggered_at, r.status)).collect();
    assert_eq!(
        seen,
        [
            ("run_9", RunReason::Initial, 1, after(1), RunStatus::Canceled),
            ("run_1", RunReason::Continuation, 2, after(2), RunStatus::Pending),
        ]
    );
    assert_eq!(audit[0].1.spec.payload, r#"{ "as": "is" }"#);
    assert!(audit.iter().all(|(a, r)| a.session == session.id && a.run == r.spec.id));
}

pub(crate) async fn boots_are_noted(rows: Rows) {
    let session = rows.session("a", None).await;
    rows.won(&session.id, 0, "1").await;
    let note = async |event, at| rows.sessions.note_boot(&session.id, event, after(at)).await.unwrap().boot;
    let failed = || BootEvent::Failed { run: RunId::from_body("1"), error: "boom".into() };
    note(failed(), 1).await;
    let boot = note(failed(), 2).await;
    assert_eq!((boot.failures, boot.last_error.as_deref()), (2, Some("boom")));
    assert_eq!(boot.retry_at, Some(after(2 + 1_000)));
    assert_eq!(note(BootEvent::Read(0), 3).await.failures, 2, "nothing new was read");
    let boot = note(BootEvent::Read(7), 4).await;
    assert_eq!((boot.read_seq_num, boot.failures, boot.retry_at, boot.last_error), (7, 0, None, None));
    assert_eq!(note(BootEvent::Read(5), 5).await.read_seq_num, 7, "only ever forward");
    assert_eq!(note(BootEvent::BootedFor(9), 6).await.booted_tail_seq_num, 9);
    assert_eq!(note(BootEvent::BootedFor(8), 7).await.booted_tail_seq_num, 9);
    assert_eq!(rows.read(&session.id).await.boot.read_seq_num, 7);
    rows.won(&session.id, 1, "2").await;
    assert_eq!(note(failed(), 8).await.failures, 0, "another run has the session by now");
}

pub(crate) async fn sessions_without_a_live_run_are_found(rows: Rows) {
    let over = |run: &str| (RunId::from_body(run), RunCommand::Cancel { reason: "over".into() });
    for (body, run) in [("ended", "1"), ("alive", "2"), ("closed", "3"), ("old", "4")] {
        let session = rows.session(body, None).await;
        rows.won(&session.id, 0, run).await;
    }
    rows.session("never", None).await;
    let mut expired = new_session("expired", None);
    expired.expires_at = Some(after(50));
    rows.sessions.upsert(expired, T0).await.unwrap();
    let ids = async |since, now| {
        let found = rows.sessions.sessions_without_live_run(after(since), after(now), None, 10).await.unwrap();
        let mut ids: Vec<_> = found.into_iter().map(|s| s.id.to_string().replace("session_", "")).collect();
        ids.sort();
        ids
    };
    for (run, at) in [("1", 100), ("3", 100), ("4", 5)] {
        let (id, cancel) = over(run);
        rows.apply(&id, cancel, after(at)).await;
    }
    rows.sessions.close(&SessionId::from_body("closed"), None, after(100)).await.unwrap();
    assert_eq!(ids(0, 40).await, ["ended", "expired", "never", "old"]);
    assert_eq!(ids(0, 60).await, ["ended", "never", "old"]);
    assert_eq!(ids(50, 60).await, ["ended"]);
    let failed = BootEvent::Failed { run: RunId::from_body("4"), error: "boom".into() };
    rows.sessions.note_boot(&SessionId::from_body("old"), failed, after(10)).await.unwrap();
    assert_eq!(ids(50, 60).await, ["ended"], "its boot is not due");
    assert_eq!(ids(101, 10 + 500).await, ["old"]);
    let page = async |after_id: Option<&SessionId>| {
        let found = rows.sessions.sessions_without_live_run(T0, after(60), after_id, 2).await.unwrap();
        found.into_iter().map(|s| s.id).collect::<Vec<_>>()
    };
    let first = page(None).await;
    let second = page(first.last()).await;
    assert_eq!((first.len(), second.len(), page(second.last()).await.len()), (2, 1, 0), "every one of them in turn");
}

pub(crate) async fn of_some_sessions_those_without_a_live_run_are_found(rows: Rows) {
    for (body, run) in [("alive", "1"), ("ended", "2"), ("closed", "3"), ("other", "4")] {
        let session = rows.session(body, None).await;
        rows.won(&session.id, 0, run).await;
    }
    let never = rows.session("never", None).await;
    for run in ["2", "3", "4"] {
        rows.apply(&RunId::from_body(run), RunCommand::Cancel { reason: "over".into() }, after(1)).await;
    }
    rows.sessions.close(&SessionId::from_body("closed"), None, after(2)).await.unwrap();
    let ids = ["alive", "ended", "closed", "never", "x"].map(SessionId::from_body);
    let mut found = rows.sessions.without_live_run(&ids).await.unwrap();
    found.sort_by(|a, b| a.id.as_str().cmp(b.id.as_str()));
    assert_eq!(found, [rows.read(&SessionId::from_body("ended")).await, never], "of these, and no other");
    assert!(rows.sessions.without_live_run(&[]).await.unwrap().is_empty());
}

pub(crate) async fn channels_are_registered_until_the_close(rows: Rows) {
    let session = rows.session("a", None).await;
    let channel = |text: &str| ChannelName::parse(text).unwrap();
    for text in ["tools", "b.c", "tools", "Tools"] {
        assert!(rows.sessions.register_channel(&session.id, &channel(text)).await.unwrap());
    }
    let names = [channel("Tools"), channel("b.c"), channel("tools")];
    assert_eq!(rows.sessions.channels(&session.id).await.unwrap(), names);
    let race = together(8, |i| {
        let (sessions, id) = (rows.sessions.clone(), session.id.clone());
        async move {
            if i == 3 {
                sessions.close(&id, None, after(1)).await.unwrap();
                return None;
            }
            let name = ChannelName::parse(&format!("n{i}")).unwrap();
            sessions.register_channel(&id, &name).await.unwrap().then_some(name)
        }
    });
    let mut expected: Vec<_> = race.await.into_iter().flatten().chain(names).collect();
    expected.sort();
    assert_eq!(rows.sessions.channels(&session.id).await.unwrap(), expected);
    assert!(!rows.sessions.register_channel(&session.id, &channel("late")).await.unwrap());
    assert_eq!(rows.sessions.channels(&session.id).await.unwrap(), expected, "after a close no channel appears");
}

pub(crate) async fn a_channel_keeps_its_records_as_long_as_the_last_writer_said(rows: Rows) {
    let sessions = [rows.session("a", None).await, rows.session("b", None).await];
    let named = |session: &SessionId, name: &str, max_age_seconds| NamedChannel {
        session: session.clone(),
        name: ChannelName::parse(name).unwrap(),
        max_age_seconds,
    };
    let mut all = Vec::new();
    for session in &sessions {
        for (name, max_age_seconds) in [("x", Some(7)), ("y", None), ("z", Some(u64::MAX >> 1))] {
            let channel = named(&session.id, name, max_age_seconds);
            rows.sessions.register_channel(&session.id, &channel.name).await.unwrap();
            if let Some(seconds) = max_age_seconds {
                rows.sessions.set_max_age(&session.id, &channel.name, 1).await.unwrap();
                rows.sessions.set_max_age(&session.id, &channel.name, seconds).await.unwrap();
            }
            rows.sessions.register_channel(&session.id, &channel.name).await.unwrap();
            all.push(channel);
        }
    }
    rows.sessions.set_max_age(&sessions[0].id, &ChannelName::parse("none").unwrap(), 1).await.unwrap();
    assert_eq!(rows.sessions.named_channels(false, None, 10).await.unwrap(), all);
    let aging: Vec<_> = all.iter().filter(|c| c.max_age_seconds.is_some()).cloned().collect();
    let mut paged = Vec::new();
    while let Some(next) = rows.sessions.named_channels(true, paged.last(), 1).await.unwrap().pop() {
        paged.push(next);
    }
    assert_eq!(paged, aging);
}

pub(crate) async fn a_session_that_is_not_there_is_not_found(rows: Rows) {
    let id = SessionId::from_body("x");
    let config = TriggerConfig::new(Json::trusted("{}".into()));
    let missing = |result: Option<Error>| assert!(matches!(result, Some(Error::SessionNotFound)), "{result:?}");
    assert_eq!(rows.sessions.get(&env(), &SessionRef::Id(id.clone())).await.unwrap(), None);
    missing(rows.sessions.refresh_trigger_config(&id, config, T0).await.err());
    missing(rows.sessions.update(&id, SessionPatch::default(), T0).await.err());
    missing(rows.sessions.close(&id, None, T0).await.err());
    missing(rows.sessions.finish_close(&id).await.err());
    missing(rows.sessions.claim_run(claim(&id, 0, "1"), T0).await.err());
    missing(rows.sessions.note_boot(&id, BootEvent::Read(1), T0).await.err());
    missing(rows.sessions.register_channel(&id, &ChannelName::parse("c").unwrap()).await.err());
    assert!(rows.sessions.session_runs(&id).await.unwrap().is_empty());
    assert_eq!(rows.runs.get(&env(), &RunId::from_body("1")).await.unwrap(), None);
}
