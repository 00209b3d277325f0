//! The integration tests, in one binary that is linked once. (The contract suites in `contract/` are run by each adapter's own
//! crate.)

mod architecture;
mod blobs;
mod gateway_alone;
mod one_port;
mod readme;
mod resume;
mod shutdown;
mod support;
