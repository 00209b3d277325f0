//! Blobs: a session's snapshot, and packets. Opaque bytes with a content type.

use crate::principal::RunClaim;
use crate::text::has_control;
use crate::{EnvironmentId, Error, Result, SessionId, Timestamp, Violation};
use std::fmt;

/// Largest snapshot: a conversation of thousands of turns; a run reads it whole at every boot.
pub const SNAPSHOT_BYTES_MAX: u64 = 64 << 20;
/// Largest packet.
pub const PACKET_BYTES_MAX: u64 = 64 << 20;
/// Longest path of a packet.
pub const PACKET_PATH_CHARS_MAX: usize = 1_024;
/// Longest content type.
pub const CONTENT_TYPE_BYTES_MAX: usize = 255;
/// Life of a signed URL: 15 minutes. It is used right after it was made, and but for a run's ([`BlobGrant::run`]) nothing can take it
/// back earlier.
pub const URL_MS: u64 = 900_000;

/// The content type of a run's payload or output that lies in a packet; its text is the packet's path.
pub const STORED_TYPE: &str = "application/store";

/// The path of a packet, as its writer chose it. A name, never a path on a disk.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PacketPath(String);

impl PacketPath {
    /// Reads a path.
    pub fn parse(text: &str) -> Result<Self> {
        let problem = match text {
            "" => "is empty",
            t if t.chars().count() > PACKET_PATH_CHARS_MAX => "is longer than 1024 characters",
            t if has_control(t) => "holds control characters",
            t if t.split('/').any(|segment| segment == ".." || segment == ".") => "may not hold the segments . and ..",
            t => return Ok(Self(t.to_owned())),
        };
        Err(Violation::new("packet", problem).into())
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a blob is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum BlobKind {
    /// The snapshot of this session, whatever the session is called now.
    Snapshot(SessionId),
    /// A packet.
    Packet(PacketPath),
}

/// The name of a blob. Carries the environment: the same path in two environments is two packets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BlobKey {
    /// Tenant.
    pub environment: EnvironmentId,
    /// What.
    pub kind: BlobKind,
}

const SNAPSHOT: &str = "snapshot";
const PACKET: &str = "packet";

impl BlobKey {
    /// Most bytes a blob of this kind may have.
    pub fn bytes_max(&self) -> u64 {
        match self.kind {
            BlobKind::Snapshot(_) => SNAPSHOT_BYTES_MAX,
            BlobKind::Packet(_) => PACKET_BYTES_MAX,
        }
    }

    /// The session it belongs to, if it is a session's.
    pub fn session(&self) -> Option<&SessionId> {
        match &self.kind {
            BlobKind::Snapshot(session) => Some(session),
            BlobKind::Packet(_) => None,
        }
    }

    /// Reads what `Display` wrote.
    pub fn parse(text: &str) -> Result<Self> {
        let mut parts = text.splitn(3, '/');
        let (environment, kind, name) = (parts.next(), parts.next(), parts.next().unwrap_or_default());
        let kind = match kind {
            Some(SNAPSHOT) => BlobKind::Snapshot(SessionId::parse(name)?),
            Some(PACKET) => BlobKind::Packet(PacketPath::parse(name)?),
            _ => return Err(Violation::new("blob", "is no name of a blob").into()),
        };
        Ok(Self { environment: EnvironmentId::parse(environment.unwrap_or_default())?, kind })
    }
}

impl fmt::Display for BlobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            BlobKind::Snapshot(session) => write!(f, "{}/{SNAPSHOT}/{session}", self.environment),
            BlobKind::Packet(path) => write!(f, "{}/{PACKET}/{}", self.environment, path.as_str()),
        }
    }
}

/// A content type that can stand in a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentType(String);

impl ContentType {
    /// Reads one; nothing at all stands for plain bytes.
    pub fn parse(text: &str) -> Result<Self> {
        let problem = match text {
            "" => return Ok(Self("application/octet-stream".to_owned())),
            t if t.len() > CONTENT_TYPE_BYTES_MAX => "is longer than 255 bytes",
            t if !t.bytes().all(|b| matches!(b, b' '..=b'~')) => "may hold visible ASCII only",
            t => return Ok(Self(t.to_owned())),
        };
        Err(Violation::new("content_type", problem).into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a signed URL is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlobMethod {
    /// To store.
    Put,
    /// To fetch.
    Get,
}

/// What the holder of a signed URL may do, and until when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobGrant {
    /// What.
    pub method: BlobMethod,
    /// With which blob.
    pub key: BlobKey,
    /// The run it was given to, if it ends with that run's hold of its session: a run that was superseded replaces no snapshot.
    pub run: Option<RunClaim>,
    /// The end of it.
    pub expires_at: Timestamp,
}

impl BlobGrant {
    /// The grant, if it is one for this method.
    pub fn for_method(self, method: BlobMethod) -> Result<Self> {
        if self.method == method { Ok(self) } else { Err(Error::PermissionDenied) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(kind: BlobKind) -> BlobKey {
        BlobKey { environment: EnvironmentId::from_body("e"), kind }
    }

    #[test]
    fn packets_have_names_and_not_paths() {
        for good in ["a", "run_1/payload.json", "a//b", "/a", "a b:ü", "...", "a/..b", &"ü".repeat(1_024)] {
            let packet = BlobKind::Packet(PacketPath::parse(good).unwrap());
            assert_eq!(BlobKey::parse(&key(packet.clone()).to_string()).unwrap(), key(packet), "{good}");
        }
        for bad in ["", "..", "a/../b", "a/..", "./a", "a\0", "a\nb", "\u{7f}", &"ü".repeat(1_025)] {
            assert!(PacketPath::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn keys_read_back_and_nothing_else_does() {
        let snapshot = key(BlobKind::Snapshot(SessionId::from_body("s")));
        assert_eq!(snapshot.to_string(), "env_e/snapshot/session_s");
        assert_eq!(BlobKey::parse("env_e/snapshot/session_s").unwrap(), snapshot);
        for bad in ["", "env_e", "env_e/snapshot", "env_e/snapshot/s", "env_e/other/x", "e/packet/x", "env_e/packet/.."]
        {
            assert!(BlobKey::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn content_types_fit_into_headers() {
        assert_eq!(ContentType::parse("").unwrap().as_str(), "application/octet-stream");
        assert_eq!(ContentType::parse("text/plain; charset=utf-8").unwrap().as_str(), "text/plain; charset=utf-8");
        for bad in ["a\r\nb", "ü", "\u{7f}", &"x".repeat(256)] {
            assert!(ContentType::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_grant_is_for_one_method() {
        let key = key(BlobKind::Snapshot(SessionId::from_body("s")));
        let grant = BlobGrant { method: BlobMethod::Get, key, run: None, expires_at: Timestamp(1) };
        assert!(matches!(grant.clone().for_method(BlobMethod::Put), Err(Error::PermissionDenied)));
        assert_eq!(grant.clone().for_method(BlobMethod::Get).unwrap(), grant);
    }
}
