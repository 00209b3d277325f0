//! The command line: `--help` of each command is its manual.
//!
//! Answers go to stdout and can be piped; everything else goes to stderr. Exit codes: 0, 1 for an error, 2 for wrong usage or
//! settings.

mod client;
mod duration;
mod failure;
mod json;
mod keys;
mod migrate;
mod moving;
mod output;
mod queues;
mod replication;
mod server;
mod sessions;
#[cfg(test)]
mod tests;
mod tokens;
mod trust;
mod workers;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Command as Clap, CommandFactory, FromArgMatches, Parser, Subcommand};
use tokio::runtime::Runtime;

use self::output::Output;
use crate::config::Mode;

/// A server for durable sessions: one identifier, two channels, many runs.
#[derive(Debug, Parser)]
#[command(name = "continuo", version, propagate_version = true, max_term_width = 120)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start everything on this machine, with a demo agent; prints the key and the URL.
    Dev(server::ServerArgs),
    /// Start the server.
    Serve(server::ServerArgs),
    /// Start the HTTP gateway alone, in front of a server elsewhere.
    Gateway(server::GatewayArgs),
    /// Print which engine serves what, and the effective settings as TOML, secrets hidden.
    Config(server::ConfigArgs),
    /// Look at the schema of the database, or bring it up to date.
    #[command(subcommand)]
    Migrate(migrate::MigrateCommand),
    /// The copy of all sessions in ClickHouse: how it stands, and that it is right.
    #[command(subcommand)]
    Replication(replication::ReplicationCommand),
    /// Move an embedded data directory into a cluster: everything keeps its ids, numbers and times. One that was broken off
    /// goes on where it stopped.
    Move(moving::MoveArgs),
    /// Create, list, read, write and close sessions.
    #[command(subcommand)]
    Sessions(sessions::SessionsCommand),
    /// The workers that are connected, to whichever replica, newest first.
    Workers(workers::WorkersArgs),
    /// The queues with runs that are not over, those with the most pending runs first.
    Queues(queues::QueuesArgs),
    /// Environments and their keys; needs the admin key.
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Tokens for browsers and other services.
    #[command(subcommand)]
    Tokens(tokens::TokensCommand),
}

/// The program: does what the process's arguments say.
pub fn main() -> ExitCode {
    match Runtime::new() {
        Ok(runtime) => runtime.block_on(run(std::env::args_os())),
        Err(error) => failure::report(&anyhow::Error::from(error).context("cannot start the runtime")),
    }
}

/// Parses the arguments (the first is the program), does what they say, prints errors, and answers with the exit code.
pub async fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match command().try_get_matches_from(args).and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too. A reader that is gone is no reason to fail.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(failure::USAGE));
        }
    };
    let output = Output::new();
    match execute(cli.command, output).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure::report(&error),
    }
}

async fn execute(command: Command, output: Output) -> anyhow::Result<()> {
    match command {
        Command::Dev(args) => crate::app::dev(args.settings.load(Mode::Dev)?).await,
        Command::Serve(args) => crate::app::serve(args.settings.load(Mode::Serve)?).await,
        Command::Gateway(args) => {
            crate::app::gateway(args.settings.load(Mode::Serve)?, args.upstream, args.trust.read()?).await
        }
        Command::Config(args) => server::print_config(args, output),
        Command::Migrate(command) => migrate::execute(command, output).await,
        Command::Replication(command) => replication::execute(command, output).await,
        Command::Move(args) => moving::execute(args, output).await,
        Command::Sessions(command) => sessions::execute(command, output).await,
        Command::Workers(args) => workers::execute(args, output).await,
        Command::Queues(args) => queues::execute(args, output).await,
        Command::Keys(command) => keys::execute(command, output).await,
        Command::Tokens(command) => tokens::execute(command, output).await,
    }
}

/// The commands, with the defaults of the settings written into their help.
fn command() -> Clap {
    let serve = |command: Clap| server::with_defaults(command, Mode::Serve);
    Cli::command()
        .mut_subcommand("dev", |command| server::with_defaults(command, Mode::Dev))
        .mut_subcommand("serve", serve)
        .mut_subcommand("gateway", serve)
        .mut_subcommand("config", serve)
        .mut_subcommand("move", serve)
        .mut_subcommand("migrate", |command| command.mut_subcommands(serve))
        .mut_subcommand("replication", |command| command.mut_subcommands(serve))
}
