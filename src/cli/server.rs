//! Commands that start something, and the one that prints with what settings.

use std::path::PathBuf;

use clap::{Args, Command, ValueEnum};

use super::output::Output;
use super::trust::Trust;
use crate::config::{Config, ConfigError, Layer, Mode, not_empty_path};

/// Settings of a server. A flag wins over its environment variable, that one over the file, and the file over the default.
#[derive(Debug, Args)]
pub(super) struct SettingsArgs {
    /// TOML file with settings; keys as `continuo config` prints them.
    #[arg(long, env = "CONTINUO_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    layer: Layer,
}

impl SettingsArgs {
    pub(super) fn load(self, mode: Mode) -> Result<Config, ConfigError> {
        Config::load(mode, self.layer.or_aliases(variable)?, not_empty_path(self.config).as_deref())
    }

    /// For what needs the database and ClickHouse only: whoever migrates need not know the keys.
    pub(super) fn load_for_migration(self) -> Result<Config, ConfigError> {
        let layer = self.layer.or_aliases(variable)?;
        let config = Config::layered(Mode::Serve, layer, not_empty_path(self.config).as_deref())?;
        config.check_schemas()?;
        Ok(config)
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[derive(Debug, Args)]
pub(super) struct ServerArgs {
    #[command(flatten)]
    pub(super) settings: SettingsArgs,
}

#[derive(Debug, Args)]
pub(super) struct GatewayArgs {
    /// The server's gRPC address, for example http://10.0.0.7:8080; https as well.
    #[arg(long, env = "CONTINUO_UPSTREAM", value_name = "URL")]
    pub(super) upstream: String,
    #[command(flatten)]
    pub(super) trust: Trust,
    #[command(flatten)]
    pub(super) settings: SettingsArgs,
}

#[derive(Debug, Args)]
pub(super) struct ConfigArgs {
    /// For which command the defaults are meant.
    #[arg(long = "for", value_name = "COMMAND", default_value = "serve")]
    mode: For,
    #[command(flatten)]
    settings: SettingsArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum For {
    Dev,
    Serve,
}

pub(super) fn print_config(args: ConfigArgs, output: Output) -> anyhow::Result<()> {
    let mode = match args.mode {
        For::Dev => Mode::Dev,
        For::Serve => Mode::Serve,
    };
    let config = args.settings.load(mode)?;
    for (part, engine) in config.profile() {
        output.line(&format!("# {part:<18} {engine}"))?;
    }
    output.line("")?;
    output.line(toml::to_string(&config)?.trim_end())
}

/// Adds to each setting's help what holds without it. The id of an argument is its path in the settings.
pub(super) fn with_defaults(command: Command, mode: Mode) -> Command {
    let defaults = toml::Table::try_from(Config::defaults(mode)).unwrap_or_default();
    command.mut_args(|arg| {
        let path = arg.get_id().as_str().split('.').collect::<Vec<_>>();
        let value = match path.as_slice() {
            [key] => defaults.get(*key),
            [part, key] => defaults.get(*part).and_then(|part| part.get(*key)),
            _ => None,
        };
        let text = match value {
            None | Some(toml::Value::Table(_)) => return arg,
            Some(toml::Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
        };
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        arg.help(format!("{help} [default: {text}]"))
    })
}
