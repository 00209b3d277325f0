//! `continuo move`: from one machine into a cluster.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use clap::Args;
use indicatif::ProgressBar;

use super::output::{Output, progress_bar};
use super::server::SettingsArgs;
use crate::app::{self, MoveStep, Moved};
use crate::config::Mode;

/// Moves what an embedded data directory holds into the cluster of the settings.
#[derive(Debug, Args)]
pub(super) struct MoveArgs {
    /// The data directory that is moved. No server may run on it; afterwards none starts on it any more.
    #[arg(long, value_name = "DIRECTORY")]
    from: PathBuf,
    #[command(flatten)]
    settings: SettingsArgs,
}

pub(super) async fn execute(args: MoveArgs, output: Output) -> anyhow::Result<()> {
    let config = args.settings.load(Mode::Serve)?;
    let bar: Mutex<Option<(MoveStep, ProgressBar)>> = Mutex::default();
    let show = move |step: MoveStep, done: u64, total: u64| {
        let mut shown = bar.lock().unwrap_or_else(PoisonError::into_inner);
        if shown.as_ref().is_none_or(|(current, _)| *current != step) {
            let next = progress_bar(step_name(step), total);
            if let Some((_, last)) = shown.replace((step, next)) {
                last.finish();
            }
        }
        if let Some((_, bar)) = &*shown {
            bar.set_position(done);
        }
    };
    let Moved { channels, records, blobs, rows } = app::move_up(&config, &args.from, Arc::new(show)).await?;
    output.line(&format!(
        "moved {channels} channels with {records} records, {blobs} blobs and {rows} rows; no server starts on {} any more",
        args.from.display()
    ))
}

fn step_name(step: MoveStep) -> &'static str {
    match step {
        MoveStep::Records => "records",
        MoveStep::Blobs => "blobs",
        MoveStep::Rows => "rows",
    }
}
