//! A chat on a session: says each line of standard input and prints what happens, one JSON object a line.
//!
//!     chat my-chat my-task
//!
//! What a broken network leaves open is asked for again: the read goes on after the last number seen, and an append that was
//! not acknowledged is repeated with its part id, so that it counts once.

use std::env;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use continuo_proto::v1::attach_request::Message as Say;
use continuo_proto::v1::attach_response::Message as Hear;
use continuo_proto::v1::channel_service_client::ChannelServiceClient;
use continuo_proto::v1::read_start::Start;
use continuo_proto::v1::session_service_client::SessionServiceClient;
use continuo_proto::v1::{
    AttachOpen, AttachRequest, AttachResponse, ChannelAppend, CreateSessionRequest, NewRecord, ReadStart, Record,
    TriggerConfig,
};
use serde_json::{Value, json};
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};
use tonic_types::StatusExt;

fn report(event: &str, mut fields: Value) {
    fields["event"] = event.into();
    println!("{fields}");
}

fn with_bearer<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    let value = format!("Bearer {token}").parse().expect("a token is plain text");
    request.metadata_mut().insert("authorization", value);
    request
}

/// Without a reason from the server it was the network.
fn may_retry(error: &Status) -> bool {
    error.code() == Code::Unavailable || error.get_details_error_info().is_none()
}

/// Makes the session, or finds it; a token for it alone.
async fn create(channel: &Channel, session: &str, task: &str) -> Result<String, Status> {
    let request = CreateSessionRequest {
        external_id: Some(session.to_owned()),
        r#type: "chat".to_owned(),
        task_identifier: task.to_owned(),
        trigger_config: Some(TriggerConfig { base_payload_json: "{}".to_owned(), ..Default::default() }),
        ..Default::default()
    };
    let key = env::var("CONTINUO_SECRET_KEY").unwrap_or_default();
    let created =
        SessionServiceClient::new(channel.clone()).create_session(with_bearer(request, &key)).await?.into_inner();
    let id = created.session.map(|session| session.id);
    report("created", json!({ "session": id, "run": created.run_id, "cached": created.is_cached }));
    Ok(created.public_access_token)
}

struct Chat {
    channels: ChannelServiceClient<Channel>,
    session: String,
    token: String,
    next_seq_num: u64,
    stream: Option<(UnboundedSender<AttachRequest>, Streaming<AttachResponse>)>,
}

/// What was said, and how far the session has got with it.
struct Question {
    append: ChannelAppend,
    asked: Option<u64>,
    answered: Option<u64>,
}

impl Question {
    fn is_over(&self) -> bool {
        self.asked.is_some() && self.answered >= self.asked
    }
}

impl Chat {
    /// Says it, and reads on until the turn that answers it is complete.
    async fn ask(&mut self, text: String) -> Result<(), Status> {
        let part_id = getrandom::u64().map_err(|error| Status::internal(error.to_string()))?;
        let records = vec![NewRecord { body: text.into(), ..Default::default() }];
        let append = ChannelAppend { records, part_id: Some(format!("{part_id:016x}")), ..Default::default() };
        let mut question = Question { append, asked: None, answered: None };
        while let Err(error) = self.attempt(&mut question).await {
            self.stream = None;
            if !may_retry(&error) {
                return Err(error);
            }
            report("lost", json!({ "code": error.code() as i32 }));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        report("answered", json!({}));
        Ok(())
    }

    async fn attempt(&mut self, question: &mut Question) -> Result<(), Status> {
        let (outgoing, mut incoming) = match self.stream.take() {
            Some(stream) => stream,
            None => self.attach().await?,
        };
        if question.asked.is_none() {
            // Whatever is wrong with the stream is told by its other side.
            _ = outgoing.send(AttachRequest { message: Some(Say::Append(question.append.clone())) });
        }
        while !question.is_over() {
            let heard = incoming.message().await?.ok_or_else(|| Status::unavailable("the stream ended"))?;
            match heard.message {
                Some(Hear::Ack(ack)) => {
                    question.asked = ack.start.map(|start| start.seq_num);
                    report("acknowledged", json!({ "seq": question.asked, "repeated": ack.repeated }));
                }
                Some(Hear::Batch(batch)) => {
                    for record in batch.records {
                        question.answered = self.read(&record).or(question.answered);
                    }
                }
                _ => {}
            }
        }
        self.stream = Some((outgoing, incoming));
        Ok(())
    }

    async fn attach(&mut self) -> Result<(UnboundedSender<AttachRequest>, Streaming<AttachResponse>), Status> {
        report("attached", json!({ "start": self.next_seq_num }));
        let (outgoing, messages) = mpsc::unbounded_channel();
        let start = Some(ReadStart { start: Some(Start::SeqNum(self.next_seq_num)), ..Default::default() });
        let open = AttachOpen { session: self.session.clone(), start, ..Default::default() };
        _ = outgoing.send(AttachRequest { message: Some(Say::Open(open)) });
        let request = with_bearer(UnboundedReceiverStream::new(messages), &self.token);
        Ok((outgoing, self.channels.attach(request).await?.into_inner()))
    }

    /// The number of the message that the turn answered, if the record completes a turn.
    fn read(&mut self, record: &Record) -> Option<u64> {
        self.next_seq_num = record.seq_num + 1;
        let header = |name: &[u8]| {
            let found = record.headers.iter().find(|header| header.name == name);
            found.map(|header| String::from_utf8_lossy(&header.value).into_owned())
        };
        // A control record says what happened, and a record with one header without a name is a command of the log itself.
        let control = header(b"trigger-control").or_else(|| header(b""));
        let text = String::from_utf8_lossy(&record.body);
        report("record", json!({ "seq": record.seq_num, "text": text, "control": control }));
        header(b"session-in-event-id")?.parse().ok()
    }
}

async fn chat(session: String, task: &str) -> Result<(), Status> {
    let url = env::var("CONTINUO_URL").unwrap_or_default();
    let endpoint = Endpoint::from_shared(url).map_err(|error| Status::invalid_argument(error.to_string()))?;
    let channel = endpoint.connect_lazy();
    let token = create(&channel, &session, task).await?;
    let channels = ChannelServiceClient::new(channel);
    let mut chat = Chat { channels, session, token, next_seq_num: 0, stream: None };
    for line in io::stdin().lines() {
        chat.ask(line?).await?;
    }
    Ok(())
}

#[tokio::main]
async fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let (Some(session), Some(task)) = (arguments.next(), arguments.next()) else {
        eprintln!("chat <session> <task>");
        return ExitCode::from(2);
    };
    let Err(error) = chat(session, &task).await else { return ExitCode::SUCCESS };
    let info = error.get_details_error_info();
    let (reason, metadata) = info.map(|info| (info.reason, info.metadata)).unwrap_or_default();
    report("refused", json!({ "code": error.code() as i32, "reason": reason, "metadata": metadata }));
    ExitCode::FAILURE
}
