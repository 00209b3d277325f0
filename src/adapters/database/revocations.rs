//! What was revoked since a moment: one statement, each part of it a range of an index.

use continuo_domain::id::ApiKeyId;
use continuo_domain::{EnvironmentId, Error, Result, SessionId, Timestamp};
use continuo_ports::environments::{Revocation, Revoked};
use sea_orm::{DbBackend, FromQueryResult, Statement};

const REVOCATIONS: &str = "
SELECT 'tokens' AS what, id AS environment_id, '' AS subject, tokens_not_before_ms AS at_ms
  FROM environment WHERE tokens_not_before_ms >= $1
UNION ALL SELECT 'session', environment_id, id, tokens_not_before_ms FROM session WHERE tokens_not_before_ms >= $1
UNION ALL SELECT 'key', environment_id, id, revoked_at_ms FROM api_key WHERE revoked_at_ms >= $1
UNION ALL SELECT 'root', environment_id, '', valid_until_ms FROM rotated_key
  WHERE valid_until_ms >= $1 AND valid_until_ms <= $2";

pub(crate) fn select(backend: DbBackend, since: Timestamp, now: Timestamp) -> Statement {
    Statement::from_sql_and_values(backend, REVOCATIONS, [since.0.into(), now.0.into()])
}

#[derive(FromQueryResult)]
pub(crate) struct Row {
    what: String,
    environment_id: String,
    subject: String,
    at_ms: i64,
}

impl Row {
    pub(crate) fn read(self) -> Result<Revocation> {
        let what = match self.what.as_str() {
            "session" => Revoked::Tokens(Some(SessionId::parse(&self.subject).map_err(Error::internal)?)),
            "key" => Revoked::Key(ApiKeyId::parse(&self.subject).map_err(Error::internal)?),
            "root" => Revoked::RootKey,
            _ => Revoked::Tokens(None),
        };
        let environment = EnvironmentId::parse(&self.environment_id).map_err(Error::internal)?;
        Ok(Revocation { environment, what, at: Timestamp(self.at_ms) })
    }
}
