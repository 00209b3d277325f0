//! A walk of random changes, and lists beside what a model of them says. What fails prints its seed.

use super::new_sessions::*;
use super::session_index::{Lists, at, is_wanted};
use continuo_domain::session::{ListFilter, NewSession, PageFrom, Session, SessionPatch, SessionRef, SessionStatus};
use continuo_domain::{SessionId, Timestamp};
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};

const STEPS: u64 = 160;
/// Small, so that values meet.
const TAGS: [&str; 5] = ["a", "b", "user:1", "it's", "\\?"];

/// Chance that repeats itself: splitmix64.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn of(seed: u64) -> Self {
        Self(seed)
    }

    /// Less than `n`, which is not 0.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    fn some(&mut self, of: &[&str]) -> Vec<String> {
        of.iter().filter(|_| self.below(3) == 0).map(|&text| text.to_owned()).collect()
    }
}

/// `CONTINUO_TEST_SEED` walks again where a walk failed.
pub(crate) fn seed() -> u64 {
    let given = std::env::var("CONTINUO_TEST_SEED").ok().map(|seed| seed.parse().unwrap());
    given.unwrap_or_else(|| RandomState::new().hash_one(0))
}

struct Walk {
    rows: Lists,
    random: Random,
    model: BTreeMap<SessionId, Session>,
    made: u64,
}

pub(crate) async fn random_changes_are_in_every_list_at_once(rows: Lists) {
    let seed = seed();
    let mut walk = Walk { rows, random: Random::of(seed), model: BTreeMap::new(), made: 0 };
    for step in 0..STEPS {
        walk.change(after(step)).await;
        if step % 4 == 0 {
            walk.check(&format!("CONTINUO_TEST_SEED={seed}, step {step}")).await;
        }
    }
}

impl Walk {
    async fn change(&mut self, now: Timestamp) {
        let old = self.model.keys().nth(self.random.below(self.model.len().max(1) as u64) as usize).cloned();
        let sessions = self.rows.sessions.clone();
        let (Some(id), chance @ 5..) = (old, self.random.below(12)) else { return self.make().await };
        match chance {
            5 => drop(sessions.delete(&id).await.unwrap()),
            6 | 7 => drop(sessions.close(&id, None, now).await.unwrap()),
            8 | 9 => {
                let patch = SessionPatch { tags: Some(self.random.some(&TAGS)), ..SessionPatch::default() };
                sessions.update(&id, patch, now).await.unwrap();
            }
            _ => {
                let new = (chance == 10).then(|| name(&format!("renamed-{}", now.0)));
                let patch = SessionPatch { external_id: Some(new), ..SessionPatch::default() };
                sessions.update(&id, patch, now).await.unwrap();
            }
        }
        match sessions.get(&env(), &SessionRef::Id(id.clone())).await.unwrap() {
            Some(session) => drop(self.model.insert(id, session)),
            None => drop(self.model.remove(&id)),
        }
    }

    /// Among the others in the order, not above them.
    async fn make(&mut self) {
        self.made += 1;
        let body = format!("s{:03}", self.made * 37 % 400);
        let new = NewSession {
            session_type: format!("type-{}", self.random.below(2)),
            task_identifier: format!("task-{}", self.random.below(2)),
            tags: self.random.some(&TAGS),
            expires_at: [None, Some(after(60)), Some(after(61))][self.random.below(3) as usize],
            ..new_session(&body, Some(&format!("name-{body}")))
        };
        let session = self.rows.sessions.upsert(new, after(self.random.below(20))).await.unwrap().session;
        self.model.insert(session.id.clone(), session);
    }

    fn filter(&mut self) -> ListFilter {
        let statuses = [SessionStatus::Active, SessionStatus::Closed, SessionStatus::Expired];
        let mut one_of = |prefix: &str| -> Vec<String> {
            if self.random.below(3) == 0 { vec![format!("{prefix}-{}", self.random.below(2))] } else { vec![] }
        };
        ListFilter {
            types: one_of("type"),
            task_identifiers: one_of("task"),
            tags: if self.random.below(2) == 0 { self.random.some(&TAGS) } else { vec![] },
            external_id: None,
            statuses: statuses.into_iter().filter(|_| self.random.below(4) == 0).collect(),
            created_from: (self.random.below(4) == 0).then(|| after(self.random.below(10))),
            created_to: (self.random.below(4) == 0).then(|| after(10 + self.random.below(10))),
        }
    }

    async fn check(&mut self, at_step: &str) {
        let mut all: Vec<_> = self.model.values().cloned().collect();
        all.sort_by(|a, b| (b.created_at, &b.id).cmp(&(a.created_at, &a.id)));
        let (filter, size, now) = (self.filter(), 1 + self.random.below(9) as usize, after(60));
        let wanted: Vec<_> = all.iter().filter(|session| is_wanted(&filter, session, now)).cloned().collect();
        let context = format!("{at_step}: {filter:?}");
        assert_eq!(self.rows.index.count(&env(), &filter, now).await.unwrap(), wanted.len() as u64, "{context}");
        let page = async |from| self.rows.index.list(&env(), &filter, &from, size as u32, now).await.unwrap();

        let first = page(PageFrom::Start).await;
        let n = wanted.len().min(size);
        assert_eq!(first.sessions, wanted[..n], "{context}");
        assert_eq!((first.has_older, first.has_newer), (wanted.len() > n, false), "{context}");

        // At any session, whether it matches or not.
        let Some(there) = all.get(self.random.below(all.len().max(1) as u64) as usize) else { return };
        let is_above = |session: &&Session| (session.created_at, &session.id) > (there.created_at, &there.id);
        let above = wanted.iter().filter(is_above).count();
        let not_below = above + wanted.iter().filter(|session| session.id == there.id).count();
        let older = page(PageFrom::After(at(there))).await;
        let end = wanted.len().min(not_below + size);
        assert_eq!(older.sessions, wanted[not_below..end], "{context} after {there:?}");
        assert_eq!(
            (older.has_older, older.has_newer),
            (wanted.len() > end, not_below > 0),
            "{context} after {there:?}"
        );
        let newer = page(PageFrom::Before(at(there))).await;
        let start = above.saturating_sub(size);
        assert_eq!(newer.sessions, wanted[start..above], "{context} before {there:?}");
        assert_eq!((newer.has_older, newer.has_newer), (wanted.len() > above, start > 0), "{context} before {there:?}");
        self.check_tags(&all, at_step).await;
    }

    async fn check_tags(&mut self, all: &[Session], at_step: &str) {
        let count = |tag: &&str| all.iter().filter(|session| session.tags.iter().any(|t| t == tag)).count() as u64;
        let mut counts: Vec<_> =
            TAGS.iter().map(|tag| ((*tag).to_owned(), count(tag))).filter(|(_, n)| *n > 0).collect();
        counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        counts.truncate(3);
        let tags = self.rows.index.tags(&env(), "", 3).await.unwrap();
        assert_eq!(tags.into_iter().map(|count| (count.tag, count.sessions)).collect::<Vec<_>>(), counts, "{at_step}");
    }
}
