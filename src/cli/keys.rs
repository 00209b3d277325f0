//! `continuo keys`: environments and their keys.

use clap::{Args, Subcommand};
use continuo_proto::v1::{
    CreateApiKeyRequest, CreateEnvironmentRequest, Environment, ListApiKeysRequest, ListEnvironmentsRequest,
    RevokeApiKeyRequest, RotateRootKeyRequest,
};
use serde_json::json;

use super::client::{AdminArgs, Client};
use super::failure::Usage;
use super::json;
use super::output::{Output, note};

/// Environments and their keys.
#[derive(Debug, Subcommand)]
pub(super) enum KeysCommand {
    /// Environments, oldest first.
    Environments(CommonArgs),
    /// Make an environment and print its secret key.
    CreateEnvironment {
        /// Short name, 1 to 64 characters.
        slug: String,
        /// Kind of environment.
        #[arg(long = "type", default_value = "DEVELOPMENT", value_parser = ["PRODUCTION", "STAGING", "DEVELOPMENT", "PREVIEW"])]
        kind: String,
        /// Project to put it into; a new one, with an organization, if not given.
        #[arg(long, value_name = "PROJECT_ID")]
        project: Option<String>,
        #[command(flatten)]
        common: CommonArgs,
    },
    /// Additional keys of an environment, oldest first, without their secrets.
    List {
        #[command(flatten)]
        environment: EnvironmentArgs,
        #[command(flatten)]
        common: CommonArgs,
    },
    /// Make an additional key and print it, this once.
    Create {
        /// What a person calls it, 1 to 64 characters.
        name: String,
        /// What it may do, `action[:type[:id]]`; `admin` is everything. Repeat for more.
        #[arg(long = "scope", required = true, value_name = "SCOPE")]
        scopes: Vec<String>,
        #[command(flatten)]
        environment: EnvironmentArgs,
        #[command(flatten)]
        common: CommonArgs,
    },
    /// Revoke an additional key, in force within one second.
    Revoke {
        /// The key's id.
        key_id: String,
        #[command(flatten)]
        environment: EnvironmentArgs,
        #[command(flatten)]
        common: CommonArgs,
    },
    /// Replace an environment's secret key and print the new one; the old one is good for 24 hours more.
    Rotate {
        #[command(flatten)]
        environment: EnvironmentArgs,
        #[command(flatten)]
        common: CommonArgs,
    },
}

#[derive(Debug, Args)]
pub(super) struct CommonArgs {
    /// Print JSON, one value per line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Debug, Args)]
pub(super) struct EnvironmentArgs {
    /// The environment; may be left out if there is only one.
    #[arg(long, value_name = "ENVIRONMENT_ID")]
    environment: Option<String>,
}

pub(super) async fn execute(command: KeysCommand, output: Output) -> anyhow::Result<()> {
    match command {
        KeysCommand::Environments(common) => {
            let environments = environments(&common.admin.connect()?).await?;
            print_environments(&environments, common.json, output)
        }
        KeysCommand::CreateEnvironment { slug, kind, project, common } => {
            let request = CreateEnvironmentRequest { project_id: project.unwrap_or_default(), r#type: kind, slug };
            let answer = common.admin.connect()?.admin().create_environment(request).await?.into_inner();
            let environment = answer.environment.unwrap_or_default();
            if common.json {
                let mut value = json::environment(&environment);
                value["root_key"] = answer.root_key.into();
                return output.json(&value);
            }
            note(&format!("made environment {}; its secret key is", environment.id));
            output.line(&answer.root_key)
        }
        KeysCommand::List { environment, common } => list(environment, common, output).await,
        KeysCommand::Create { name, scopes, environment, common } => {
            let client = common.admin.connect()?;
            let environment_id = environment.resolve(&client).await?;
            let request = CreateApiKeyRequest { environment_id, name, scopes };
            let answer = client.admin().create_api_key(request).await?.into_inner();
            let key = answer.api_key.unwrap_or_default();
            if common.json {
                let mut value = json::api_key(&key);
                value["secret"] = answer.secret.into();
                return output.json(&value);
            }
            note(&format!("made key {}; keep it, it is not shown again", key.id));
            output.line(&answer.secret)
        }
        KeysCommand::Revoke { key_id, environment, common } => {
            let client = common.admin.connect()?;
            let environment_id = environment.resolve(&client).await?;
            let request = RevokeApiKeyRequest { environment_id, api_key_id: key_id.clone() };
            client.admin().revoke_api_key(request).await?;
            match common.json {
                true => output.json(&json!({"id": key_id, "revoked": true})),
                false => output.line(&format!("revoked {key_id}")),
            }
        }
        KeysCommand::Rotate { environment, common } => {
            let client = common.admin.connect()?;
            let environment_id = environment.resolve(&client).await?;
            let request = RotateRootKeyRequest { environment_id: environment_id.clone() };
            let root_key = client.admin().rotate_root_key(request).await?.into_inner().root_key;
            if common.json {
                return output.json(&json!({"environment_id": environment_id, "root_key": root_key}));
            }
            note(&format!("the new secret key of {environment_id}; the old one is good for 24 hours more"));
            output.line(&root_key)
        }
    }
}

async fn list(environment: EnvironmentArgs, common: CommonArgs, output: Output) -> anyhow::Result<()> {
    let client = common.admin.connect()?;
    let environment_id = environment.resolve(&client).await?;
    let answer = client.admin().list_api_keys(ListApiKeysRequest { environment_id }).await?.into_inner();
    if common.json {
        return answer.api_keys.iter().try_for_each(|key| output.json(&json::api_key(key)));
    }
    let rows = answer.api_keys.into_iter().map(|key| {
        let revoked = json::time(key.revoked_at).unwrap_or_default();
        [key.id, key.name, key.scopes.join(" "), json::time(key.created_at).unwrap_or_default(), revoked]
    });
    output.table(["ID", "NAME", "SCOPES", "CREATED", "REVOKED"], rows.collect())
}

impl EnvironmentArgs {
    async fn resolve(self, client: &Client) -> anyhow::Result<String> {
        if let Some(environment) = self.environment {
            return Ok(environment);
        }
        match environments(client).await?.as_slice() {
            [only] => Ok(only.id.clone()),
            several => {
                let ids: Vec<&str> = several.iter().map(|environment| environment.id.as_str()).collect();
                Err(Usage(format!("say which with --environment: {}", ids.join(", "))).into())
            }
        }
    }
}

async fn environments(client: &Client) -> anyhow::Result<Vec<Environment>> {
    Ok(client.admin().list_environments(ListEnvironmentsRequest {}).await?.into_inner().environments)
}

fn print_environments(environments: &[Environment], as_json: bool, output: Output) -> anyhow::Result<()> {
    if as_json {
        return environments.iter().try_for_each(|environment| output.json(&json::environment(environment)));
    }
    let row = |e: &Environment| [e.id.clone(), e.r#type.clone(), e.slug.clone(), e.project_id.clone()];
    output.table(["ID", "TYPE", "SLUG", "PROJECT"], environments.iter().map(row).collect())
}
