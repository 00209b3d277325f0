//! Hints as notifications. A payload is the sender, a space and the hint's text.

use crate::session::Session;
use async_trait::async_trait;
use continuo_ports::{Hint, Hints};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use std::future::pending;
use std::sync::Arc;
use tokio::sync::broadcast::error::RecvError;
use tokio_postgres::types::Type;
use tracing::debug;

/// What Postgres takes as a payload is below this.
const PAYLOAD_BYTES: usize = 8_000;

pub(crate) struct PostgresNotify {
    session: Arc<Session>,
}

impl PostgresNotify {
    pub(crate) fn new(session: Arc<Session>) -> Self {
        Self { session }
    }

    async fn notify(&self, payloads: &[String]) -> continuo_domain::Result<()> {
        let up = self.session.up().await?;
        let channel = self.session.channel();
        // One statement and one commit for all of them: commits that notify queue behind each other.
        let sql = "SELECT pg_notify($1, payload) FROM unnest($2) AS payload";
        let params: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
            [(&channel, Type::TEXT), (&payloads, Type::TEXT_ARRAY)];
        self.session.call(&up, up.client.query_typed(sql, &params)).await.map(drop)
    }
}

#[async_trait]
impl Hints for PostgresNotify {
    async fn send(&self, hints: Vec<Hint>) {
        let payload = |hint: &Hint| format!("{} {}", self.session.replica(), hint.to_text());
        // One that does not fit, or that holds what a text of Postgres cannot, must not take the others with it.
        let is_fit = |payload: &String| payload.len() < PAYLOAD_BYTES && !payload.contains('\0');
        let payloads: Vec<_> = hints.iter().map(payload).filter(is_fit).collect();
        if payloads.is_empty() {
            return;
        }
        if let Err(error) = self.notify(&payloads).await {
            debug!(count = payloads.len(), cause = ?error.cause(), "hints are dropped");
        }
    }

    fn receive(&self) -> BoxStream<'static, Option<Hint>> {
        let (heard, is_up) = self.session.listen();
        // The session stays with the stream: who listens wants the connection kept.
        let later = stream::unfold((heard, self.session.clone()), |(mut heard, session)| async move {
            let next = match heard.recv().await {
                Ok(next) => next,
                Err(RecvError::Lagged(_)) => None,
                Err(RecvError::Closed) => pending().await,
            };
            Some((next, (heard, session)))
        });
        let first = is_up.then_some(None);
        stream::iter(first).chain(later).boxed()
    }
}
