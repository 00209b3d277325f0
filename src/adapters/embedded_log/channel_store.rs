//! The port, on the embedded log.

use crate::follower;
use crate::frame;
use crate::intake::{AppendJob, INTAKE_BYTES_MAX, Probe, Reply, Taken, Work};
use crate::log::EmbeddedLog;
use crate::reader::{self, Found};
use crate::shared::{Shared, blocking};
use crate::stream::Stream;
use async_trait::async_trait;
use continuo_domain::channel::{
    Append, Appended, ChannelKey, NewRecord, PartId, Position, ReadFrom, Record, SeqNum, Tail,
};
use continuo_domain::error::Cause;
use continuo_domain::{Error, Result, SessionId};
use continuo_ports::{ChannelStore, ReadEvent, WrittenChannel, WrittenPage};
use futures_util::stream::BoxStream;
use std::sync::Arc;
use tokio::sync::oneshot;

#[async_trait]
impl ChannelStore for EmbeddedLog {
    async fn append(&self, channel: &ChannelKey, append: Append) -> Result<Appended> {
        append.check()?;
        self.shared().append(channel.to_string(), append).await
    }

    async fn follow(&self, channel: &ChannelKey, from: ReadFrom) -> Result<BoxStream<'static, Result<ReadEvent>>> {
        let shared = self.shared();
        let stream = shared.stream(&channel.to_string()).await?;
        let (next, _) = shared.resolve(&stream, from).await?;
        Ok(follower::follow(shared.clone(), stream, next))
    }

    async fn read(&self, channel: &ChannelKey, from: ReadFrom) -> Result<(Vec<Record>, Tail)> {
        let shared = self.shared();
        let stream = shared.stream(&channel.to_string()).await?;
        shared.read(stream, from).await
    }

    async fn tail(&self, channel: &ChannelKey) -> Result<Tail> {
        let stream = self.shared().stream(&channel.to_string()).await?;
        let tail = stream.state.lock().meta.tail();
        Ok(tail)
    }

    async fn part(&self, channel: &ChannelKey, part_id: &PartId) -> Result<Option<SeqNum>> {
        let shared = self.shared();
        let stream = shared.stream(&channel.to_string()).await?;
        let (hot, earliest) = {
            let state = stream.state.lock();
            (state.hot_part(part_id.as_str()), state.meta.earliest)
        };
        let found = match hot {
            Some(seq_num) => Some(seq_num),
            None => shared.probe(&stream, part_id).await?.found(),
        };
        Ok(found.filter(|&seq_num| seq_num >= earliest))
    }

    async fn written(&self, session: &SessionId, page: WrittenPage<'_>) -> Result<Vec<WrittenChannel>> {
        self.shared().written(session, page).await
    }

    async fn delete(&self, session: &SessionId) -> Result<()> {
        let (done, outcome) = oneshot::channel();
        self.shared().intake.push(Work::Delete { prefix: format!("{session}/"), done })?;
        outcome.await.unwrap_or_else(|_| Err(unknown()))
    }
}

impl Shared {
    /// The stream of a channel, loaded if need be.
    async fn stream(self: &Arc<Self>, name: &str) -> Result<Arc<Stream>> {
        if let Some(stream) = self.registry.get(name) {
            return Ok(stream);
        }
        if self.is_stopped() {
            return Err(Error::Stopping);
        }
        let (shared, name) = (self.clone(), name.to_owned());
        blocking(move || shared.registry.load(&name, &shared.index)).await
    }

    async fn append(self: &Arc<Self>, name: String, mut append: Append) -> Result<Appended> {
        loop {
            let stream = self.stream(&name).await?;
            let frame_bytes_max = frame_bytes_max(&name, &append);
            append = match self.append_to(&stream, append, frame_bytes_max).await? {
                Reply::Done(appended) => return Ok(appended),
                Reply::Failed(error) => return Err(error),
                Reply::Again(append) => append,
                Reply::Known { append, seq_num } => match self.repeated(stream, &append, seq_num).await? {
                    Some(appended) => return Ok(appended),
                    // Trimmed or deleted meanwhile, and the part id with it.
                    None => append,
                },
            };
        }
    }

    async fn append_to(
        self: &Arc<Self>,
        stream: &Arc<Stream>,
        append: Append,
        frame_bytes_max: usize,
    ) -> Result<Reply> {
        let permits = u32::try_from(frame_bytes_max.min(INTAKE_BYTES_MAX)).unwrap_or(u32::MAX);
        let permit = self.intake_bytes.clone().acquire_many_owned(permits).await;
        let permit = permit.map_err(|_| self.intake.closed().unwrap_or(Error::Stopping))?;
        let probe = match &append.part_id {
            Some(part_id) => self.probe(stream, part_id).await?,
            None => Probe::None,
        };
        let now = (self.clock)();
        let job = AppendJob { stream: stream.clone(), append, frame_bytes_max, probe, now, permit };
        match self.intake.append(job)? {
            Taken::AtOnce(reply) => Ok(reply),
            Taken::Later(reply) => reply.await.map_err(|_| unknown()),
            Taken::AfterDelete(append, over) => {
                // Never given a permit; it ends when it is closed.
                drop(over.acquire().await);
                Ok(Reply::Again(append))
            }
        }
    }

    /// Asks the index for a part id, if it may know one of this stream.
    async fn probe(self: &Arc<Self>, stream: &Arc<Stream>, part_id: &PartId) -> Result<Probe> {
        let (id, evictions) = {
            let state = stream.state.lock();
            match state.id {
                Some(id) if state.indexed_parts => (id, state.evictions),
                _ => return Ok(Probe::None),
            }
        };
        let (shared, part_id) = (self.clone(), part_id.clone());
        let found = blocking(move || shared.index.part(id, part_id.as_str())).await?;
        Ok(Probe::Asked { evictions, found })
    }

    /// The first outcome of a part id, if the record is the same; `None` if it has gone meanwhile.
    async fn repeated(
        self: &Arc<Self>,
        stream: Arc<Stream>,
        append: &Append,
        seq_num: SeqNum,
    ) -> Result<Option<Appended>> {
        let shared = self.clone();
        let (stored, tail) = blocking(move || {
            let stored = reader::read_one(&shared, &stream, seq_num)?;
            let tail = stream.state.lock().meta.position();
            Ok((stored, tail))
        })
        .await?;
        let Some(stored) = stored else { return Ok(None) };
        let is_same = matches!(append.records.as_slice(), [new] if is_same(new, &stored));
        if !is_same {
            return Err(Error::PartIdReused { seq_num });
        }
        let start = stored.position();
        let end = Position { seq_num: seq_num + 1, ..start };
        Ok(Some(Appended { start, end, tail, repeated: true, debt: None }))
    }

    /// Only a start by time may have to ask the index.
    async fn resolve(self: &Arc<Self>, stream: &Arc<Stream>, from: ReadFrom) -> Result<(SeqNum, Tail)> {
        let (shared, stream) = (self.clone(), stream.clone());
        match from.start {
            continuo_domain::channel::ReadStart::Timestamp(_) => {
                blocking(move || reader::resolve(&shared, &stream, &from)).await
            }
            _ => reader::resolve(&shared, &stream, &from),
        }
    }

    async fn read(self: &Arc<Self>, stream: Arc<Stream>, from: ReadFrom) -> Result<(Vec<Record>, Tail)> {
        let shared = self.clone();
        blocking(move || {
            let (mut next, tail) = reader::resolve(&shared, &stream, &from)?;
            loop {
                match reader::read(&shared, &stream, next)? {
                    // Taken after the records, so that none of them lies beyond it.
                    Found::Records(records) => return Ok((records, stream.state.lock().meta.tail())),
                    Found::Tail => return Ok((Vec::new(), tail)),
                    Found::Trimmed(earliest) => next = earliest,
                }
            }
        })
        .await
    }
}

impl Probe {
    fn found(self) -> Option<SeqNum> {
        match self {
            Self::None => None,
            Self::Asked { found, .. } => found,
        }
    }
}

fn frame_bytes_max(name: &str, append: &Append) -> usize {
    let part_id = append.part_id.as_ref().map(PartId::as_str);
    let records: usize = append.records.iter().map(|record| frame::record_bytes_max(record, part_id)).sum();
    frame::open_bytes(name) + records
}

fn is_same(new: &NewRecord, stored: &Record) -> bool {
    new.headers == stored.headers && new.body == stored.body
}

fn unknown() -> Error {
    Error::OutcomeUnknown(Cause::new("the committer ended before it answered"))
}
