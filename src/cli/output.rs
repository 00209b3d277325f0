//! What a command prints.

use std::io::{IsTerminal, Write, stderr, stdout};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

/// Stdout. A reader that went away (`| head`) ends the command without an error, see `failure`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Output(());

impl Output {
    pub(super) fn new() -> Self {
        Self(())
    }

    pub(super) fn line(self, text: &str) -> anyhow::Result<()> {
        Ok(writeln!(stdout().lock(), "{text}")?)
    }

    /// A part of a line, seen at once.
    pub(super) fn part(self, text: &str) -> anyhow::Result<()> {
        let mut stdout = stdout().lock();
        stdout.write_all(text.as_bytes())?;
        Ok(stdout.flush()?)
    }

    /// One JSON value on one line.
    pub(super) fn json(self, value: &Value) -> anyhow::Result<()> {
        self.line(&value.to_string())
    }

    /// Names and values, one pair per line; pairs without a value are left out.
    pub(super) fn pairs<'a>(self, pairs: impl IntoIterator<Item = (&'a str, Option<String>)>) -> anyhow::Result<()> {
        for (name, value) in pairs {
            if let Some(value) = value {
                self.line(&format!("{name:<14} {value}"))?;
            }
        }
        Ok(())
    }

    /// Rows under a header, each column as wide as its widest cell.
    pub(super) fn table<const N: usize>(self, header: [&str; N], rows: Vec<[String; N]>) -> anyhow::Result<()> {
        let mut widths = header.map(str::len);
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let header = header.map(str::to_owned);
        for row in std::iter::once(&header).chain(&rows) {
            let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
            self.line(cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }
}

/// On a terminal's stderr, how much of something is done; nothing elsewhere.
pub(super) fn progress_bar(message: &'static str, total: u64) -> ProgressBar {
    if !stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(total).with_message(message);
    if let Ok(style) = ProgressStyle::with_template("{msg:8} {wide_bar} {human_pos}/{human_len} {eta}") {
        bar.set_style(style);
    }
    bar
}

/// A sign on a terminal's stderr that something takes its time; nothing elsewhere.
pub(super) fn spinner(message: &'static str) -> ProgressBar {
    if !stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let spinner = ProgressBar::new_spinner().with_message(message);
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
        spinner.set_style(style);
    }
    spinner.enable_steady_tick(Duration::from_millis(120));
    spinner
}

/// A remark for whoever watches.
pub(super) fn note(text: &str) {
    let _ = writeln!(stderr().lock(), "{text}");
}
