//! `sessions create`.

use clap::Args;
use continuo_proto::v1::{CreateSessionRequest, TriggerConfig};
use prost_types::Timestamp;

use super::{CommonArgs, json};
use crate::cli::output::{Output, note};

#[derive(Debug, Args)]
pub(in crate::cli) struct CreateArgs {
    /// Your own name for the session, unique in the environment; none makes a new session each time.
    external_id: Option<String>,
    /// Task that its runs execute.
    #[arg(long, default_value = crate::demo_agent::TASK, value_name = "NAME")]
    task: String,
    /// Free-form kind of session, 1 to 64 characters.
    #[arg(long = "type", default_value = "chat.agent", value_name = "TYPE")]
    kind: String,
    /// JSON object that each run's payload starts from.
    #[arg(long, default_value = "{}", value_name = "JSON")]
    payload: String,
    /// Tag, at most 10. Repeat for more.
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// JSON object to keep with the session.
    #[arg(long, value_name = "JSON")]
    metadata: Option<String>,
    /// When it stops taking input, for example 2030-01-01T00:00:00Z.
    #[arg(long, value_name = "TIME")]
    expires_at: Option<Timestamp>,
    /// Attempts of each run, 1 to 10.
    #[arg(long, value_name = "COUNT")]
    max_attempts: Option<u32>,
    /// Seconds a run may execute; waiting does not count.
    #[arg(long, value_name = "SECONDS")]
    max_duration_s: Option<u32>,
    #[command(flatten)]
    common: CommonArgs,
}

pub(super) async fn execute(args: CreateArgs, output: Output) -> anyhow::Result<()> {
    let request = CreateSessionRequest {
        external_id: args.external_id,
        r#type: args.kind,
        task_identifier: args.task,
        trigger_config: Some(TriggerConfig {
            base_payload_json: args.payload,
            max_attempts: args.max_attempts,
            max_duration_s: args.max_duration_s,
            ..Default::default()
        }),
        tags: args.tags,
        metadata_json: args.metadata,
        expires_at: args.expires_at,
        is_test: false,
    };
    let answer = args.common.client.connect()?.sessions().create_session(request).await?.into_inner();
    let session = answer.session.unwrap_or_default();
    if args.common.json {
        let mut value = json::session(&session);
        value["run_id"] = answer.run_id.into();
        value["public_access_token"] = answer.public_access_token.into();
        value["is_cached"] = answer.is_cached.into();
        return output.json(&value);
    }
    note(if answer.is_cached { "it was there already" } else { "made a session" });
    super::print(&session, false, output)?;
    output.pairs([("token", Some(answer.public_access_token))])
}
