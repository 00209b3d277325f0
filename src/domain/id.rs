//! Identifiers. Each is a prefix and a body that sorts by the time of its making.

use crate::{Error, Violation};
use std::fmt;

/// Longest identifier accepted from outside, in bytes. Ours are shorter; the room is for ids moved in from elsewhere.
pub const ID_BYTES_MAX: usize = 64;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $field:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// What every identifier of this kind starts with.
            pub const PREFIX: &'static str = $prefix;

            /// An identifier from a freshly made body.
            pub fn from_body(body: &str) -> Self {
                Self(format!("{}{body}", $prefix))
            }

            /// The whole identifier, prefix included.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Reads an identifier as it stands in a request, a token or a row.
            pub fn parse(text: &str) -> Result<Self, Error> {
                let problem = match text.strip_prefix($prefix) {
                    None => concat!("must start with ", $prefix),
                    Some("") => concat!("has nothing after ", $prefix),
                    Some(_) if text.len() > ID_BYTES_MAX => "is longer than 64 bytes",
                    Some(body) if !body.bytes().all(|b| b.is_ascii_alphanumeric()) => "may hold letters and digits only",
                    Some(_) => return Ok(Self(text.to_owned())),
                };
                Err(Violation::new($field, problem).into())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(
    /// A session's one immutable identifier, public and stored. Channels are keyed on it.
    SessionId, "session_", "session"
);
id!(
    /// One execution of a task.
    RunId, "run_", "run"
);
id!(
    /// Something a run can wait for.
    WaitpointId, "waitpoint_", "waitpoint"
);
id!(
    /// The tenant boundary: every session, run, waitpoint and channel belongs to exactly one.
    EnvironmentId, "env_", "environment"
);
id!(
    /// A project, which holds environments.
    ProjectId, "proj_", "project"
);
id!(
    /// An organization, which holds projects.
    OrganizationId, "org_", "organization"
);
id!(
    /// An additional API key (not the environment's root key).
    ApiKeyId, "key_", "api_key"
);
