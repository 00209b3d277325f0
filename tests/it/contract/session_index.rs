//! What every `SessionIndex` promises. In `tests/races.md`: 14 and 52.
//!
//! ```ignore
//! session_index_contract!(sqlite, crate::contract::session_index, on_a_temp_dir());
//! ```

use super::new_sessions::*;
pub(crate) use super::session_walk::random_changes_are_in_every_list_at_once;
use continuo_domain::session::{ListFilter, ListPosition, NewSession, PageFrom, Session, SessionRef, SessionStatus};
use continuo_domain::{SessionId, Timestamp};
use continuo_ports::session_index::Page;
use continuo_ports::{SessionIndex, SessionStore};
use std::sync::Arc;

/// An empty database and the index of its sessions. It knows the environments.
#[derive(Clone)]
pub(crate) struct Lists {
    pub(crate) sessions: Arc<dyn SessionStore>,
    pub(crate) index: Arc<dyn SessionIndex>,
}

impl Lists {
    pub(crate) async fn read(&self, session: &SessionId) -> Session {
        self.sessions.get(&env(), &SessionRef::Id(session.clone())).await.unwrap().unwrap()
    }
}

macro_rules! session_index_contract {
    ($adapter:ident, $($suite:ident)::+, $new:expr) => {
        mod $adapter {
            use super::*;
            use $($suite)::+ as suite;

            rows_tests! { $new;
                an_empty_environment_has_an_empty_page
                a_page_before_holds_the_sessions_right_above
                pages_of_every_size_meet_every_session_once
                a_page_stays_where_it_is_while_sessions_are_made
                the_last_page_says_so
                filters_select_alone_and_combined
                tags_match_whole_and_as_given
                an_environment_sees_its_own
                tags_are_counted
                a_status_turns_at_the_moment_of_expiry
                a_name_that_is_none_finds_nothing
                random_changes_are_in_every_list_at_once
            }
        }
    };
}
pub(crate) use session_index_contract;

pub(crate) fn at(session: &Session) -> ListPosition {
    ListPosition { created_at: session.created_at, id: session.id.clone() }
}

fn bodies(page: &Page) -> Vec<String> {
    page.sessions.iter().map(|s| s.id.to_string().replace("session_", "")).collect()
}

async fn list(rows: &Lists, from: PageFrom, size: u32) -> Page {
    rows.index.list(&env(), &ListFilter::default(), &from, size, T0).await.unwrap()
}

async fn make(rows: &Lists, body: &str, created_at: Timestamp) -> Session {
    rows.sessions.upsert(new_session(body, None), created_at).await.unwrap().session
}

pub(crate) async fn an_empty_environment_has_an_empty_page(rows: Lists) {
    let nowhere = ListPosition { created_at: T0, id: SessionId::from_body("x") };
    for from in [PageFrom::Start, PageFrom::After(nowhere.clone()), PageFrom::Before(nowhere)] {
        let page = list(&rows, from, 10).await;
        assert!(page.sessions.is_empty() && !page.has_older && !page.has_newer);
    }
    assert_eq!(rows.index.count(&env(), &ListFilter::default(), T0).await.unwrap(), 0);
}

pub(crate) async fn a_page_before_holds_the_sessions_right_above(rows: Lists) {
    let mut made = Vec::new();
    for i in 1..=11 {
        made.push(make(&rows, &format!("c{i:02}"), after(i)).await);
    }
    let page = list(&rows, PageFrom::Before(at(&made[6])), 3).await;
    assert_eq!(bodies(&page), ["c10", "c09", "c08"]);
    assert!(page.has_newer && page.has_older);
    let page = list(&rows, PageFrom::Before(at(&made[6])), 4).await;
    assert_eq!((bodies(&page).len(), page.has_newer, page.has_older), (4, false, true));
    let page = list(&rows, PageFrom::Before(at(&made[9])), 3).await;
    assert_eq!((bodies(&page), page.has_newer, page.has_older), (vec!["c11".to_owned()], false, true));
}

/// Ids and times disagree, and many sessions share a time: the order is the pair.
async fn make_disordered(rows: &Lists) -> Vec<Session> {
    let mut made = Vec::new();
    for i in 0_u64..40 {
        made.push(make(rows, &format!("s{:02}", i * 17 % 40), after(i / 7)).await);
    }
    made.sort_by(|a, b| (b.created_at, &b.id).cmp(&(a.created_at, &a.id)));
    made
}

pub(crate) async fn pages_of_every_size_meet_every_session_once(rows: Lists) {
    let expected = make_disordered(&rows).await;
    for size in [1, 2, 3, 7, 39, 40, 41] {
        let mut forward: Vec<Session> = Vec::new();
        let mut from = PageFrom::Start;
        loop {
            let page = list(&rows, from, size).await;
            assert_eq!(page.has_newer, !forward.is_empty());
            forward.extend(page.sessions.clone());
            assert_eq!(page.has_older, forward.len() < expected.len());
            if !page.has_older {
                break;
            }
            assert_eq!(page.sessions.len(), size as usize, "no short page");
            from = PageFrom::After(at(page.sessions.last().unwrap()));
        }
        assert_eq!(forward, expected, "forward by {size}");

        let mut backward = vec![expected.last().unwrap().clone()];
        loop {
            let page = list(&rows, PageFrom::Before(at(&backward[0])), size).await;
            assert!(page.has_older);
            let is_over = !page.has_newer;
            assert!(is_over || page.sessions.len() == size as usize, "no short page");
            backward.splice(0..0, page.sessions);
            assert_eq!(is_over, backward.len() == expected.len());
            if is_over {
                break;
            }
        }
        assert_eq!(backward, expected, "backward by {size}");
    }
}

pub(crate) async fn a_page_stays_where_it_is_while_sessions_are_made(rows: Lists) {
    let expected = make_disordered(&rows).await;
    let first = list(&rows, PageFrom::Start, 10).await;
    let last = at(first.sessions.last().unwrap());
    for i in 0..5 {
        make(&rows, &format!("new{i}"), after(1_000 + i)).await;
    }
    let second = list(&rows, PageFrom::After(last), 10).await;
    assert_eq!(second.sessions, expected[10..20]);
    assert!(list(&rows, PageFrom::Start, 1).await.sessions[0].id == SessionId::from_body("new4"), "reads see writes");
    let before = list(&rows, PageFrom::Before(at(&expected[0])), 3).await;
    assert_eq!((bodies(&before), before.has_newer), (vec!["new2".into(), "new1".into(), "new0".into()], true));
    rows.sessions.delete(&expected[19].id).await.unwrap();
    let third = list(&rows, PageFrom::After(at(&expected[19])), 10).await;
    assert_eq!(third.sessions, expected[20..30], "a position outlives its row");
}

pub(crate) async fn the_last_page_says_so(rows: Lists) {
    let mut made = Vec::new();
    for i in 0..4 {
        made.push(make(&rows, &format!("s{i}"), after(i)).await);
    }
    let page = list(&rows, PageFrom::Start, 4).await;
    assert_eq!((page.sessions.len(), page.has_older, page.has_newer), (4, false, false));
    let beyond = list(&rows, PageFrom::After(at(&made[0])), 4).await;
    assert_eq!((beyond.sessions.len(), beyond.has_older, beyond.has_newer), (0, false, true));
    let above = list(&rows, PageFrom::Before(at(&made[3])), 4).await;
    assert_eq!((above.sessions.len(), above.has_older, above.has_newer), (0, true, false));
}

const NOW: u64 = 500;

/// Every mixture of type, task, tags, status and time.
async fn make_mixed(rows: &Lists) -> Vec<Session> {
    for i in 0_u64..96 {
        let new = NewSession {
            session_type: format!("type-{}", i % 3),
            task_identifier: format!("task-{}", i / 3 % 2),
            tags: (0..3).filter(|bit| i >> bit & 1 == 1).map(|bit| format!("tag-{bit}")).collect(),
            expires_at: [None, Some(after(NOW)), Some(after(NOW + 1))][(i / 5 % 3) as usize],
            ..new_session(&format!("s{i:02}"), Some(&format!("name-{i}")))
        };
        let session = rows.sessions.upsert(new, after(i / 2)).await.unwrap().session;
        if i % 4 == 0 {
            rows.sessions.close(&session.id, None, after(100)).await.unwrap();
        }
    }
    let mut all = Vec::new();
    for i in 0..96 {
        all.push(rows.read(&SessionId::from_body(&format!("s{i:02}"))).await);
    }
    all.sort_by(|a, b| (b.created_at, &b.id).cmp(&(a.created_at, &a.id)));
    all
}

pub(crate) fn is_wanted(filter: &ListFilter, session: &Session, now: Timestamp) -> bool {
    let any = |wanted: &[String], value: &String| wanted.is_empty() || wanted.contains(value);
    any(&filter.types, &session.session_type)
        && any(&filter.task_identifiers, &session.task_identifier)
        && (filter.tags.is_empty() || session.tags.iter().any(|tag| filter.tags.contains(tag)))
        && filter.external_id.as_deref().is_none_or(|n| session.external_id.as_ref().is_some_and(|e| e.as_str() == n))
        && (filter.statuses.is_empty() || filter.statuses.contains(&session.status(now)))
        && filter.created_from.is_none_or(|from| session.created_at >= from)
        && filter.created_to.is_none_or(|to| session.created_at <= to)
}

pub(crate) async fn filters_select_alone_and_combined(rows: Lists) {
    let all = make_mixed(&rows).await;
    let texts = |list: &[&str]| list.iter().map(|&t| t.to_owned()).collect::<Vec<_>>();
    use SessionStatus::{Active, Closed, Expired};
    let types = [texts(&[]), texts(&["type-1"]), texts(&["type-0", "type-2", "type-9"])];
    let tasks = [texts(&[]), texts(&["task-1"]), texts(&["task-0", "task-1"])];
    let tags = [texts(&[]), texts(&["tag-0"]), texts(&["tag-1", "tag-2"])];
    let statuses =
        [vec![], vec![Active], vec![Closed], vec![Expired], vec![Active, Closed], vec![Active, Closed, Expired]];
    let times = [(None, None), (Some(after(10)), None), (Some(after(10)), Some(after(30)))];
    let mut place = 0;
    for (n, (created_from, created_to)) in times.into_iter().enumerate() {
        for (types, tasks) in types.iter().flat_map(|t| tasks.iter().map(move |k| (t, k))) {
            for (tags, statuses) in tags.iter().flat_map(|t| statuses.iter().map(move |s| (t, s))) {
                // Each alone, all pairs, and some of the larger combinations.
                let given = [!types.is_empty(), !tasks.is_empty(), !tags.is_empty(), !statuses.is_empty(), n > 0];
                place += 1;
                if given.iter().filter(|is_given| **is_given).count() > 2 && place % 11 > 0 {
                    continue;
                }
                let filter = ListFilter {
                    types: types.clone(),
                    task_identifiers: tasks.clone(),
                    tags: tags.clone(),
                    statuses: statuses.clone(),
                    created_from,
                    created_to,
                    external_id: None,
                };
                check_filter(&rows, &all, &filter, n as u32 + 5).await;
            }
        }
    }
    let named = ListFilter { external_id: Some("name-17".into()), ..ListFilter::default() };
    check_filter(&rows, &all, &named, 2).await;
    let no_prefix = ListFilter { external_id: Some("name-1%".into()), ..named };
    assert!(rows.index.list(&env(), &no_prefix, &PageFrom::Start, 9, T0).await.unwrap().sessions.is_empty());
}

/// The count, the first page, the one after it and the way back.
async fn check_filter(rows: &Lists, all: &[Session], filter: &ListFilter, size: u32) {
    let now = after(NOW);
    let expected: Vec<_> = all.iter().filter(|session| is_wanted(filter, session, now)).cloned().collect();
    assert_eq!(rows.index.count(&env(), filter, now).await.unwrap(), expected.len() as u64, "{filter:?}");
    let first = rows.index.list(&env(), filter, &PageFrom::Start, size, now).await.unwrap();
    let n = expected.len().min(size as usize);
    assert_eq!((&first.sessions[..], first.has_older), (&expected[..n], expected.len() > n), "{filter:?}");
    let Some(last) = first.sessions.last().filter(|_| first.has_older) else { return };
    let second = rows.index.list(&env(), filter, &PageFrom::After(at(last)), size, now).await.unwrap();
    let m = expected.len().min(n + size as usize);
    assert_eq!((&second.sessions[..], second.has_older), (&expected[n..m], expected.len() > m), "{filter:?}");
    assert!(second.has_newer);
    let back = PageFrom::Before(at(&second.sessions[0]));
    let back = rows.index.list(&env(), filter, &back, size, now).await.unwrap();
    assert_eq!((back.sessions, back.has_newer, back.has_older), (first.sessions, false, true), "{filter:?}");
}

pub(crate) async fn tags_match_whole_and_as_given(rows: Lists) {
    let tags = ["user:1", "user:10", "User:1", "a\"b", "a'b", "50%", "ü", "[]", "1"];
    for (i, tag) in tags.iter().enumerate() {
        let new = NewSession { tags: vec![(*tag).to_owned(), "all".into()], ..new_session(&format!("s{i}"), None) };
        rows.sessions.upsert(new, T0).await.unwrap();
    }
    for (i, tag) in tags.iter().enumerate() {
        let filter = ListFilter { tags: vec![(*tag).to_owned()], ..ListFilter::default() };
        let page = rows.index.list(&env(), &filter, &PageFrom::Start, 10, T0).await.unwrap();
        assert_eq!(bodies(&page), [format!("s{i}")], "{tag}");
    }
}

pub(crate) async fn an_environment_sees_its_own(rows: Lists) {
    make(&rows, "ours", T0).await;
    let theirs = NewSession { tenant: tenant(other_env()), tags: vec!["t".into()], ..new_session("theirs", None) };
    rows.sessions.upsert(theirs, T0).await.unwrap();
    assert_eq!(bodies(&list(&rows, PageFrom::Start, 10).await), ["ours"]);
    assert_eq!(rows.index.count(&env(), &ListFilter::default(), T0).await.unwrap(), 1);
    assert!(rows.index.tags(&env(), "", 10).await.unwrap().is_empty());
}

pub(crate) async fn tags_are_counted(rows: Lists) {
    let made: [&[&str]; 4] =
        [&["user:1", "x"], &["user:1", "user:2"], &["user:2", "user:2"], &["user:1", "User:1", "us%r"]];
    for (i, tags) in made.iter().enumerate() {
        let tags = tags.iter().map(|&t| t.to_owned()).collect();
        rows.sessions.upsert(NewSession { tags, ..new_session(&format!("s{i}"), None) }, T0).await.unwrap();
    }
    let tags = async |prefix, limit| {
        let counts = rows.index.tags(&env(), prefix, limit).await.unwrap();
        counts.into_iter().map(|c| (c.tag, c.sessions)).collect::<Vec<_>>()
    };
    let user = |n: u8, sessions| (format!("user:{n}"), sessions);
    assert_eq!(tags("user:", 10).await, [user(1, 3), user(2, 2)]);
    assert_eq!(tags("user:", 1).await, [user(1, 3)]);
    assert_eq!(tags("us%", 10).await, [("us%r".to_owned(), 1)]);
    assert_eq!(tags("", 10).await.len(), 5);
    assert!(tags("nope", 10).await.is_empty());
}

/// At `expires_at` it is over, and a millisecond before it is not. What is closed stays closed.
pub(crate) async fn a_status_turns_at_the_moment_of_expiry(rows: Lists) {
    use SessionStatus::{Active, Closed, Expired};
    for body in ["open", "shut"] {
        let new = NewSession { expires_at: Some(after(1_000)), ..new_session(body, None) };
        rows.sessions.upsert(new, T0).await.unwrap();
    }
    rows.sessions.close(&SessionId::from_body("shut"), None, after(1)).await.unwrap();
    make(&rows, "ever", T0).await;
    let of = async |status, now| {
        let filter = ListFilter { statuses: vec![status], ..ListFilter::default() };
        let page = rows.index.list(&env(), &filter, &PageFrom::Start, 9, now).await.unwrap();
        assert_eq!(rows.index.count(&env(), &filter, now).await.unwrap(), page.sessions.len() as u64);
        bodies(&page)
    };
    for (ms, active, expired) in [(999, vec!["open", "ever"], vec![]), (1_000, vec!["ever"], vec!["open"])] {
        assert_eq!(of(Active, after(ms)).await, active, "at {ms}");
        assert_eq!(of(Expired, after(ms)).await, expired, "at {ms}");
        assert_eq!(of(Closed, after(ms)).await, ["shut"], "at {ms}");
    }
}

/// Sessions without a name are no sessions with an empty one. Times at the ends of what a number holds are times, too.
pub(crate) async fn a_name_that_is_none_finds_nothing(rows: Lists) {
    make(&rows, "nameless", T0).await;
    let empty = ListFilter { external_id: Some(String::new()), ..ListFilter::default() };
    assert!(rows.index.list(&env(), &empty, &PageFrom::Start, 9, T0).await.unwrap().sessions.is_empty());
    assert_eq!(rows.index.count(&env(), &empty, T0).await.unwrap(), 0);
    let ends = (Timestamp(i64::MIN), Timestamp(i64::MAX));
    let always = ListFilter { created_from: Some(ends.0), created_to: Some(ends.1), ..ListFilter::default() };
    assert_eq!(rows.index.count(&env(), &always, T0).await.unwrap(), 1);
    let never = ListFilter { created_from: Some(ends.1), ..ListFilter::default() };
    assert_eq!(rows.index.count(&env(), &never, T0).await.unwrap(), 0);
    let below_all = ListPosition { created_at: ends.1, id: SessionId::from_body("x") };
    assert_eq!(bodies(&list(&rows, PageFrom::After(below_all), 9).await), ["nameless"]);
    let above_all = ListPosition { created_at: ends.0, id: SessionId::from_body("x") };
    assert_eq!(bodies(&list(&rows, PageFrom::Before(above_all), 9).await), ["nameless"]);
}
