//! Channels: the durable logs of a session. The model of a record, its numbers, conditions and commands is S2's
//! (s2.dev, "streams and records"), so that an S2 stream can carry a channel unchanged.

use crate::claim::Claimed;
use crate::{Error, Result, SessionId, Timestamp, Violation, text};
use bytes::Bytes;
use std::fmt;

/// Metered size of the largest record: 8 + 2 per header + header names and values + body, in bytes. Inclusive.
pub const RECORD_METERED_BYTES_MAX: usize = 1_048_576;
/// Most records in one append.
pub const APPEND_RECORDS_MAX: usize = 1_000;
/// Most metered bytes in one append.
pub const APPEND_METERED_BYTES_MAX: usize = 1_048_576;
/// Most bytes of a fencing token.
pub const FENCING_TOKEN_BYTES_MAX: usize = 36;
/// Longest part id, in bytes.
pub const PART_ID_BYTES_MAX: usize = 1_024;
/// Longest channel name, in bytes.
pub const CHANNEL_NAME_BYTES_MAX: usize = 128;
/// The header name of a command record is empty; its value is this for a trim (body: 8-byte big-endian number).
pub const COMMAND_TRIM: &[u8] = b"trim";
/// As [`COMMAND_TRIM`], for setting the fencing token (body: the token).
pub const COMMAND_FENCE: &[u8] = b"fence";
/// First header of a control record; its value is the subtype.
pub const CONTROL_HEADER: &str = "trigger-control";
/// Control subtype that ends a turn.
pub const TURN_COMPLETE: &str = "turn-complete";

/// Number of a record within its channel: from 0, without gaps, never used twice.
pub type SeqNum = u64;

/// The side of a channel pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// Client to task.
    In,
    /// Task to client.
    Out,
}

impl Direction {
    /// As it stands in paths, scopes and keys.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }
}

/// Name of an extra channel pair: letters, digits, `.`, `_`, `-`; 1 to 128 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelName(String);

impl ChannelName {
    /// Reads a name.
    pub fn parse(text: &str) -> Result<Self> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let problem = match text.len() {
            0 => "is empty",
            n if n > CHANNEL_NAME_BYTES_MAX => "is longer than 128 bytes",
            _ if !text.bytes().all(allowed) => "may hold letters, digits, '.', '_' and '-' only",
            _ => return Ok(Self(text.to_owned())),
        };
        Err(Violation::new("channel", problem).into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Which log: a session's reserved pair (no name) or a named one, and the side. Keyed on the immutable session id, so
/// that both URL forms, and a session that changes its external id, reach the same records.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelKey {
    /// Whose.
    pub session: SessionId,
    /// `None` is the reserved pair.
    pub name: Option<ChannelName>,
    /// Which side.
    pub direction: Direction,
}

impl ChannelKey {
    /// The reserved channel of a session.
    pub fn reserved(session: SessionId, direction: Direction) -> Self {
        Self { session, name: None, direction }
    }

    /// Reads what `Display` writes.
    pub fn parse(text: &str) -> Result<Self> {
        let unknown = || Violation::new("channel", "is not the name of a channel's stream");
        let mut parts = text.split('/');
        let session = SessionId::parse(parts.next().unwrap_or_default())?;
        let (name, side) = match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(side), None, ..) => (None, side),
            (Some("channels"), Some(name), Some(side), None) => (Some(ChannelName::parse(name)?), side),
            _ => return Err(unknown().into()),
        };
        let direction = [Direction::In, Direction::Out].into_iter().find(|direction| direction.as_str() == side);
        Ok(Self { session, name, direction: direction.ok_or_else(unknown)? })
    }

    /// Does this belong to the unnamed pair?
    pub fn is_reserved(&self) -> bool {
        self.name.is_none()
    }
}

impl fmt::Display for ChannelKey {
    /// The stream's name in a store. Injective: session ids and channel names hold no `/`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            None => write!(f, "{}/{}", self.session, self.direction.as_str()),
            Some(name) => write!(f, "{}/channels/{}/{}", self.session, name.as_str(), self.direction.as_str()),
        }
    }
}

/// A header of a record. Bytes, as in S2; on JSON surfaces they are strings.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Header {
    /// Empty for the one header of a command record.
    pub name: Bytes,
    /// The value.
    pub value: Bytes,
}

impl Header {
    /// A header from texts.
    pub fn new(name: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self { name: name.into(), value: value.into() }
    }
}

/// A record as a writer hands it in.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct NewRecord {
    /// Headers, in order.
    pub headers: Vec<Header>,
    /// The body; opaque.
    pub body: Bytes,
}

impl NewRecord {
    /// A data record.
    pub fn data(body: impl Into<Bytes>) -> Self {
        Self { headers: Vec::new(), body: body.into() }
    }

    /// The command that sets the fencing token.
    pub fn fence(token: &FencingToken) -> Self {
        Self { headers: vec![Header::new("", COMMAND_FENCE)], body: Bytes::copy_from_slice(token.as_str().as_bytes()) }
    }

    /// The command that makes `before` the earliest readable number.
    pub fn trim(before: SeqNum) -> Self {
        Self { headers: vec![Header::new("", COMMAND_TRIM)], body: Bytes::copy_from_slice(&before.to_be_bytes()) }
    }

    /// What the record counts for: 8 + 2 per header + header bytes + body bytes.
    pub fn metered_bytes(&self) -> usize {
        metered_bytes(&self.headers, &self.body)
    }

    /// The command this record is, if it is one.
    pub fn command(&self) -> Result<Option<Command>> {
        Command::of(&self.headers, &self.body)
    }
}

/// A record as it is stored and read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its number.
    pub seq_num: SeqNum,
    /// When it arrived, milliseconds; never falls within a channel.
    pub timestamp: Timestamp,
    /// Headers, in order.
    pub headers: Vec<Header>,
    /// The body.
    pub body: Bytes,
}

impl Record {
    /// What the record counts for.
    pub fn metered_bytes(&self) -> usize {
        metered_bytes(&self.headers, &self.body)
    }

    /// Is this a trim, a fence or another record with the one empty header name?
    pub fn is_command(&self) -> bool {
        is_command(&self.headers)
    }

    /// The command, if it is a well-formed one.
    pub fn command(&self) -> Option<Command> {
        Command::of(&self.headers, &self.body).ok().flatten()
    }

    /// The subtype, if this is a control record.
    pub fn control(&self) -> Option<&str> {
        let first = self.headers.first().filter(|h| h.name == CONTROL_HEADER.as_bytes())?;
        std::str::from_utf8(&first.value).ok()
    }

    /// The value of a header, if there is one and it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|h| h.name == name.as_bytes())?;
        std::str::from_utf8(&found.value).ok()
    }

    /// Where it stands.
    pub fn position(&self) -> Position {
        Position { seq_num: self.seq_num, timestamp: self.timestamp }
    }
}

fn metered_bytes(headers: &[Header], body: &[u8]) -> usize {
    8 + headers.iter().map(|h| 2 + h.name.len() + h.value.len()).sum::<usize>() + body.len()
}

fn is_command(headers: &[Header]) -> bool {
    matches!(headers, [only] if only.name.is_empty())
}

/// What a command record does to its channel. It takes a number like any record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Readable from here on: `max(current, min(given, tail))`.
    Trim(SeqNum),
    /// From here on, appends that name a fencing token must name this one.
    Fence(FencingToken),
}

impl Command {
    fn of(headers: &[Header], body: &[u8]) -> Result<Option<Self>> {
        if headers.iter().any(|h| h.name.is_empty()) && !is_command(headers) {
            return Err(Violation::new(
                "records.headers",
                "only a command record has an empty header name, and then no other header",
            )
            .into());
        }
        if !is_command(headers) {
            return Ok(None);
        }
        match headers[0].value.as_ref() {
            COMMAND_TRIM => match <[u8; 8]>::try_from(body) {
                Ok(number) => Ok(Some(Self::Trim(u64::from_be_bytes(number)))),
                Err(_) => Err(Violation::new("records.body", "of a trim command must be 8 bytes, big-endian").into()),
            },
            COMMAND_FENCE => match std::str::from_utf8(body) {
                Ok(token) => Ok(Some(Self::Fence(FencingToken::parse(token)?))),
                Err(_) => Err(Violation::new("records.body", "of a fence command must be UTF-8").into()),
            },
            _ => Err(Violation::new("records.headers", "names an unknown command; there are trim and fence").into()),
        }
    }
}

/// Up to 36 bytes of text; a channel that was never fenced has the empty one.
#[derive(Clone, Debug, PartialEq, Eq, Default, Hash)]
pub struct FencingToken(String);

impl FencingToken {
    /// Reads a token.
    pub fn parse(text: &str) -> Result<Self> {
        if text.len() > FENCING_TOKEN_BYTES_MAX {
            return Err(Violation::new("fencing_token", "is longer than 36 bytes").into());
        }
        Ok(Self(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A token that says the same under another name: it shuts out appends that are still on their way under this one, and
    /// changes nothing of who owns the channel. `None` where the text would be too long.
    pub fn renewed(&self) -> Option<Self> {
        let (owner, renewal) = self.0.rsplit_once(RENEWAL).unwrap_or((&self.0, "0"));
        let next = renewal.parse::<u64>().ok()?.checked_add(1)?;
        Self::parse(&format!("{owner}{RENEWAL}{next}")).ok()
    }

    /// Do both name the same owner, however often either was renewed?
    pub fn says_the_same(&self, other: &Self) -> bool {
        let owner = |token: &Self| token.0.rsplit_once(RENEWAL).map_or(token.0.len(), |(owner, _)| owner.len());
        self.0[..owner(self)] == other.0[..owner(other)]
    }

    /// Was it made by `renewed`?
    pub fn is_renewed(&self) -> bool {
        self.0.contains(RENEWAL)
    }
}

/// Stands between what a token says and how often it was renewed.
const RENEWAL: char = '~';

/// Who owns a channel, as its fencing token says it: `<version>.<lease>`, with `.closed` once the session is closed, and
/// `~<n>` if it was renewed, which says nothing of the owner.
/// Ordered: a higher version wins, then a higher lease; closing is for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, PartialOrd, Ord)]
pub struct Fence {
    /// `current_run_version` of the session when the owner claimed it; 0 before the first claim.
    pub version: u64,
    /// The owner's execution snapshot; 0 is the claim itself.
    pub lease: u64,
    /// Brokered appends are over.
    pub closed: bool,
}

impl Fence {
    /// The token in a fence command.
    pub fn to_token(self) -> FencingToken {
        let closed = if self.closed { ".closed" } else { "" };
        match self {
            Self { version: 0, lease: 0, closed: false } => FencingToken::default(),
            Self { version, lease, .. } => FencingToken(format!("{version}.{lease}{closed}")),
        }
    }

    /// Reads a token. A token that is not ours counts as the lowest fence.
    pub fn of_token(token: &FencingToken) -> Self {
        Self::read(token.as_str()).unwrap_or_default()
    }

    fn read(text: &str) -> Option<Self> {
        let text = text.split_once(RENEWAL).map_or(text, |(owner, _)| owner);
        let (numbers, closed) = match text.strip_suffix(".closed") {
            Some(numbers) => (numbers, true),
            None => (text, false),
        };
        let (version, lease) = numbers.split_once('.')?;
        Some(Self { version: version.parse().ok()?, lease: lease.parse().ok()?, closed })
    }

    /// The fence after raising it to `version` and `lease`; `None` if it already stands there or higher.
    pub fn raised_to(self, version: u64, lease: u64) -> Option<Self> {
        ((version, lease) > (self.version, self.lease)).then_some(Self { version, lease, closed: self.closed })
    }
}

/// A part id: the writer's name for one record, for exactly-once appends. Lives as long as its record.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PartId(String);

impl PartId {
    /// What part ids of records begin with that the server writes by itself, so that no client's stands in their way.
    const SERVERS: [&str; 2] = ["close:", "server:"];

    /// Is it one that only the server gives?
    pub fn is_servers(&self) -> bool {
        Self::SERVERS.iter().any(|prefix| self.0.starts_with(prefix))
    }

    /// Reads a part id.
    pub fn parse(text: &str) -> Result<Self> {
        let problem = match text {
            "" => "is empty",
            t if t.len() > PART_ID_BYTES_MAX => "is longer than 1024 bytes",
            t if text::has_control(t) => "holds control characters",
            t => return Ok(Self(t.to_owned())),
        };
        Err(Violation::new("part_id", problem).into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One append: all of its records become durable and visible together, or none does.
#[derive(Clone, Debug, Default)]
pub struct Append {
    /// 1 to [`APPEND_RECORDS_MAX`] records.
    pub records: Vec<NewRecord>,
    /// Only if the first record would get this number.
    pub match_seq_num: Option<SeqNum>,
    /// Only if this is the fencing token in force. The empty token matches a channel that was never fenced.
    pub fencing_token: Option<FencingToken>,
    /// Exactly once: a repeat gets the first outcome. Only with a single record.
    pub part_id: Option<PartId>,
    /// The claim that was made for it already (`ChannelStore::claim`). Only stores that ask for claims look at it.
    pub claimed: Option<Box<Claimed>>,
}

impl Append {
    /// One record, no condition.
    pub fn one(record: NewRecord) -> Self {
        Self { records: vec![record], ..Self::default() }
    }

    /// Checks the limits; every store calls it before anything else.
    pub fn check(&self) -> Result<()> {
        if self.records.is_empty() {
            return Err(Violation::new("records", "is empty; an append has at least one record").into());
        }
        if self.records.len() > APPEND_RECORDS_MAX {
            return Err(Violation::new("records", "has more than 1000 records; split the append").into());
        }
        if self.part_id.is_some() && self.records.len() != 1 {
            return Err(Violation::new("part_id", "goes with exactly one record").into());
        }
        let mut total = 0;
        for record in &self.records {
            let metered_bytes = record.metered_bytes();
            if metered_bytes > RECORD_METERED_BYTES_MAX {
                return Err(Error::RecordTooLarge { metered_bytes, limit_bytes: RECORD_METERED_BYTES_MAX });
            }
            total += metered_bytes;
            record.command()?;
        }
        if total > APPEND_METERED_BYTES_MAX {
            return Err(Violation::new("records", "weigh more than 1 MiB together; split the append").into());
        }
        Ok(())
    }
}

/// A number and its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Position {
    /// The number.
    pub seq_num: SeqNum,
    /// Milliseconds.
    pub timestamp: Timestamp,
}

/// What an append did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// First record.
    pub start: Position,
    /// After the last record (exclusive); the timestamp is the last record's.
    pub end: Position,
    /// After the last record of the channel at the time of the answer.
    pub tail: Position,
    /// The part id was known: nothing was written now, `start` names the first outcome.
    pub repeated: bool,
    /// What is owed for this append until it was followed up (`ChannelStore::followed_up`).
    pub debt: Option<Debt>,
}

/// A debt, as the store that keeps it calls it within this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Debt(pub u64);

/// The end of a channel.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Tail {
    /// The next number to be given, and the last record's timestamp (0 if there never was one).
    pub position: Position,
    /// The first number that can be read; equal to the tail if nothing can.
    pub earliest_seq_num: SeqNum,
    /// The fencing token in force.
    pub fencing_token: FencingToken,
}

/// Where a read begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadStart {
    /// At this number.
    SeqNum(SeqNum),
    /// At the first record with this timestamp or a later one.
    Timestamp(Timestamp),
    /// So many records before the tail; 0 is the tail itself.
    TailOffset(u64),
}

/// How a read begins and how far it may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadFrom {
    /// Where.
    pub start: ReadStart,
    /// A start past the tail begins at the tail, instead of being refused.
    pub clamp: bool,
}

impl ReadFrom {
    /// From a number, clamped.
    pub fn seq_num(seq_num: SeqNum) -> Self {
        Self { start: ReadStart::SeqNum(seq_num), clamp: true }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_fence_reads_back(version in any::<u64>(), lease in any::<u64>(), closed in any::<bool>()) {
            let fence = Fence { version: version >> 16, lease: lease >> 32, closed };
            let token = fence.to_token();
            prop_assert!(token.as_str().len() <= FENCING_TOKEN_BYTES_MAX);
            prop_assert_eq!(Fence::of_token(&token), fence);
        }
    }

    #[test]
    fn a_renewed_token_says_the_same_and_is_another() {
        for text in ["", "3.5", "3.5.closed", "0.0.closed"] {
            let token = FencingToken::parse(text).unwrap();
            let mut last = token.clone();
            for _ in 0..12 {
                let next = last.renewed().unwrap();
                assert!(next != last && next != token && next.is_renewed() && !token.is_renewed());
                assert_eq!(Fence::of_token(&next), Fence::of_token(&token));
                assert!(next.says_the_same(&token) && token.says_the_same(&next) && next.says_the_same(&last));
                assert!(!next.says_the_same(&FencingToken::parse("3.6").unwrap()));
                last = next;
            }
            assert_eq!(last.as_str(), format!("{text}~12"));
        }
        assert_eq!(FencingToken::parse(&"x".repeat(36)).unwrap().renewed(), None);
    }

    #[test]
    fn a_fence_only_rises() {
        let fence = Fence { version: 3, lease: 5, closed: true };
        assert_eq!(fence.raised_to(3, 5), None);
        assert_eq!(fence.raised_to(2, 9), None);
        assert_eq!(fence.raised_to(4, 0), Some(Fence { version: 4, lease: 0, closed: true }));
    }

    #[test]
    fn the_record_limit_is_inclusive() {
        let body = |n: usize| Append::one(NewRecord::data(vec![b'x'; n - 8]));
        assert!(body(RECORD_METERED_BYTES_MAX).check().is_ok());
        assert!(matches!(
            body(RECORD_METERED_BYTES_MAX + 1).check(),
            Err(Error::RecordTooLarge { metered_bytes: 1_048_577, .. })
        ));
    }

    #[test]
    fn commands_are_read_strictly() {
        assert_eq!(NewRecord::trim(7).command().unwrap(), Some(Command::Trim(7)));
        let short = NewRecord { headers: vec![Header::new("", COMMAND_TRIM)], body: Bytes::from_static(b"7") };
        assert!(short.command().is_err());
        let unknown = NewRecord { headers: vec![Header::new("", "burn")], body: Bytes::new() };
        assert!(unknown.command().is_err());
    }

    #[test]
    fn channel_names_do_not_collide() {
        let key = |name: Option<&str>| ChannelKey {
            session: SessionId::from_body("a"),
            name: name.map(|n| ChannelName::parse(n).unwrap()),
            direction: Direction::In,
        };
        assert_ne!(key(None).to_string(), key(Some("in")).to_string());
        for name in [None, Some("in"), Some("channels"), Some("a.b_c-d")] {
            assert_eq!(ChannelKey::parse(&key(name).to_string()).unwrap(), key(name));
        }
        for text in
            ["", "session_a", "session_a/up", "session_a/in/in", "session_a/channels/in", "session_a/channels/x/in/y"]
        {
            assert!(ChannelKey::parse(text).is_err(), "{text}");
        }
        assert!(ChannelName::parse("a/b").is_err());
        assert!(ChannelName::parse(&"x".repeat(129)).is_err());
        assert!(ChannelName::parse(&"x".repeat(128)).is_ok());
    }
}
