//! Channels and their records. Bodies and headers are shared, not copied.

use super::{list_size, named, page_token, session, time};
use continuo_domain::channel::{
    Append, Appended, ChannelKey, ChannelName, Direction, FencingToken, Header, NewRecord, PartId, Position, ReadFrom,
    ReadStart, Record,
};
use continuo_domain::error::Violations;
use continuo_domain::{EnvironmentId, Result, Timestamp, Violation};
use continuo_ports::WrittenChannel;
use continuo_proto::v1;
use continuo_proto::v1::read_response::Event;
use continuo_usecases::{
    AppendRequest, Attach, Boot, CHANNELS_PAGE_MAX, ChannelPage, ChannelTarget, InitializedChannel, ListChannels,
    ReadChannel, ReadMessage, StreamAppend,
};

/// Reads which channel.
pub(crate) fn parse_target(wire: Option<v1::ChannelRef>) -> Result<ChannelTarget> {
    let wire = wire.ok_or_else(|| Violation::new("channel", "is required"))?;
    let mut found = Violations::new();
    let session = found.take(session::parse_ref("channel.session", &wire.session))?;
    let name = found.take(parse_name("channel.name", &wire.name))?.flatten();
    let direction = found.take(parse_direction("channel.direction", wire.direction))?;
    found.finish()?;
    let (Some(session), Some(direction)) = (session, direction) else { return Err(session::nothing_parsed()) };
    Ok(ChannelTarget { session, name, direction })
}

/// Prints where and with what to write.
pub(crate) fn print_initialized(initialized: InitializedChannel) -> v1::InitializeChannelResponse {
    v1::InitializeChannelResponse {
        stream_name: initialized.channel.to_string(),
        access_token: initialized.access_token,
        expires_at: Some(time::print(initialized.expires_at)),
    }
}

fn parse_name(field: &str, text: &str) -> Result<Option<ChannelName>> {
    if text.is_empty() { Ok(None) } else { named(field, ChannelName::parse(text)).map(Some) }
}

/// Reads which side.
pub(crate) fn parse_direction(field: &str, wire: i32) -> Result<Direction> {
    match v1::Direction::try_from(wire) {
        Ok(v1::Direction::In) => Ok(Direction::In),
        Ok(v1::Direction::Out) => Ok(Direction::Out),
        Ok(v1::Direction::Unspecified) | Err(_) => Err(Violation::new(field, "must be IN or OUT").into()),
    }
}

fn print_direction(direction: Direction) -> v1::Direction {
    match direction {
        Direction::In => v1::Direction::In,
        Direction::Out => v1::Direction::Out,
    }
}

/// Reads a unary append.
pub(crate) fn parse_append(wire: v1::AppendRequest) -> Result<AppendRequest> {
    let channel = parse_target(wire.channel)?;
    let StreamAppend { append, boot } = parse_stream_append(v1::ChannelAppend {
        records: wire.records,
        part_id: wire.part_id,
        match_seq_num: wire.match_seq_num,
        fencing_token: wire.fencing_token,
        boot: wire.boot,
    })?;
    Ok(AppendRequest { channel, append, boot })
}

/// Reads an append within a stream.
pub(crate) fn parse_stream_append(wire: v1::ChannelAppend) -> Result<StreamAppend> {
    let mut found = Violations::new();
    let part_id = found.take(wire.part_id.as_deref().map(PartId::parse).transpose())?.flatten();
    let fencing_token = found.take(wire.fencing_token.as_deref().map(FencingToken::parse).transpose())?.flatten();
    let boot = found.take(parse_boot(wire.boot))?.unwrap_or(Boot::Default);
    found.finish()?;
    let records = wire.records.into_iter().map(new_record).collect();
    Ok(StreamAppend {
        append: Append { records, match_seq_num: wire.match_seq_num, fencing_token, part_id, claimed: None },
        boot,
    })
}

fn parse_boot(wire: i32) -> Result<Boot> {
    match v1::Boot::try_from(wire) {
        Ok(v1::Boot::Unspecified | v1::Boot::Default) => Ok(Boot::Default),
        Ok(v1::Boot::Never) => Ok(Boot::Never),
        Err(_) => Err(Violation::new("boot", "must be DEFAULT or NEVER").into()),
    }
}

fn new_record(wire: v1::NewRecord) -> NewRecord {
    let headers = wire.headers.into_iter().map(|h| Header { name: h.name, value: h.value }).collect();
    NewRecord { headers, body: wire.body }
}

/// Reads a read.
pub(crate) fn parse_read(wire: v1::ReadRequest) -> Result<ReadChannel> {
    let (from, skip_commands) = parse_start(wire.start);
    Ok(ReadChannel {
        channel: parse_target(wire.channel)?,
        from,
        skip_commands,
        idle_timeout_ms: wire.idle_timeout_ms,
        heartbeat_ms: wire.heartbeat_ms,
        peek_settled: wire.peek_settled,
    })
}

/// Reads what is attached to.
pub(crate) fn parse_attach(wire: v1::AttachOpen) -> Result<Attach> {
    let mut found = Violations::new();
    let session = found.take(session::parse_ref("open.session", &wire.session))?;
    let name = found.take(parse_name("open.name", &wire.name))?.flatten();
    found.finish()?;
    let session = session.ok_or_else(session::nothing_parsed)?;
    let (from, skip_commands) = parse_start(wire.start);
    Ok(Attach { session, name, from, skip_commands, heartbeat_ms: wire.heartbeat_ms })
}

/// Where a read begins, and whether its tail offset skips commands.
fn parse_start(wire: Option<v1::ReadStart>) -> (ReadFrom, bool) {
    use v1::read_start::Start;
    let wire = wire.unwrap_or_default();
    let start = match wire.start {
        None => ReadStart::SeqNum(0),
        Some(Start::SeqNum(seq_num)) => ReadStart::SeqNum(seq_num),
        Some(Start::TimestampMs(ms)) => ReadStart::Timestamp(Timestamp(ms)),
        Some(Start::TailOffset(count)) => ReadStart::TailOffset(count),
    };
    (ReadFrom { start, clamp: wire.clamp }, wire.skip_commands)
}

/// Reads a list of channels.
pub(crate) fn parse_list(environment: &EnvironmentId, wire: v1::ListChannelsRequest) -> Result<ListChannels> {
    let mut found = Violations::new();
    let session = found.take(session::parse_ref("session", &wire.session))?;
    let page_size = found.take(list_size("page_size", wire.page_size, CHANNELS_PAGE_MAX))?;
    let after = found.take(page_token::parse_channels(environment, &wire.page_token))?;
    found.finish()?;
    let (Some(session), Some(page_size), Some(after)) = (session, page_size, after) else {
        return Err(session::nothing_parsed());
    };
    Ok(ListChannels { session, page_size, after })
}

/// Prints a page of channels.
pub(crate) fn print_list(environment: &EnvironmentId, page: ChannelPage) -> v1::ListChannelsResponse {
    v1::ListChannelsResponse {
        channels: page.channels.into_iter().map(print_summary).collect(),
        next_page_token: page.next.map(|last| page_token::channels(environment, &last)).unwrap_or_default(),
    }
}

fn print_summary(written: WrittenChannel) -> v1::ChannelSummary {
    let ChannelKey { name, direction, .. } = written.channel;
    v1::ChannelSummary {
        name: name.map(|name| name.as_str().to_owned()).unwrap_or_default(),
        direction: print_direction(direction).into(),
        tail: Some(print_position(written.tail)),
        earliest_seq_num: written.earliest_seq_num,
    }
}

/// Prints what an append did.
pub(crate) fn print_appended(appended: Appended) -> v1::AppendResponse {
    v1::AppendResponse {
        start: Some(print_position(appended.start)),
        end: Some(print_position(appended.end)),
        tail: Some(print_position(appended.tail)),
        repeated: appended.repeated,
    }
}

/// Prints a position.
pub(crate) fn print_position(position: Position) -> v1::Position {
    v1::Position { seq_num: position.seq_num, timestamp_ms: position.timestamp.0 }
}

/// Prints a record.
pub(crate) fn print_record(record: &Record) -> v1::Record {
    let header = |h: &Header| v1::Header { name: h.name.clone(), value: h.value.clone() };
    v1::Record {
        seq_num: record.seq_num,
        timestamp_ms: record.timestamp.0,
        headers: record.headers.iter().map(header).collect(),
        body: record.body.clone(),
    }
}

/// Prints what a reader meets.
pub(crate) fn print_event(message: ReadMessage) -> Event {
    match message {
        ReadMessage::Gap { requested, earliest } => {
            Event::Gap(v1::Gap { requested_seq_num: requested, earliest_seq_num: earliest })
        }
        ReadMessage::Records { records, tail } => Event::Batch(v1::RecordBatch {
            records: records.iter().map(print_record).collect(),
            tail: Some(print_position(tail)),
        }),
        ReadMessage::Heartbeat { now, tail } => {
            Event::Heartbeat(v1::Heartbeat { timestamp_ms: now.0, tail: Some(print_position(tail)) })
        }
        ReadMessage::Settled { tail } => Event::Settled(v1::Settled { tail: Some(print_position(tail)) }),
    }
}
