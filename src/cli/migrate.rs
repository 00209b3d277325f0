//! `continuo migrate`: the schema of the database, and of ClickHouse beside it.

use clap::Subcommand;

use super::output::{Output, note, spinner};
use super::server::SettingsArgs;
use crate::app::{self, ListIndex, Schema, Schemas};

/// The schema of the database, and of ClickHouse where it serves lists.
#[derive(Debug, Subcommand)]
pub(super) enum MigrateCommand {
    /// Bring the schema up to date, in ClickHouse too where its URL is given. Servers of the release before go on meanwhile; of
    /// several that migrate at once, one does. Drops the database's index for lists once ClickHouse has a whole copy, and makes
    /// it again where lists come from the database.
    Up(SettingsArgs),
    /// Say how the schema stands to this release: 0 if it is current, 1 if it is not.
    Status(SettingsArgs),
}

pub(super) async fn execute(command: MigrateCommand, output: Output) -> anyhow::Result<()> {
    match command {
        MigrateCommand::Up(settings) => {
            let config = settings.load_for_migration()?;
            let before = app::schemas(&config).await?;
            let spinner = spinner("migrating");
            let migrated = app::migrate_up(&config).await;
            spinner.finish_and_clear();
            let migrated = migrated?;
            let was_current =
                before.database == Schema::Current && before.clickhouse.is_none_or(|s| s == Schema::Current);
            output.line(if was_current { "the schema was up to date" } else { "the schema is up to date" })?;
            match migrated.list_index {
                Some(ListIndex::There) => output.line("the database has its index for lists again"),
                Some(ListIndex::Gone) => {
                    output.line("the database's index for lists is dropped: ClickHouse serves them")
                }
                None => Ok(()),
            }
        }
        MigrateCommand::Status(settings) => status(&app::schemas(&settings.load_for_migration()?).await?, output),
    }
}

fn status(schemas: &Schemas, output: Output) -> anyhow::Result<()> {
    refuse_unless_current(&schemas.database, "the schema", "there is no schema yet")?;
    output.line("current")?;
    if let Some(schema) = &schemas.clickhouse {
        refuse_unless_current(schema, "the schema in ClickHouse", "there is no schema in ClickHouse yet")?;
        output.line("ClickHouse: current")?;
    }
    let is_copied = match schemas.list_index {
        Some((ListIndex::Gone, ListIndex::There)) => {
            anyhow::bail!("lists come from the database, which has no index for them: run `continuo migrate up`")
        }
        Some((_, ListIndex::There)) | None => false,
        Some((_, ListIndex::Gone)) => true,
    };
    match schemas.list_index {
        _ if schemas.clickhouse.is_none() => Ok(()),
        Some((ListIndex::There, _)) if is_copied => output.line(
            "lists: from ClickHouse; the database's index for them is not needed any more: `continuo migrate up` drops it",
        ),
        _ if is_copied => output.line("lists: from ClickHouse"),
        _ => output.line("lists: from the database, until ClickHouse has a whole copy"),
    }
}

fn refuse_unless_current(schema: &Schema, what: &str, nothing: &str) -> anyhow::Result<()> {
    let (names, wrong) = match schema {
        Schema::Current => return Ok(()),
        Schema::Behind(missing) if missing.is_empty() => anyhow::bail!("{nothing}: run `continuo migrate up`"),
        Schema::Behind(missing) => (missing, format!("{what} is behind this release: run `continuo migrate up`")),
        Schema::Ahead(unknown) => {
            (unknown, format!("{what} is ahead of this release: start the release that made it, or a newer one"))
        }
    };
    names.iter().for_each(|name| note(name));
    anyhow::bail!("{wrong}")
}
