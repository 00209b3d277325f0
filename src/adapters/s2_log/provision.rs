//! Streams and basins come into being with their first use.

use crate::refusal::{self, is_missing, unavailable};
use crate::stream::Stream;
use continuo_domain::Result;
use continuo_domain::channel::FencingToken;
use s2_sdk::error::ErrorCode;
use s2_sdk::types::{
    BasinConfig, CreateBasinInput, CreateStreamInput, RetentionPolicy, StreamConfig, TimestampingConfig,
    TimestampingMode,
};
use std::time::Duration;
use tokio::time::{Instant, sleep};

const CREATE_PAUSE_MAX: Duration = Duration::from_millis(200);

impl Stream {
    /// Makes the stream, and its basin. One that is being deleted is waited for, as long as a request may take.
    pub(crate) async fn create(&self) -> Result<()> {
        let _one = self.creating.lock().await;
        let until = Instant::now() + self.common.timeout;
        let mut pause = Duration::from_millis(5);
        loop {
            let basin = self.common.s2.basin(self.basin.clone());
            let stream = CreateStreamInput::new(self.name.clone()).with_config(config());
            let error = match basin.create_stream(stream).await {
                Ok(_) => {
                    self.known.lock().learn(FencingToken::default(), self.common.tick());
                    return Ok(());
                }
                Err(error) if refusal::code(&error) == Some(ErrorCode::ResourceAlreadyExists) => return Ok(()),
                Err(error) => error,
            };
            if refusal::code(&error) == Some(ErrorCode::BasinNotFound) {
                self.create_basin().await?;
            }
            let is_pending = is_missing(&error) || refusal::code(&error) == Some(ErrorCode::TransactionConflict);
            if !is_pending || Instant::now() >= until {
                return Err(unavailable(error));
            }
            sleep(pause).await;
            pause = (pause * 2).min(CREATE_PAUSE_MAX);
        }
    }

    async fn create_basin(&self) -> Result<()> {
        // Streams are made explicitly, never by a reader or writer who mistook the name.
        let config = BasinConfig::new()
            .with_default_stream_config(config())
            .with_create_stream_on_append(false)
            .with_create_stream_on_read(false);
        let made = self.common.s2.create_basin(CreateBasinInput::new(self.basin.clone()).with_config(config)).await;
        let goes_on = |code| {
            matches!(
                code,
                Some(
                    ErrorCode::ResourceAlreadyExists | ErrorCode::BasinDeletionPending | ErrorCode::TransactionConflict
                )
            )
        };
        match made {
            Ok(_) => Ok(()),
            Err(error) if goes_on(refusal::code(&error)) => Ok(()),
            Err(error) => Err(unavailable(error)),
        }
    }
}

/// Records stay until they are trimmed. A writer may give times, which `continuo move` does for records that it brings along;
/// appends give none, and have the time of their arrival.
fn config() -> StreamConfig {
    StreamConfig::new()
        .with_retention_policy(RetentionPolicy::Infinite)
        .with_timestamping(TimestampingConfig::new().with_mode(TimestampingMode::ClientPrefer))
}
