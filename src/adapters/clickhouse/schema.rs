//! The schema in ClickHouse, brought up to date and looked at.

use crate::ClickHouse;
use crate::error::failed;
use clickhouse::error::Error as ClickHouseError;
use continuo_domain::{Result, Violation};
use continuo_migrations::clickhouse::{CLICKHOUSE_LEDGER, CLICKHOUSE_MIGRATIONS};

/// How the schema stands to this release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IndexSchema {
    /// As it should be.
    Current,
    /// These steps have not run yet.
    Behind(Vec<String>),
    /// A newer release made it, with these steps.
    Ahead(Vec<String>),
}

impl IndexSchema {
    /// Has nothing ever been made here?
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Behind(missing) if missing.len() == CLICKHOUSE_MIGRATIONS.len())
    }
}

/// `UNKNOWN_TABLE` and `UNKNOWN_DATABASE`.
const NOT_THERE: [&str; 2] = ["Code: 60.", "Code: 81."];

/// `AUTHENTICATION_FAILED`.
const NOT_LET_IN: &str = "Code: 516.";

impl ClickHouse {
    /// Brings the schema up to date. Any number of processes may do so at once: every statement may run again.
    pub async fn migrate(&self) -> Result<()> {
        let missing = match self.schema().await? {
            IndexSchema::Behind(missing) => missing,
            IndexSchema::Current | IndexSchema::Ahead(_) => return Ok(()),
        };
        for statement in CLICKHOUSE_LEDGER {
            self.run(statement).await?;
        }
        for step in CLICKHOUSE_MIGRATIONS.iter().filter(|step| missing.iter().any(|name| name == step.name)) {
            for statement in step.statements {
                self.run(statement).await?;
            }
            let note = format!("INSERT INTO {} (name) VALUES (?)", self.table("schema_migrations"));
            self.client.query(&note).bind(step.name).execute().await.map_err(failed)?;
        }
        Ok(())
    }

    /// Looks at the schema and changes nothing. `InvalidArgument` where ClickHouse does not let the user of the URL in.
    pub async fn schema(&self) -> Result<IndexSchema> {
        let names = format!("SELECT DISTINCT name FROM {} ORDER BY name", self.table("schema_migrations"));
        let ran = match self.client.query(&names).fetch_all::<String>().await {
            Ok(ran) => ran,
            Err(ClickHouseError::BadResponse(text)) if NOT_THERE.iter().any(|code| text.starts_with(code)) => vec![],
            Err(ClickHouseError::BadResponse(text)) if text.starts_with(NOT_LET_IN) => {
                let problem = "names a user or a password that ClickHouse does not accept";
                return Err(Violation::new("clickhouse.url", problem).into());
            }
            Err(error) => return Err(failed(error)),
        };
        let known: Vec<_> = CLICKHOUSE_MIGRATIONS.iter().map(|step| step.name.to_owned()).collect();
        let without = |all: &[String], some: &[String]| -> Vec<String> {
            all.iter().filter(|name| !some.contains(name)).cloned().collect()
        };
        let (missing, unknown) = (without(&known, &ran), without(&ran, &known));
        Ok(match (missing.is_empty(), unknown.is_empty()) {
            (_, false) => IndexSchema::Ahead(unknown),
            (false, true) => IndexSchema::Behind(missing),
            (true, true) => IndexSchema::Current,
        })
    }

    async fn run(&self, statement: &str) -> Result<()> {
        let statement = statement.replace("{database}", &self.quoted_database());
        // Raw: a question mark in it stands for itself.
        self.client.query_raw(&statement).execute().await.map_err(failed)
    }
}
