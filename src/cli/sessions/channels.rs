//! `sessions channels`.

use continuo_proto::v1::{ChannelSummary, Direction, ListChannelsRequest, Position};
use prost_types::Timestamp;

use super::{SessionArgs, json};
use crate::cli::output::Output;

const PAGE_SIZE_MAX: i32 = 1_000;

pub(super) async fn list(args: SessionArgs, output: Output) -> anyhow::Result<()> {
    let channels = fetch(&args).await?;
    if args.common.json {
        return channels.iter().try_for_each(|channel| output.json(&json::channel(channel)));
    }
    output.table(["SIDE", "NAME", "FIRST", "NEXT", "LAST WRITTEN"], channels.into_iter().map(row).collect())
}

async fn fetch(args: &SessionArgs) -> anyhow::Result<Vec<ChannelSummary>> {
    let mut client = args.common.client.connect()?.channels();
    let (mut channels, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListChannelsRequest { session: args.session.clone(), page_size: PAGE_SIZE_MAX, page_token };
        let page = client.list_channels(request).await?.into_inner();
        channels.extend(page.channels);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(channels);
        }
    }
}

fn row(channel: ChannelSummary) -> [String; 5] {
    let side = match channel.direction() {
        Direction::In => ".in",
        Direction::Out => ".out",
        Direction::Unspecified => "?",
    };
    let tail = channel.tail.unwrap_or_default();
    let first = channel.earliest_seq_num.to_string();
    [side.to_owned(), channel.name, first, tail.seq_num.to_string(), written_at(tail)]
}

fn written_at(tail: Position) -> String {
    let (seconds, rest) = (tail.timestamp_ms.div_euclid(1_000), tail.timestamp_ms.rem_euclid(1_000));
    let nanos = i32::try_from(rest * 1_000_000).unwrap_or_default();
    Timestamp { seconds, nanos }.to_string()
}
