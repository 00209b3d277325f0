//! `continuo migrate`: the schema of the database.

use clap::Subcommand;

use super::output::{Output, note, spinner};
use super::server::SettingsArgs;
use crate::app::{self, Schema};

/// The schema of the database.
#[derive(Debug, Subcommand)]
pub(super) enum MigrateCommand {
    /// Bring the schema up to date. Servers of the release before go on meanwhile; of several that migrate at once, one does.
    Up(SettingsArgs),
    /// Say how the schema stands to this release: 0 if it is current, 1 if it is not.
    Status(SettingsArgs),
}

pub(super) async fn execute(command: MigrateCommand, output: Output) -> anyhow::Result<()> {
    match command {
        MigrateCommand::Up(settings) => {
            let config = settings.load_for_migration()?;
            let before = app::schema(&config).await?;
            let spinner = spinner("migrating");
            app::migrate_up(&config).await?;
            spinner.finish_and_clear();
            output.line(match before {
                Schema::Current => "the schema was up to date",
                _ => "the schema is up to date",
            })
        }
        MigrateCommand::Status(settings) => {
            let config = settings.load_for_migration()?;
            status(&app::schema(&config).await?, output)
        }
    }
}

fn status(schema: &Schema, output: Output) -> anyhow::Result<()> {
    let (names, wrong) = match schema {
        Schema::Current => return output.line("current"),
        Schema::Behind(missing) if missing.is_empty() => {
            anyhow::bail!("there is no schema yet: run `continuo migrate up`");
        }
        Schema::Behind(missing) => (missing, "the schema is behind this release: run `continuo migrate up`"),
        Schema::Ahead(unknown) => {
            (unknown, "the schema is ahead of this release: start the release that made it, or a newer one")
        }
    };
    names.iter().for_each(|name| note(name));
    anyhow::bail!("{wrong}")
}
