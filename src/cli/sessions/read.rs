//! `sessions get` and `sessions list`.

use clap::{Args, ValueEnum};
use continuo_proto::v1::{GetSessionRequest, ListSessionsRequest, Session, SessionFilter, SessionStatus};

use super::{CommonArgs, SessionArgs, json};
use crate::cli::output::Output;

const PAGE_SIZE_MAX: usize = 100;

#[derive(Debug, Args)]
pub(in crate::cli) struct ListArgs {
    /// Most sessions to print.
    #[arg(long, default_value_t = 20, value_name = "COUNT")]
    limit: usize,
    /// Only of this status. Repeat for more.
    #[arg(long = "status", value_name = "STATUS")]
    statuses: Vec<Status>,
    /// Only of this task. Repeat for more.
    #[arg(long = "task", value_name = "NAME")]
    tasks: Vec<String>,
    /// Only of this type. Repeat for more.
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<String>,
    /// Only with this tag. Repeat for more.
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Status {
    Active,
    Closed,
    Expired,
}

impl From<Status> for SessionStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Active => Self::Active,
            Status::Closed => Self::Closed,
            Status::Expired => Self::Expired,
        }
    }
}

pub(super) async fn get(args: SessionArgs, output: Output) -> anyhow::Result<()> {
    let request = GetSessionRequest { session: args.session };
    let answer = args.common.client.connect()?.sessions().get_session(request).await?.into_inner();
    super::print(&answer.session.unwrap_or_default(), args.common.json, output)
}

pub(super) async fn list(args: ListArgs, output: Output) -> anyhow::Result<()> {
    let sessions = fetch(&args).await?;
    if args.common.json {
        return sessions.iter().try_for_each(|session| output.json(&json::session(session)));
    }
    let row = |session: &Session| {
        [
            session.id.clone(),
            session.external_id.clone().unwrap_or_default(),
            json::status_name(session.status()).to_owned(),
            session.task_identifier.clone(),
            session.current_run_version.to_string(),
            json::time(session.created_at).unwrap_or_default(),
        ]
    };
    let header = ["ID", "EXTERNAL ID", "STATUS", "TASK", "RUNS", "CREATED"];
    output.table(header, sessions.iter().map(row).collect())
}

async fn fetch(args: &ListArgs) -> anyhow::Result<Vec<Session>> {
    let filter = SessionFilter {
        types: args.types.clone(),
        tags: args.tags.clone(),
        task_identifiers: args.tasks.clone(),
        statuses: args.statuses.iter().map(|status| SessionStatus::from(*status).into()).collect(),
        ..Default::default()
    };
    let mut client = args.common.client.connect()?.sessions();
    let mut sessions: Vec<Session> = Vec::new();
    let mut page_token = String::new();
    while sessions.len() < args.limit {
        let page_size = (args.limit - sessions.len()).min(PAGE_SIZE_MAX) as i32;
        let request = ListSessionsRequest { filter: Some(filter.clone()), page_size, page_token, ..Default::default() };
        let page = client.list_sessions(request).await?.into_inner();
        sessions.extend(page.sessions);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    sessions.truncate(args.limit);
    Ok(sessions)
}
