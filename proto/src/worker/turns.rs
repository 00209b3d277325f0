//! Turns: what the records on `.out` say about the input they answer.

use tonic::Status;

use super::context::RunContext;
use super::reader::{ChannelReader, ReadEvent, from_seq_num};
use crate::v1::read_start::Start;
use crate::v1::{AppendResponse, Direction, Header, NewRecord, ReadStart, Record};

const CONTROL: &[u8] = b"trigger-control";
const TURN_COMPLETE: &[u8] = b"turn-complete";
const IN_EVENT_ID: &[u8] = b"session-in-event-id";

/// How far back to look for the newest turn, in records; then at everything.
const WINDOWS: [u64; 2] = [256, 8_192];

/// How `.out` ends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LastTurn {
    /// Number of the newest turn-complete record; `None` if no turn was ever completed.
    pub seq_num: Option<u64>,
    /// The highest `.in` number that turn committed, if it answered input.
    pub in_seq_num: Option<u64>,
    /// Data stands after it: an answer was cut off.
    pub is_cut_off: bool,
}

impl RunContext {
    /// Ends a turn: writes the control record that tells every reader that the answer to `.in` up to and including
    /// `in_seq_num` is complete (`None`: the turn answered no input), and notes that much as read.
    pub async fn turn_complete(&self, in_seq_num: impl Into<Option<u64>>) -> Result<AppendResponse, Status> {
        let in_seq_num = in_seq_num.into();
        let answer = self.append_out(turn_complete_record(in_seq_num)).await?;
        if let Some(in_seq_num) = in_seq_num {
            self.note_read(in_seq_num + 1);
        }
        Ok(answer)
    }

    /// Looks up how `.out` ends. With it a run that takes over from a dead one knows what was answered, even if that one
    /// died before the server heard how far it had read.
    pub async fn last_turn(&self) -> Result<LastTurn, Status> {
        for records in WINDOWS {
            let start = ReadStart { start: Some(Start::TailOffset(records)), clamp: true, skip_commands: false };
            let (turn, is_everything) = self.last_turn_from(start).await?;
            if turn.seq_num.is_some() || is_everything {
                return Ok(turn);
            }
        }
        Ok(self.last_turn_from(from_seq_num(0)).await?.0)
    }

    /// The newest turn from a position on, and whether there is nothing before that position.
    async fn last_turn_from(&self, start: ReadStart) -> Result<(LastTurn, bool), Status> {
        let mut reader = ChannelReader::new(self.clone(), self.channel(Direction::Out), start);
        let mut turn = LastTurn::default();
        let mut first = None;
        loop {
            match reader.next().await? {
                ReadEvent::Record(record) => {
                    first.get_or_insert(record.seq_num);
                    turn.take(&record);
                }
                ReadEvent::Gap { .. } => {}
                ReadEvent::CaughtUp => return Ok((turn, first.is_none_or(|seq_num| seq_num == 0))),
            }
        }
    }
}

impl LastTurn {
    fn take(&mut self, record: &Record) {
        let is_control = record.headers.first().is_some_and(|header| header.name == CONTROL);
        if !is_control {
            self.is_cut_off = true;
        } else if record.headers[0].value == TURN_COMPLETE {
            let in_seq_num = header(record, IN_EVENT_ID).and_then(|value| value.parse().ok());
            *self = Self { seq_num: Some(record.seq_num), in_seq_num, is_cut_off: false };
        }
    }
}

fn header<'a>(record: &'a Record, name: &[u8]) -> Option<&'a str> {
    let header = record.headers.iter().find(|header| header.name == name)?;
    std::str::from_utf8(&header.value).ok()
}

fn turn_complete_record(in_seq_num: Option<u64>) -> NewRecord {
    let mut headers = vec![Header { name: CONTROL.into(), value: TURN_COMPLETE.into() }];
    headers.extend(in_seq_num.map(|n| Header { name: IN_EVENT_ID.into(), value: n.to_string().into() }));
    NewRecord { headers, body: Default::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(seq_num: u64, new: NewRecord) -> Record {
        Record { seq_num, timestamp_ms: 0, headers: new.headers, body: new.body }
    }

    #[test]
    fn a_turn_commits_its_input_and_data_after_it_is_cut_off() {
        let mut turn = LastTurn::default();
        turn.take(&record(0, NewRecord { headers: vec![], body: "token".into() }));
        assert_eq!(turn, LastTurn { is_cut_off: true, ..Default::default() });
        turn.take(&record(1, turn_complete_record(Some(7))));
        assert_eq!(turn, LastTurn { seq_num: Some(1), in_seq_num: Some(7), is_cut_off: false });
        turn.take(&record(2, NewRecord { headers: vec![], body: "token".into() }));
        assert!(turn.is_cut_off && turn.in_seq_num == Some(7));
    }

    #[test]
    fn other_control_records_end_no_turn() {
        let mut turn = LastTurn::default();
        let headers = vec![Header { name: CONTROL.into(), value: "upgrade-required".into() }];
        turn.take(&record(0, NewRecord { headers, body: Default::default() }));
        assert_eq!(turn, LastTurn::default());
    }
}
