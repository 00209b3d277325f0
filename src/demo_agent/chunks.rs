//! An answer as the chunks of an AI SDK message, which is what a chat on the other side shows.

use std::time::Duration;

use continuo_proto::v1::NewRecord;
use continuo_proto::worker::{OutWriter, RunContext, TaskError};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::answer::Answer;
use super::inbox::Inbox;

/// Says answers at the pace of a person who reads.
pub(super) struct Voice {
    ctx: RunContext,
    token_delay: Duration,
}

enum Interruption {
    /// The person has heard enough; the turn ends here.
    Stopped,
    /// Another run takes over and says it anew.
    Superseded,
}

impl Voice {
    pub(super) fn new(ctx: RunContext, token_delay: Duration) -> Self {
        Self { ctx, token_delay }
    }

    /// Says an answer; false if it was not ended because another run takes over. `in_seq_num` is what it answers.
    pub(super) async fn say(
        &self,
        answer: &Answer,
        in_seq_num: Option<u64>,
        inbox: &mut Inbox,
    ) -> Result<bool, TaskError> {
        let mut message = Message::new(&self.ctx, in_seq_num);
        message.start(answer).await?;
        for token in answer.tokens() {
            match self.pause(inbox).await? {
                Some(Interruption::Superseded) => return Ok(false),
                Some(Interruption::Stopped) => break,
                None => message.token(token).await?,
            }
        }
        message.finish().await?;
        Ok(true)
    }

    async fn pause(&self, inbox: &mut Inbox) -> Result<Option<Interruption>, TaskError> {
        if self.token_delay.is_zero() {
            return Ok(None);
        }
        tokio::select! {
            () = self.ctx.stop_requested().cancelled() => Ok(Some(Interruption::Superseded)),
            stopped = inbox.stopped() => stopped.map(|()| Some(Interruption::Stopped)),
            () = sleep(self.token_delay) => Ok(None),
        }
    }
}

/// One message under way. Its id is new with every attempt at an answer, so that a cut-off one and its repeat do not mix.
struct Message {
    out: OutWriter,
    id: String,
    chunks: u32,
}

impl Message {
    fn new(ctx: &RunContext, in_seq_num: Option<u64>) -> Self {
        let answers = in_seq_num.map_or("boot".to_owned(), |seq_num| seq_num.to_string());
        let id = format!("{}-{}-{answers}", ctx.run_id(), ctx.lease());
        Self { out: ctx.out_writer(), id, chunks: 0 }
    }

    async fn start(&mut self, answer: &Answer) -> Result<(), TaskError> {
        self.send(json!({"type": "start", "messageId": self.id, "messageMetadata": answer.metadata})).await?;
        self.send(json!({"type": "text-start", "id": self.id})).await
    }

    async fn token(&mut self, token: &str) -> Result<(), TaskError> {
        self.send(json!({"type": "text-delta", "id": self.id, "delta": token})).await
    }

    async fn finish(mut self) -> Result<(), TaskError> {
        self.send(json!({"type": "text-end", "id": self.id})).await?;
        self.send(json!({"type": "finish"})).await?;
        self.out.finish().await?;
        Ok(())
    }

    async fn send(&mut self, chunk: Value) -> Result<(), TaskError> {
        let record = data_record(chunk, format!("{}-{}", self.id, self.chunks));
        self.chunks += 1;
        Ok(self.out.send(record).await?)
    }
}

fn data_record(chunk: Value, id: String) -> NewRecord {
    let body = json!({"data": chunk, "id": id}).to_string();
    NewRecord { headers: Vec::new(), body: body.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_travels_as_a_value_in_the_envelope() {
        let record = data_record(json!({"type": "text-delta", "id": "m", "delta": "hi "}), "m-3".to_owned());
        let body: Value = serde_json::from_slice(&record.body).unwrap();
        assert_eq!(body, json!({"data": {"type": "text-delta", "id": "m", "delta": "hi "}, "id": "m-3"}));
        assert!(record.headers.is_empty());
    }
}
