//! `continuo queues`: what waits where.

use clap::Args;
use continuo_proto::v1::{ListQueuesRequest, Queue};

use super::client::ClientArgs;
use super::json;
use super::output::{Output, note};

#[derive(Debug, Args)]
pub(super) struct QueuesArgs {
    /// Most queues to print, at most 1000.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(i32).range(1..=1_000), value_name = "COUNT")]
    limit: i32,
    /// Print JSON, one value per line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn execute(args: QueuesArgs, output: Output) -> anyhow::Result<()> {
    let request = ListQueuesRequest { limit: args.limit };
    let answer = args.client.connect()?.runs().list_queues(request).await?.into_inner();
    if args.json {
        answer.queues.iter().try_for_each(|queue| output.json(&json::queue(queue)))?;
    } else {
        let header = ["QUEUE", "PENDING", "SINCE", "DELAYED", "DEQUEUED", "EXECUTING", "RETRYING", "WAITING"];
        output.table(header, answer.queues.iter().map(row).collect())?;
    }
    if answer.has_more {
        note("there are more queues; --limit shows up to 1000");
    }
    Ok(())
}

fn row(queue: &Queue) -> [String; 8] {
    [
        queue.name.clone(),
        queue.pending.to_string(),
        json::time(queue.oldest_pending_at).unwrap_or_default(),
        queue.delayed.to_string(),
        queue.dequeued.to_string(),
        queue.executing.to_string(),
        queue.retrying.to_string(),
        queue.waiting.to_string(),
    ]
}
