//! Asking ClickHouse.

use crate::Options;
use clickhouse::error::Error as ClickHouseError;
use continuo_clickhouse::{ClickHouse, IndexSchema};
use continuo_domain::error::Cause;
use continuo_domain::{Error, Result, Violation};

/// The index, if its schema is one that this release can fill.
pub(crate) async fn open(options: &Options) -> Result<ClickHouse> {
    let clickhouse = ClickHouse::new(&options.clickhouse)?;
    let problem = match clickhouse.schema().await? {
        IndexSchema::Current => return Ok(clickhouse),
        IndexSchema::Behind(_) => "names a database whose schema is behind this release: run `continuo migrate up`",
        IndexSchema::Ahead(_) => {
            "names a database whose schema is ahead of this release: start the release that made it, or a newer one"
        }
    };
    Err(Violation::new("clickhouse.url", problem).into())
}

/// ClickHouse did not answer, or not as it should.
pub(crate) fn away(error: ClickHouseError) -> Error {
    Error::Unavailable(Cause::new(error))
}
