//! How the log is opened.

use continuo_domain::{Error, Result, Violation};
use s2_sdk::types::{AppendRetryPolicy, RetryConfig, S2Config, S2Endpoints};
use std::time::Duration;

/// Longest part of a basin's name that an operator chooses, in bytes.
pub const BASIN_PREFIX_BYTES_MAX: usize = 20;
/// How long one request to S2 may take.
pub const APPEND_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);
/// How long followers bridge an S2 that does not answer.
pub const OUTAGE_DEFAULT: Duration = Duration::from_secs(15);
/// How long a repeat waits for the first writer of its part id, while that may still be on its way.
pub const REPEAT_PATIENCE_DEFAULT: Duration = Duration::from_secs(2);

/// Where S2 is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// The service.
    Cloud,
    /// One address for everything, as `s2-lite` has it: `http://host:port`.
    Url(String),
}

/// How the log is opened. Prints nothing of the access token.
#[derive(Clone)]
pub struct Options {
    /// Where S2 is.
    pub endpoint: Endpoint,
    /// The token that S2 asks for; `s2-lite` asks for none.
    pub access_token: Option<String>,
    /// What the names of all basins of this deployment begin with: lower-case letters, digits and inner hyphens, 1 to
    /// [`BASIN_PREFIX_BYTES_MAX`] bytes.
    pub basin_prefix: String,
    /// How long one request to S2 may take. An append that is in doubt takes a few times as long.
    pub append_timeout: Duration,
    /// How long followers bridge an S2 that does not answer, before they end with `Unavailable`.
    pub outage: Duration,
    /// How long a repeat waits for the first writer of its part id, before it shuts that one out by a fence.
    pub repeat_patience: Duration,
}

impl Options {
    /// The defaults for an endpoint.
    pub fn new(endpoint: Endpoint, basin_prefix: impl Into<String>) -> Self {
        Self {
            endpoint,
            access_token: None,
            basin_prefix: basin_prefix.into(),
            append_timeout: APPEND_TIMEOUT_DEFAULT,
            outage: OUTAGE_DEFAULT,
            repeat_patience: REPEAT_PATIENCE_DEFAULT,
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let problem = match self.basin_prefix.as_str() {
            "" => "is empty",
            p if p.len() > BASIN_PREFIX_BYTES_MAX => "is longer than 20 bytes",
            p if !p.bytes().all(allowed) => "may hold lower-case letters, digits and hyphens only",
            p if p.starts_with('-') || p.ends_with('-') => "may not begin or end with a hyphen",
            _ => return Ok(()),
        };
        Err(Violation::new("s2.basin_prefix", problem).into())
    }

    /// Appends are tried again only where nothing can have happened; what else there is to try is decided by the protocol.
    pub(crate) fn config(&self) -> Result<S2Config> {
        let endpoints = match &self.endpoint {
            Endpoint::Cloud => S2Endpoints::for_cloud(),
            Endpoint::Url(url) => S2Endpoints::for_endpoint(url)
                .map_err(|_| Violation::new("s2.endpoint", "must be a URL such as http://127.0.0.1:8080"))?,
        };
        let retry = RetryConfig::new()
            .with_append_retry_policy(AppendRetryPolicy::NoSideEffects)
            .with_min_base_delay(Duration::from_millis(50))
            .with_max_base_delay(Duration::from_millis(500));
        // A header must hold something, also where nobody reads it.
        let token = self.access_token.as_deref().unwrap_or("none");
        if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Error::from(Violation::new("s2.access_token", "must be visible ASCII without blanks")));
        }
        Ok(S2Config::new(token)
            .with_endpoints(endpoints)
            .with_request_timeout(self.append_timeout)
            .with_connection_timeout(self.append_timeout.min(Duration::from_secs(3)))
            .with_retry(retry))
    }
}
