//! Channels as S2 streams.
#![warn(missing_docs)]
