//! Nouns and rules of Continuo. Nothing here waits, reads a clock or touches the outside: the time is an argument.
#![warn(missing_docs)]

pub mod blob;
pub mod channel;
pub mod claim;
pub mod error;
pub mod id;
pub mod index_position;
pub mod json;
pub mod principal;
pub mod run;
pub mod session;
pub mod text;
pub mod time;
pub mod waitpoint;

pub use error::{Error, Reason, Result, Violation};
pub use id::{EnvironmentId, RunId, SessionId, WaitpointId};
pub use index_position::IndexPosition;
pub use time::Timestamp;
