//! The integration tests, in one binary that is linked once. (The contract suites in `contract/` are run by each adapter's own
//! crate.)

mod access;
mod architecture;
mod blobs;
mod create_by_token;
mod direct_writes;
mod gateway_alone;
mod legacy_names;
mod limits;
mod lists;
mod malformed;
mod named_channels;
mod one_port;
mod personal_token;
mod races;
mod readme;
mod refusals;
mod resume;
mod sessions;
mod settled;
mod shutdown;
mod streams;
mod support;
mod tls;
mod waits;
