//! What the use cases need from the outside. Each trait says what it promises; the contract suites in `tests/it/contract`
//! hold every adapter to it, and a change to a trait without a change to its suite is not finished.
#![warn(missing_docs)]

pub mod append_claims;
pub mod blob_store;
pub mod channel_store;
pub mod clock;
pub mod environments;
pub mod hints;
pub mod indexed_rows;
pub mod key_ring;
pub mod leases;
pub mod run_store;
pub mod session_index;
pub mod session_store;
pub mod tokens;
pub mod url_signer;
pub mod waitpoint_registry;
pub mod worker_store;

pub use append_claims::AppendClaims;
pub use blob_store::{Blob, BlobBody, BlobStore, HeldBlob};
pub use channel_store::{ChannelStore, OwedAppend, ReadEvent, WrittenChannel, WrittenPage};
pub use clock::{Clock, Ids};
pub use environments::Environments;
pub use hints::{Hint, Hints};
pub use indexed_rows::IndexedRows;
pub use key_ring::KeyRing;
pub use leases::Leases;
pub use run_store::RunStore;
pub use session_index::SessionIndex;
pub use session_store::SessionStore;
pub use tokens::Tokens;
pub use url_signer::UrlSigner;
pub use waitpoint_registry::WaitpointRegistry;
pub use worker_store::WorkerStore;
