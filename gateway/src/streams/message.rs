//! The messages of the protocol, with the fields that travel, and what they are among our own.

use bytes::Bytes;
use continuo_proto::v1::{AppendResponse, ChannelAppend, NewRecord, Position, Record, RecordBatch};

/// Records to append, all or none.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct AppendInput {
    #[prost(message, repeated, tag = "1")]
    pub(super) records: Vec<AppendRecord>,
    #[prost(uint64, optional, tag = "2")]
    pub(super) match_seq_num: Option<u64>,
    #[prost(string, optional, tag = "3")]
    pub(super) fencing_token: Option<String>,
}

/// A record to append. Field 1 is the writer's own time: ours is the time of arrival, so it is not even read.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct AppendRecord {
    #[prost(message, repeated, tag = "2")]
    pub(super) headers: Vec<Header>,
    #[prost(bytes = "bytes", tag = "3")]
    pub(super) body: Bytes,
}

/// A header of a record.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Header {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) name: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) value: Bytes,
}

/// What an append did. `end` and `tail` are after the last record.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct AppendAck {
    #[prost(message, optional, tag = "1")]
    pub(super) start: Option<StreamPosition>,
    #[prost(message, optional, tag = "2")]
    pub(super) end: Option<StreamPosition>,
    #[prost(message, optional, tag = "3")]
    pub(super) tail: Option<StreamPosition>,
}

/// A number and its time in milliseconds.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct StreamPosition {
    #[prost(uint64, tag = "1")]
    pub(super) seq_num: u64,
    #[prost(uint64, tag = "2")]
    pub(super) timestamp: u64,
}

/// A record as it is read.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct SequencedRecord {
    #[prost(uint64, tag = "1")]
    pub(super) seq_num: u64,
    #[prost(uint64, tag = "2")]
    pub(super) timestamp: u64,
    #[prost(message, repeated, tag = "3")]
    pub(super) headers: Vec<Header>,
    #[prost(bytes = "bytes", tag = "4")]
    pub(super) body: Bytes,
}

/// Records in order. Without any it is a sign of life.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ReadBatch {
    #[prost(message, repeated, tag = "1")]
    pub(super) records: Vec<SequencedRecord>,
    #[prost(message, optional, tag = "2")]
    pub(super) tail: Option<StreamPosition>,
}

impl From<AppendInput> for ChannelAppend {
    fn from(input: AppendInput) -> Self {
        let record = |record: AppendRecord| NewRecord {
            headers: record.headers.into_iter().map(Header::into).collect(),
            body: record.body,
        };
        Self {
            records: input.records.into_iter().map(record).collect(),
            match_seq_num: input.match_seq_num,
            fencing_token: input.fencing_token,
            ..Default::default()
        }
    }
}

impl From<Header> for continuo_proto::v1::Header {
    fn from(header: Header) -> Self {
        Self { name: header.name, value: header.value }
    }
}

impl From<AppendResponse> for AppendAck {
    fn from(answer: AppendResponse) -> Self {
        let position = |position: Option<Position>| Some(position.unwrap_or_default().into());
        Self { start: position(answer.start), end: position(answer.end), tail: position(answer.tail) }
    }
}

impl From<Position> for StreamPosition {
    fn from(position: Position) -> Self {
        Self { seq_num: position.seq_num, timestamp: position.timestamp_ms.try_into().unwrap_or(0) }
    }
}

impl From<Record> for SequencedRecord {
    fn from(record: Record) -> Self {
        let headers = record.headers.into_iter().map(|h| Header { name: h.name, value: h.value }).collect();
        Self {
            seq_num: record.seq_num,
            timestamp: record.timestamp_ms.try_into().unwrap_or(0),
            headers,
            body: record.body,
        }
    }
}

impl From<RecordBatch> for ReadBatch {
    fn from(batch: RecordBatch) -> Self {
        Self { records: batch.records.into_iter().map(Into::into).collect(), tail: batch.tail.map(Into::into) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;

    #[test]
    fn an_input_byte_for_byte() {
        // records { timestamp: 5, headers { name: "k", value: "v" }, body: "b" }, match_seq_num: 0, fencing_token: ""
        let wire = [
            0x0a, 0x0d, 0x08, 0x05, 0x12, 0x06, 0x0a, 0x01, b'k', 0x12, 0x01, b'v', 0x1a, 0x01, b'b', 0x10, 0x00, 0x1a,
            0x00,
        ];
        let input = AppendInput::decode(&wire[..]).unwrap();
        let header = Header { name: "k".into(), value: "v".into() };
        assert_eq!(input.records, [AppendRecord { headers: vec![header], body: "b".into() }]);
        assert_eq!((input.match_seq_num, input.fencing_token.as_deref()), (Some(0), Some("")));
    }

    #[test]
    fn an_ack_byte_for_byte() {
        let at = |seq_num| Some(Position { seq_num, timestamp_ms: 9 });
        let answer = AppendResponse { start: at(0), end: at(1), tail: at(1), repeated: false };
        let wire = [0x0a, 2, 0x10, 9, 0x12, 4, 0x08, 1, 0x10, 9, 0x1a, 4, 0x08, 1, 0x10, 9];
        assert_eq!(AppendAck::from(answer).encode_to_vec(), wire);
    }
}
