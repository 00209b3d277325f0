//! Outcomes of claims, many at once.

use crate::Database;
use crate::convert::{claimed_channel, int};
use crate::entity::append_claim::{self, Column};
use crate::error::failed;
use continuo_domain::Result;
use continuo_ports::append_claims::Settled;
use futures_util::FutureExt;
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, Condition, DatabaseTransaction, DbBackend, EntityTrait, QueryFilter, Statement};
use serde_json::json;

/// One statement for any number of outcomes, so that it is prepared once. The rows are locked in the order of their key:
/// two that settle the same claims at the same moment wait for each other, and not in a circle.
const SETTLE: &str = r#"
WITH outcome AS MATERIALIZED (
    SELECT claim.session_id, claim.channel, claim.part_id, claim.mark, given.seq_num, given.timestamp_ms
    FROM jsonb_to_recordset($1) AS
        given(session_id text, channel text, part_id text, mark text, seq_num bigint, timestamp_ms bigint)
    JOIN append_claim AS claim USING (session_id, channel, part_id, mark)
    ORDER BY claim.session_id, claim.channel, claim.part_id
    FOR UPDATE OF claim
), gone AS (
    DELETE FROM append_claim AS claim USING outcome
    WHERE (claim.session_id, claim.channel, claim.part_id, claim.mark)
        = (outcome.session_id, outcome.channel, outcome.part_id, outcome.mark) AND claim.is_servers
)
UPDATE append_claim AS claim SET seq_num = outcome.seq_num, timestamp_ms = outcome.timestamp_ms FROM outcome
WHERE (claim.session_id, claim.channel, claim.part_id, claim.mark)
    = (outcome.session_id, outcome.channel, outcome.part_id, outcome.mark) AND NOT claim.is_servers
"#;

pub(crate) async fn settle(database: &Database, settled: Vec<Settled>) -> Result<()> {
    if settled.is_empty() {
        return Ok(());
    }
    if database.backend() == DbBackend::Sqlite {
        return database.write(move |tx| one_by_one(tx, settled).boxed()).await;
    }
    let outcomes = settled.iter().map(|settled| {
        json!({
            "session_id": settled.channel.session.as_str(),
            "channel": claimed_channel(settled.channel.name.as_ref(), settled.channel.direction),
            "part_id": settled.part_id.as_str(),
            "mark": settled.mark,
            "seq_num": int(settled.at.seq_num),
            "timestamp_ms": settled.at.timestamp.0,
        })
    });
    let outcomes = serde_json::Value::Array(outcomes.collect());
    let settle = Statement::from_sql_and_values(DbBackend::Postgres, SETTLE, [outcomes.into()]);
    database.write_repeatable(settle).await.map(drop)
}

async fn one_by_one(tx: &DatabaseTransaction, settled: Vec<Settled>) -> Result<()> {
    for Settled { channel, part_id, mark, at } in settled {
        let this = Condition::all()
            .add(Column::SessionId.eq(channel.session.as_str()))
            .add(Column::Channel.eq(claimed_channel(channel.name.as_ref(), channel.direction)))
            .add(Column::PartId.eq(part_id.as_str()))
            .add(Column::Mark.eq(mark));
        let servers = append_claim::Entity::delete_many().filter(this.clone()).filter(Column::IsServers.eq(true));
        servers.exec(tx).await.map_err(failed)?;
        let note = append_claim::Entity::update_many()
            .col_expr(Column::SeqNum, Expr::val(int(at.seq_num)))
            .col_expr(Column::TimestampMs, Expr::val(at.timestamp.0))
            .filter(this);
        note.exec(tx).await.map_err(failed)?;
    }
    Ok(())
}
