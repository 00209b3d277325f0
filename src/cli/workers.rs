//! `continuo workers`: who is connected.

use clap::Args;
use continuo_proto::v1::{ListWorkersRequest, Worker};

use super::client::ClientArgs;
use super::json;
use super::output::Output;

const PAGE_SIZE_MAX: usize = 1_000;

#[derive(Debug, Args)]
pub(super) struct WorkersArgs {
    /// Most workers to print.
    #[arg(long, default_value_t = 100, value_name = "COUNT")]
    limit: usize,
    /// Print JSON, one value per line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn execute(args: WorkersArgs, output: Output) -> anyhow::Result<()> {
    let workers = fetch(&args).await?;
    if args.json {
        return workers.iter().try_for_each(|worker| output.json(&json::worker(worker)));
    }
    let header = ["WORKER", "VERSION", "RUNS", "STATE", "TASKS", "CONNECTED", "SEEN"];
    output.table(header, workers.iter().map(row).collect())
}

fn row(worker: &Worker) -> [String; 7] {
    let state = if worker.is_draining { "draining" } else { "taking runs" };
    [
        worker.worker_id.clone(),
        worker.version.clone(),
        format!("{}/{}", worker.held_leases, worker.capacity),
        state.to_owned(),
        tasks(&worker.task_identifiers),
        json::time(worker.connected_at).unwrap_or_default(),
        json::time(worker.seen_at).unwrap_or_default(),
    ]
}

/// A few of them: a worker may know a thousand.
fn tasks(names: &[String]) -> String {
    const SHOWN: usize = 3;
    match names.len().checked_sub(SHOWN).filter(|&more| more > 0) {
        Some(more) => format!("{} and {more} more", names[..SHOWN].join(" ")),
        None => names.join(" "),
    }
}

async fn fetch(args: &WorkersArgs) -> anyhow::Result<Vec<Worker>> {
    let mut client = args.client.connect()?.workers();
    let mut workers: Vec<Worker> = Vec::new();
    let mut page_token = String::new();
    while workers.len() < args.limit {
        let page_size = (args.limit - workers.len()).min(PAGE_SIZE_MAX) as i32;
        let page = client.list_workers(ListWorkersRequest { page_size, page_token }).await?.into_inner();
        workers.extend(page.workers);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    Ok(workers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_a_few_tasks() {
        let names = |count: usize| tasks(&["a", "b", "c", "d", "e"].map(str::to_owned)[..count]);
        assert_eq!([names(0), names(3), names(5)], ["", "a b c", "a b c and 2 more"]);
    }
}
