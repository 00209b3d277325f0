//! The keys of objects.

use continuo_domain::blob::{BlobKey, BlobKind};
use continuo_domain::{EnvironmentId, SessionId};
use sha2::{Digest, Sha256};

/// Builds keys below a prefix.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    /// Empty, or with a slash at its end.
    prefix: String,
}

impl Names {
    pub(crate) fn below(prefix: &str) -> Self {
        let prefix = prefix.trim_matches('/');
        Self { prefix: if prefix.is_empty() { String::new() } else { format!("{prefix}/") } }
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(crate) fn packets(&self) -> String {
        format!("{}packets/", self.prefix)
    }

    pub(crate) fn of(&self, key: &BlobKey) -> String {
        match &key.kind {
            BlobKind::Snapshot(session) => self.snapshot(&key.environment, session),
            BlobKind::Packet(_) => {
                let hash = Sha256::digest(key.to_string());
                hash.iter().fold(self.packets(), |name, byte| format!("{name}{byte:02x}"))
            }
        }
    }

    /// Ids hold letters, digits and `_` only.
    pub(crate) fn snapshot(&self, environment: &EnvironmentId, session: &SessionId) -> String {
        format!("{}snapshots/{environment}.{session}", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use continuo_domain::blob::PacketPath;

    #[test]
    fn names_lie_below_the_prefix_and_say_what_they_are() {
        let environment = EnvironmentId::from_body("e");
        let snapshot = BlobKind::Snapshot(SessionId::from_body("s"));
        let packet = BlobKind::Packet(PacketPath::parse(&"ü/".repeat(512)).unwrap());
        let name = |prefix: &str, kind: &BlobKind| {
            Names::below(prefix).of(&BlobKey { environment: environment.clone(), kind: kind.clone() })
        };
        assert_eq!(name("", &snapshot), "snapshots/env_e.session_s");
        assert_eq!(name("/a/b/", &snapshot), "a/b/snapshots/env_e.session_s");
        assert!(name("a", &packet).starts_with("a/packets/"));
        assert_eq!(name("a", &packet).len(), "a/packets/".len() + 64);
    }
}
