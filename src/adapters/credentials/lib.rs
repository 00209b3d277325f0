//! Who a bearer is: environment keys, public, run, stream and waitpoint tokens; and the secrets at rest behind them.
//!
//! Two secrets carry everything. The *master key* belongs to the server: it encrypts the root keys in the database and
//! signs the server's own tokens. A *root key* belongs to an environment: it authenticates, and is the HMAC secret of the
//! public tokens that clients sign without asking us, which is why it must be recoverable and not only hashed.
#![warn(missing_docs)]

mod cache;
mod hs256;
pub mod jwt;
mod key_ring;
pub mod keys;
mod known_keys;
mod master_key;
mod random;
pub mod run_token;
pub mod sdk_run_token;
mod signed;
pub mod stream_token;
mod tokens;
pub mod url_token;
pub mod waitpoint_token;

pub use master_key::MasterKey;
pub use tokens::Credentials;
