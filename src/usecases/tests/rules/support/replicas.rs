//! What replicas share beside their stores: a way for hints, and leases that a test gives out.

use async_trait::async_trait;
use continuo_domain::error::Cause;
use continuo_domain::{Error, Result};
use continuo_ports::{Hint, Hints, Leases};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;

/// Between all cores of a world, in the order they were made: the first is 0.
pub(crate) struct Replicas {
    said: broadcast::Sender<(Option<usize>, Option<Hint>)>,
    is_cut: AtomicBool,
    leases: Mutex<HashMap<&'static str, Owner>>,
    asked: Mutex<HashMap<(usize, &'static str), usize>>,
    seats: AtomicUsize,
}

/// Who has a lease. One that no test has spoken of is everybody's.
#[derive(Clone, Copy)]
pub(crate) enum Owner {
    Replica(usize),
    /// The store of leases does not answer.
    Nobody,
}

impl Replicas {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            said: broadcast::Sender::new(1_024),
            is_cut: AtomicBool::default(),
            leases: Mutex::default(),
            asked: Mutex::default(),
            seats: AtomicUsize::default(),
        })
    }

    pub(super) fn seat(self: &Arc<Self>) -> Arc<Seat> {
        Arc::new(Seat { number: self.seats.fetch_add(1, Ordering::Relaxed), replicas: self.clone() })
    }

    /// Hints are lost from here on.
    pub(crate) fn cut(&self) {
        self.is_cut.store(true, Ordering::SeqCst);
    }

    /// Hints arrive again, and everybody is told that some did not.
    pub(crate) fn mend(&self) {
        self.is_cut.store(false, Ordering::SeqCst);
        let _ = self.said.send((None, None));
    }

    /// From here on the lease is theirs alone.
    pub(crate) fn give(&self, lease: &'static str, owner: Owner) {
        self.leases.lock().insert(lease, owner);
    }

    /// How often a replica has asked for a lease.
    pub(crate) fn asked(&self, replica: usize, lease: &'static str) -> usize {
        self.asked.lock().get(&(replica, lease)).copied().unwrap_or_default()
    }

    /// How many of them listen.
    pub(crate) fn listeners(&self) -> usize {
        self.said.receiver_count()
    }
}

/// A replica's place.
pub(super) struct Seat {
    number: usize,
    replicas: Arc<Replicas>,
}

#[async_trait]
impl Hints for Seat {
    async fn send(&self, hints: Vec<Hint>) {
        if !self.replicas.is_cut.load(Ordering::SeqCst) {
            for hint in hints {
                // No receiver is an ordinary state.
                let _ = self.replicas.said.send((Some(self.number), Some(hint)));
            }
        }
    }

    fn receive(&self) -> BoxStream<'static, Option<Hint>> {
        let own = Some(self.number);
        let said = BroadcastStream::new(self.replicas.said.subscribe());
        let heard = said.filter_map(move |said| async move {
            match said {
                Ok((sender, _)) if sender == own => None,
                Ok((_, hint)) => Some(hint),
                Err(_) => Some(None),
            }
        });
        stream::once(async { None }).chain(heard).boxed()
    }
}

#[async_trait]
impl Leases for Seat {
    async fn hold(&self, name: &'static str, _ttl: Duration) -> Result<bool> {
        *self.replicas.asked.lock().entry((self.number, name)).or_default() += 1;
        match self.replicas.leases.lock().get(name) {
            Some(Owner::Nobody) => Err(Error::Unavailable(Cause::new("down"))),
            Some(Owner::Replica(number)) => Ok(*number == self.number),
            None => Ok(true),
        }
    }

    async fn release_all(&self) {}
}
