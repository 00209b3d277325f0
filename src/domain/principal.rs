//! Who is calling and what they may do.
//!
//! A scope is `action[:type[:id]]`; only the first two colons separate, an id keeps its own.

use crate::channel::{ChannelKey, ChannelName, Direction};
use crate::{EnvironmentId, RunId, SessionId, Timestamp, Violation, WaitpointId};
use std::fmt;

/// Most scopes a token may ask for.
pub const SCOPES_MAX: usize = 256;
/// Longest scope, in bytes: the longest external id with a channel's name behind it fits.
pub const SCOPE_BYTES_MAX: usize = 2_048;

/// What a caller wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Look.
    Read,
    /// Change.
    Write,
    /// Change what only an owner changes (update and close a session).
    Admin,
    /// Start a run of a task; also satisfied by write.
    Trigger,
}

impl Action {
    fn is_met_by(self, granted: &str) -> bool {
        let own = match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
            Self::Trigger => "trigger",
        };
        granted == "*" || granted == own || (self == Self::Trigger && granted == "write")
    }
}

/// One granted scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope(String);

impl Scope {
    /// Reads a scope. Any text is one; whether it grants anything is another matter.
    pub fn parse(text: &str) -> Result<Self, Violation> {
        match text {
            "" => Err(Violation::new("scopes", "holds an empty scope")),
            t if t.len() > SCOPE_BYTES_MAX => Err(Violation::new("scopes", "holds a scope longer than 2048 bytes")),
            t => Ok(Self(t.to_owned())),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn parts(&self) -> (&str, Option<&str>, Option<&str>) {
        let mut parts = self.0.splitn(3, ':');
        (parts.next().unwrap_or_default(), parts.next(), parts.next())
    }

    fn is_universal(&self) -> bool {
        self.0 == "admin"
    }

    /// The name of the session it is about, if it is about one: without what narrows it to a channel.
    pub fn session(&self) -> Option<&str> {
        let (_, kind, id) = self.parts();
        let id = id.filter(|_| kind == Some("sessions"))?;
        narrowing(id).map_or(Some(id), |narrowing| id.strip_suffix(narrowing))
    }

    fn grants(&self, action: Action, resource: &Resource) -> bool {
        let (granted, kind, id) = self.parts();
        if !action.is_met_by(granted) {
            return false;
        }
        match (kind, id) {
            (None, _) => false,
            (Some("all"), _) => true,
            (Some(kind), None) => kind == resource.kind,
            (Some(kind), Some(id)) => kind == resource.kind && resource.id.as_deref() == Some(id),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Something scopes are about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// `sessions`, `tasks`, `runs`, `waitpoints` …
    pub kind: &'static str,
    /// `None` is the type level.
    pub id: Option<String>,
}

impl Resource {
    /// All of a type.
    pub fn all(kind: &'static str) -> Self {
        Self { kind, id: None }
    }

    /// One of a type.
    pub fn one(kind: &'static str, id: impl Into<String>) -> Self {
        Self { kind, id: Some(id.into()) }
    }

    /// One task.
    pub fn task(task_identifier: &str) -> Self {
        Self::one("tasks", task_identifier)
    }

    /// One run.
    pub fn run(run: &RunId) -> Self {
        Self::one("runs", run.as_str())
    }
}

/// The names a session goes by in a request, for scopes: any of them may be the one a token names.
#[derive(Clone, Debug)]
pub struct SessionNames {
    /// The row, if there is one.
    pub session: Option<SessionId>,
    /// The path value as it came in, and the row's external id if it has one.
    pub others: Vec<String>,
}

impl SessionNames {
    /// The row itself, all channels of it included.
    pub fn resources(&self) -> Vec<Resource> {
        self.safe_keys().map(|key| Resource::one("sessions", key)).chain([Resource::all("sessions")]).collect()
    }

    /// One channel: the row's own scopes, and the narrowed ones. A channel token opens neither another channel nor the
    /// reserved pair nor the row; a direction token opens the reserved channel of that direction only.
    pub fn channel_resources(&self, name: Option<&ChannelName>, direction: Direction) -> Vec<Resource> {
        let io = direction.as_str();
        let narrowed = |key: &str| match name {
            None => vec![format!("{key}:{io}")],
            Some(name) => {
                vec![format!("{key}:channels:{}", name.as_str()), format!("{key}:channels:{}:{io}", name.as_str())]
            }
        };
        let folded = self.safe_keys().flat_map(|key| {
            let mut ids = narrowed(key);
            ids.push(key.to_owned());
            ids
        });
        folded.map(|id| Resource::one("sessions", id)).chain([Resource::all("sessions")]).collect()
    }

    fn keys(&self) -> impl Iterator<Item = &str> {
        self.session.iter().map(SessionId::as_str).chain(self.others.iter().map(String::as_str))
    }

    /// A key that reads like a narrowed scope contributes nothing: another session's narrowed token must not open it.
    fn safe_keys(&self) -> impl Iterator<Item = &str> {
        self.keys().filter(|key| !is_unsafe_key(key))
    }
}

/// Does a key contain `:channels:` or end in `:in` or `:out`?
pub fn is_unsafe_key(key: &str) -> bool {
    narrowing(key).is_some()
}

/// The end of a scope's id that narrows it to a channel.
fn narrowing(id: &str) -> Option<&str> {
    let channel = id.find(":channels:").map(|at| &id[at..]);
    channel.or_else(|| [":in", ":out"].into_iter().find(|direction| id.ends_with(direction)))
}

/// A run as its token names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunClaim {
    /// The run.
    pub run: RunId,
    /// Its session, if it has one.
    pub session: Option<SessionId>,
    /// `current_run_version` the run holds in its session.
    pub version: u64,
    /// The execution snapshot its lease began with.
    pub lease: u64,
}

/// In whose name a stream token writes: what it was stamped with when it was handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamWriter {
    /// A key. Names no run, so no newer run fences it.
    Key,
    /// A run, under the lease it had then.
    Run(RunClaim),
    /// The holder of a public token. Appends, and nothing else.
    Public,
}

/// A stream token as it reads: good for exactly one channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamClaim {
    /// Which.
    pub channel: ChannelKey,
    /// In whose name.
    pub writer: StreamWriter,
}

impl StreamClaim {
    fn grants(&self, action: Action, session: Option<&SessionId>, name: Option<&ChannelName>, io: Direction) -> bool {
        let is_its_channel = session == Some(&self.channel.session)
            && name == self.channel.name.as_ref()
            && io == self.channel.direction;
        is_its_channel
            && match action {
                Action::Write => true,
                Action::Read => self.writer != StreamWriter::Public,
                Action::Admin | Action::Trigger => false,
            }
    }
}

/// In whose name a caller writes to a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer<'a> {
    /// A key.
    Key,
    /// A run.
    Run(&'a RunClaim),
    /// Whoever holds a public token.
    Public,
}

/// A public token that is spent by its first trigger. It can do everything else as often as it likes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OneTimeToken {
    /// Tells it from every other token.
    pub id: String,
    /// From here on it counts for nothing anyway.
    pub expires_at: Timestamp,
}

/// With what the caller proved who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// The environment's root key: passes every check.
    RootKey,
    /// An additional key: secret, but restricted to its scopes unless it has `admin`.
    AdditionalKey,
    /// A JWT in a browser's or another service's hands.
    PublicToken {
        /// The one session this token is bound to, whatever its name is now.
        session: Option<SessionId>,
        /// It is good for one trigger.
        one_time: Option<OneTimeToken>,
    },
    /// A run's own token. With the scope `admin` it is the one that SDKs take: a run in its own session, a key elsewhere.
    RunToken(RunClaim),
    /// The credential of one channel, for direct writes.
    StreamToken(StreamClaim),
    /// The token in a waitpoint's URL: completes this one, and nothing else.
    WaitpointToken(WaitpointId),
}

/// Who is calling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The tenant. Nothing outside it exists for this caller.
    pub environment: EnvironmentId,
    /// The proof.
    pub credential: Credential,
    /// What was granted. Empty for a root key, most run tokens and stream tokens: those do not go by scopes.
    pub scopes: Vec<Scope>,
    /// When the credential ends by itself, and with it what was opened by it. Nothing for a run's token: it is renewed while
    /// the run has its lease, and leases and fences say what the run may still do.
    pub expires_at: Option<Timestamp>,
}

impl Principal {
    /// A key, as opposed to a token that may lie in a browser; or a run that stands in for one.
    pub fn has_secret_key(&self) -> bool {
        match self.credential {
            Credential::RootKey | Credential::AdditionalKey => true,
            Credential::RunToken(_) => self.is_universal(),
            Credential::PublicToken { .. } | Credential::StreamToken(_) | Credential::WaitpointToken(_) => false,
        }
    }

    fn is_universal(&self) -> bool {
        self.scopes.iter().any(Scope::is_universal)
    }

    /// The run, if a run is calling.
    pub fn run(&self) -> Option<&RunClaim> {
        match &self.credential {
            Credential::RunToken(claim) => Some(claim),
            _ => None,
        }
    }

    /// In whose name records of this caller are written to a session.
    pub fn writer(&self, session: &SessionId) -> Writer<'_> {
        match &self.credential {
            Credential::RootKey | Credential::AdditionalKey => Writer::Key,
            Credential::PublicToken { .. } | Credential::WaitpointToken(_) => Writer::Public,
            Credential::RunToken(claim) if self.is_universal() && claim.session.as_ref() != Some(session) => {
                Writer::Key
            }
            Credential::RunToken(claim) => Writer::Run(claim),
            Credential::StreamToken(stream) => match &stream.writer {
                StreamWriter::Key => Writer::Key,
                StreamWriter::Run(claim) => Writer::Run(claim),
                StreamWriter::Public => Writer::Public,
            },
        }
    }

    /// Does the caller write directly, with a credential it got while the session was open?
    pub fn writes_directly(&self) -> bool {
        matches!(self.credential, Credential::StreamToken(_))
    }

    /// What a trigger by this caller spends.
    pub fn one_time_token(&self) -> Option<&OneTimeToken> {
        match &self.credential {
            Credential::PublicToken { one_time, .. } => one_time.as_ref(),
            _ => None,
        }
    }

    /// Does any granted scope cover any of the resources?
    pub fn may(&self, action: Action, any_of: &[Resource]) -> bool {
        match &self.credential {
            Credential::RootKey => true,
            Credential::RunToken(claim) => {
                let own = Resource::run(&claim.run);
                self.is_universal() || (action != Action::Admin && any_of.contains(&own))
            }
            Credential::StreamToken(_) => false,
            Credential::WaitpointToken(id) => {
                action == Action::Write && any_of.contains(&Resource::one("waitpoints", id.as_str()))
            }
            Credential::AdditionalKey | Credential::PublicToken { .. } => {
                self.scopes.iter().any(|s| s.is_universal() || any_of.iter().any(|r| s.grants(action, r)))
            }
        }
    }

    /// May the caller do this to the session row? Says nothing of whether the row exists.
    pub fn may_session(&self, action: Action, names: &SessionNames) -> bool {
        self.may_with(action, names, names.resources())
    }

    /// May the caller do this to a channel of the session?
    pub fn may_channel(&self, action: Action, names: &SessionNames, name: Option<&ChannelName>, io: Direction) -> bool {
        if let Credential::StreamToken(stream) = &self.credential {
            return stream.grants(action, names.session.as_ref(), name, io);
        }
        self.may_with(action, names, names.channel_resources(name, io))
    }

    /// The named channels that the credential itself names, of whatever session. Says nothing of what it grants.
    pub fn named_channels(&self) -> Vec<ChannelName> {
        let streams = match &self.credential {
            Credential::StreamToken(stream) => stream.channel.name.clone(),
            _ => None,
        };
        let narrowed = self.scopes.iter().filter_map(|scope| {
            let (_, name) = scope.parts().2?.rsplit_once(":channels:")?;
            ChannelName::parse(name.strip_suffix(":in").or(name.strip_suffix(":out")).unwrap_or(name)).ok()
        });
        streams.into_iter().chain(narrowed).collect()
    }

    /// Is the caller a key, or the run that owns this session?
    pub fn is_secret_for(&self, session: &SessionId) -> bool {
        match self.writer(session) {
            Writer::Key => true,
            Writer::Run(claim) => claim.session.as_ref() == Some(session),
            Writer::Public => false,
        }
    }

    fn may_with(&self, action: Action, names: &SessionNames, resources: Vec<Resource>) -> bool {
        match &self.credential {
            Credential::RunToken(claim) => {
                let is_own = claim.session.is_some() && claim.session == names.session;
                self.is_universal() || (action != Action::Admin && is_own)
            }
            Credential::PublicToken { session: Some(bound), .. } => {
                names.session.as_ref() == Some(bound) && self.may_bound(action, names, &resources)
            }
            _ => self.may(action, &resources),
        }
    }

    /// A session token follows its row: its `sessions` scopes count whatever name they spell, and what narrows one to a
    /// channel still does.
    fn may_bound(&self, action: Action, names: &SessionNames, resources: &[Resource]) -> bool {
        let follows = |scope: &Scope| match scope.parts() {
            (granted, Some("sessions"), id) if action.is_met_by(granted) => match id.and_then(narrowing) {
                Some(_) if names.keys().any(|key| Some(key) == id) => true,
                Some(narrowed) => resources.iter().any(|r| r.id.as_deref().and_then(narrowing) == Some(narrowed)),
                None => true,
            },
            _ => false,
        };
        self.scopes.iter().any(follows) || self.may(action, resources)
    }

    /// Which of the wanted scopes this caller could not grant itself. Only a key with everything may grant everything.
    pub fn denied_of(&self, wanted: &[Scope]) -> Vec<String> {
        let universal = self.credential == Credential::RootKey || self.is_universal();
        let covered = |w: &Scope| universal || self.scopes.iter().any(|own| covers(own, w));
        wanted.iter().filter(|w| !covered(w)).map(|w| w.as_str().to_owned()).collect()
    }
}

/// Does holding `own` make granting `wanted` no escalation?
fn covers(own: &Scope, wanted: &Scope) -> bool {
    let ((own_action, own_kind, own_id), (action, kind, id)) = (own.parts(), wanted.parts());
    let action_fits = own_action == "*" || own_action == action || (action == "trigger" && own_action == "write");
    let kind_fits = own_kind.is_some() && (own_kind == Some("all") || own_kind == kind);
    action_fits && kind_fits && (own_kind == Some("all") || own_id.is_none() || own_id == id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(scopes: &[&str]) -> Principal {
        Principal {
            environment: EnvironmentId::from_body("a"),
            credential: Credential::PublicToken { session: None, one_time: None },
            scopes: scopes.iter().map(|s| Scope::parse(s).unwrap()).collect(),
            expires_at: None,
        }
    }

    fn names(external: &str) -> SessionNames {
        SessionNames { session: Some(SessionId::from_body("s")), others: vec![external.to_owned()] }
    }

    #[test]
    fn scopes_follow_the_grammar() {
        let sessions = names("chat:1").resources();
        for (scope, action, allowed) in [
            ("read:sessions:chat:1", Action::Read, true),
            ("read:sessions:session_s", Action::Read, true),
            ("read:sessions:chat", Action::Read, false),
            ("read:sessions", Action::Read, true),
            ("read:all", Action::Read, true),
            ("read", Action::Read, false),
            ("admin", Action::Read, true),
            ("admin:sessions", Action::Read, false),
            ("admin:sessions", Action::Admin, true),
            ("write:all", Action::Admin, false),
            ("admin:all", Action::Admin, true),
            ("write:sessions", Action::Read, false),
            ("*:sessions", Action::Read, true),
        ] {
            assert_eq!(token(&[scope]).may(action, &sessions), allowed, "{scope} {action:?}");
        }
        assert!(token(&["write:tasks:chat"]).may(Action::Trigger, &[Resource::task("chat")]));
        assert!(token(&["trigger:tasks:chat"]).may(Action::Trigger, &[Resource::task("chat")]));
        assert!(!token(&["trigger:tasks:other"]).may(Action::Trigger, &[Resource::task("chat")]));
    }

    #[test]
    fn directions_and_channels_fold() {
        let tools = ChannelName::parse("tools").unwrap();
        let out = token(&["read:sessions:chat-1:out"]);
        let names = names("chat-1");
        assert!(out.may_channel(Action::Read, &names, None, Direction::Out));
        assert!(!out.may_channel(Action::Read, &names, None, Direction::In));
        assert!(!out.may_channel(Action::Read, &names, Some(&tools), Direction::Out));
        assert!(!out.may_session(Action::Read, &names));
        let channel = token(&["read:sessions:chat-1:channels:tools"]);
        assert!(channel.may_channel(Action::Read, &names, Some(&tools), Direction::Out));
        assert!(!channel.may_channel(Action::Read, &names, None, Direction::Out));
        assert!(!channel.may_channel(
            Action::Read,
            &names,
            Some(&ChannelName::parse("other").unwrap()),
            Direction::Out
        ));
        assert!(!channel.may_session(Action::Read, &names));
    }

    #[test]
    fn a_key_that_reads_like_a_narrowed_scope_opens_nothing() {
        let legacy = names("X:out");
        assert!(!token(&["read:sessions:X:out"]).may_channel(Action::Read, &legacy, None, Direction::Out));
        assert!(token(&["read:sessions:session_s"]).may_channel(Action::Read, &legacy, None, Direction::Out));
    }

    #[test]
    fn a_credential_says_which_channels_it_names() {
        let scopes = [
            "read:sessions:a:channels:tools",
            "write:sessions:b:c:channels:logs.1:out",
            "read:sessions:a:channels:in",
            "read:sessions:a:channels:no name",
            "read:sessions:a:out",
            "read:sessions",
        ];
        let names =
            |caller: Principal| caller.named_channels().iter().map(|n| n.as_str().to_owned()).collect::<Vec<_>>();
        assert_eq!(names(token(&scopes)), ["tools", "logs.1", "in"]);
        let mut stream = token(&[]);
        let name = ChannelName::parse("tools").ok();
        let channel = ChannelKey { session: SessionId::from_body("s"), name, direction: Direction::Out };
        stream.credential = Credential::StreamToken(StreamClaim { channel, writer: StreamWriter::Key });
        assert_eq!(names(stream), ["tools"]);
    }

    #[test]
    fn a_bound_token_follows_its_row_and_no_other() {
        let mut bound = token(&["read:sessions:old-name", "write:sessions:old-name"]);
        bound.credential = Credential::PublicToken { session: Some(SessionId::from_body("s")), one_time: None };
        assert!(bound.may_session(Action::Read, &names("new-name")));
        assert!(!bound.may_session(Action::Admin, &names("new-name")));
        let taken_over = SessionNames { session: Some(SessionId::from_body("t")), others: vec!["old-name".into()] };
        assert!(!bound.may_session(Action::Read, &taken_over));
    }

    #[test]
    fn a_bound_token_for_one_channel_opens_that_channel_under_any_name() {
        let (tools, other) = (ChannelName::parse("tools").unwrap(), ChannelName::parse("other").unwrap());
        let mut bound = token(&["read:sessions:old-name:out", "read:sessions:old-name:channels:tools"]);
        bound.credential = Credential::PublicToken { session: Some(SessionId::from_body("s")), one_time: None };
        for names in [names("old-name"), names("new-name")] {
            assert!(bound.may_channel(Action::Read, &names, None, Direction::Out));
            assert!(bound.may_channel(Action::Read, &names, Some(&tools), Direction::In));
            assert!(!bound.may_channel(Action::Write, &names, None, Direction::Out));
            assert!(!bound.may_channel(Action::Read, &names, None, Direction::In));
            assert!(!bound.may_channel(Action::Read, &names, Some(&other), Direction::Out));
            assert!(!bound.may_session(Action::Read, &names));
        }
        bound.scopes = token(&["read:sessions:X:out"]).scopes;
        assert!(bound.may_session(Action::Read, &names("X:out")), "an old name that reads like a narrowed scope");
    }

    #[test]
    fn a_scope_names_the_session_it_is_about() {
        for (scope, session) in [
            ("read:sessions:chat:1", Some("chat:1")),
            ("read:sessions:chat:1:out", Some("chat:1")),
            ("read:sessions:chat:channels:a:in", Some("chat")),
            ("read:sessions", None),
            ("read:all:chat", None),
            ("admin", None),
        ] {
            assert_eq!(token(&[scope]).scopes[0].session(), session, "{scope}");
        }
    }

    #[test]
    fn a_stream_token_opens_its_channel_and_nothing_else() {
        let tools = ChannelName::parse("tools").unwrap();
        let run =
            RunClaim { run: RunId::from_body("r"), session: Some(SessionId::from_body("s")), version: 1, lease: 1 };
        for (writer, reads) in
            [(StreamWriter::Key, true), (StreamWriter::Run(run), true), (StreamWriter::Public, false)]
        {
            let mut caller = token(&["admin"]);
            let channel = ChannelKey::reserved(SessionId::from_body("s"), Direction::Out);
            caller.credential = Credential::StreamToken(StreamClaim { channel, writer });
            let names = names("chat-1");
            assert!(caller.may_channel(Action::Write, &names, None, Direction::Out));
            assert_eq!(caller.may_channel(Action::Read, &names, None, Direction::Out), reads);
            assert!(!caller.may_channel(Action::Write, &names, None, Direction::In));
            assert!(!caller.may_channel(Action::Write, &names, Some(&tools), Direction::Out));
            let other = SessionNames { session: Some(SessionId::from_body("t")), others: vec!["chat-1".into()] };
            assert!(!caller.may_channel(Action::Write, &other, None, Direction::Out));
            for action in [Action::Read, Action::Write, Action::Admin, Action::Trigger] {
                assert!(!caller.may_session(action, &names) && !caller.may(action, &[Resource::all("sessions")]));
            }
            assert!(!caller.has_secret_key() && caller.run().is_none());
        }
    }

    #[test]
    fn a_run_that_stands_in_for_a_key_is_a_run_in_its_own_session() {
        let (own, other) = (SessionId::from_body("s"), SessionId::from_body("t"));
        let claim = RunClaim { run: RunId::from_body("r"), session: Some(own.clone()), version: 1, lease: 1 };
        let elsewhere = SessionNames { session: Some(other.clone()), others: vec![] };
        for (scopes, stands_in) in [(&["admin"][..], true), (&[], false)] {
            let mut run = token(scopes);
            run.credential = Credential::RunToken(claim.clone());
            assert_eq!(run.writer(&own), Writer::Run(&claim));
            assert_eq!(run.writer(&other) == Writer::Key, stands_in);
            assert_eq!((run.is_secret_for(&own), run.is_secret_for(&other)), (true, stands_in));
            assert!(run.may_session(Action::Write, &names("chat-1")));
            for (action, names) in [(Action::Admin, &names("chat-1")), (Action::Read, &elsewhere)] {
                assert_eq!(run.may_session(action, names), stands_in);
            }
            assert_eq!(run.may(Action::Trigger, &[Resource::task("chat")]), stands_in);
            assert_eq!(run.has_secret_key(), stands_in);
        }
    }

    #[test]
    fn a_key_grants_what_it_has() {
        let wanted = |s: &str| vec![Scope::parse(s).unwrap()];
        assert!(token(&["write:sessions"]).denied_of(&wanted("write:sessions:a")).is_empty());
        assert_eq!(token(&["write:sessions:a"]).denied_of(&wanted("write:sessions")), ["write:sessions"]);
        assert_eq!(token(&["read:all"]).denied_of(&wanted("admin")), ["admin"]);
    }
}
