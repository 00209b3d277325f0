//! The claims of the product on SQLite, with a session's row for whatever session a test makes up.

use async_trait::async_trait;
use continuo_database::{Database, SqlStore};
use continuo_domain::channel::{ChannelKey, PartId};
use continuo_domain::claim::{Claim, Claimed, NewClaim};
use continuo_domain::id::{OrganizationId, ProjectId};
use continuo_domain::session::{EnvironmentType, Json, NewSession, Tenant, TriggerConfig};
use continuo_domain::{EnvironmentId, Result, SessionId, Timestamp};
use continuo_ports::append_claims::Settled;
use continuo_ports::{AppendClaims, SessionStore};
use parking_lot::Mutex;
use std::collections::HashSet;
use std::path::Path;
use tokio::sync::oneshot;

pub(super) struct Rows {
    pub(super) store: SqlStore,
    basin: String,
    made: Mutex<HashSet<SessionId>>,
    gate: Mutex<Option<Gate>>,
}

/// Stops one caller.
struct Gate {
    reached: oneshot::Sender<()>,
    opened: oneshot::Receiver<()>,
}

impl Rows {
    pub(super) async fn open(dir: &Path, basin: String) -> Self {
        let database = Database::open(dir.join("claims.sqlite")).await.unwrap();
        Self { store: SqlStore::new(database), basin, made: Mutex::default(), gate: Mutex::default() }
    }

    /// The next taking over stops before it: `reached` tells that it is there, `open` lets it go on.
    pub(super) fn stop_next_take_over(&self) -> (oneshot::Receiver<()>, oneshot::Sender<()>) {
        let ((reached, is_reached), (open, opened)) = (oneshot::channel(), oneshot::channel());
        *self.gate.lock() = Some(Gate { reached, opened });
        (is_reached, open)
    }

    async fn ensure(&self, session: &SessionId) -> Result<()> {
        if self.made.lock().contains(session) {
            return Ok(());
        }
        let tenant = Tenant {
            organization: OrganizationId::from_body("o"),
            project: ProjectId::from_body("p"),
            environment: EnvironmentId::from_body("e"),
            environment_type: EnvironmentType::Development,
        };
        let new = NewSession {
            id: session.clone(),
            external_id: None,
            session_type: "test".into(),
            task_identifier: "test".into(),
            tenant,
            trigger_config: TriggerConfig::new(Json::trusted("{}".into())),
            tags: vec![],
            metadata: None,
            is_test: true,
            expires_at: None,
            basin: Some(self.basin.clone()),
        };
        // Several ask at once, and one makes it.
        let made = self.store.upsert(new, Timestamp(1)).await;
        if self.store.basin(session).await?.is_none() {
            made?;
        }
        self.made.lock().insert(session.clone());
        Ok(())
    }
}

#[async_trait]
impl AppendClaims for Rows {
    async fn claim(&self, session: &SessionId, claim: NewClaim) -> Result<Claimed> {
        self.ensure(session).await?;
        self.store.claim(session, claim).await
    }

    async fn claim_of(&self, channel: &ChannelKey, part_id: &PartId) -> Result<Option<Claim>> {
        self.store.claim_of(channel, part_id).await
    }

    async fn take_over(&self, old: &Claim, new: NewClaim) -> Result<bool> {
        let gate = self.gate.lock().take();
        if let Some(Gate { reached, opened }) = gate {
            reached.send(()).unwrap();
            opened.await.unwrap();
        }
        self.store.take_over(old, new).await
    }

    async fn settle(&self, settled: Vec<Settled>) -> Result<()> {
        self.store.settle(settled).await
    }

    async fn release(&self, channel: &ChannelKey, part_id: &PartId, mark: &str) -> Result<()> {
        self.store.release(channel, part_id, mark).await
    }

    async fn unsettled(&self, before: Timestamp, limit: u32) -> Result<Vec<Claim>> {
        self.store.unsettled(before, limit).await
    }

    async fn forget(&self, session: &SessionId) -> Result<()> {
        self.store.forget(session).await
    }

    async fn basin(&self, session: &SessionId) -> Result<Option<String>> {
        self.ensure(session).await?;
        self.store.basin(session).await
    }
}
