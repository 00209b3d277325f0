//! Channels as S2 streams: one stream per channel, named as the channel is, in the basin that the session's row names.
//!
//! * `options`, `names`, `log`, `reach`: how it is opened, what basins are called, what it remembers. Everything remembered is
//!   bounded and may be forgotten at any time.
//! * `stream`, `provision`, `known`, `refusal`, `record`: one stream; requests to S2, what their answers mean, records with a mark.
//! * `append`, `doubt`, `debts`: exactly once, as below.
//! * `follower`, `live`: one reading of a stream's end for all followers in this process, and pages for who is behind.
//!
//! # What S2 promises and what is made of it
//!
//! An append lands whole, at one place, or not at all. It names conditions that S2 checks against everything ordered before it:
//! first the fencing token, then the number. A *fence* is a record that changes the token from its place on. A refusal is told
//! only once what it rests on is durable. Our tokens are S2's tokens, unchanged.
//!
//! Each append is a request of its own, many of them at a time over few connections. S2's append sessions would carry more, but
//! one refused append ends a session with all that came after it, and nearly all of ours name conditions: appends that have
//! nothing to do with each other would share their outcome.
//!
//! `tail` asks for the token by an append that can never land: its token is random, its number is never given. The answer
//! names the token in force. `fencing_token_hint` tells what is remembered, which may be old: good for a condition, as S2 has
//! the last word. The token in the tails of `read` and `follow` is the one last known. A trim counts at once in the process
//! that wrote it and in those that follow the channel, elsewhere when S2 has carried it out, within a second of that.
//!
//! # Exactly once
//!
//! S2 knows no part ids. So an append with a part id, and every append of data to the reserved `.in`, has a *claim*: a row,
//! one for each part id of a channel, with the digest of the record, a *mark* that no other claim ever has, and a number below
//! which the record is not. The record carries the mark in a last header that no reader sees.
//!
//! **Writing.** *Learn* a token, then *own* the claim, then *append* naming that token; in this order, each done before the
//! next begins. To own is to make the row, or to put a new mark in it under the condition that the old one is still there.
//! A writer that is refused for its token has learned another one, and owns again, under a new mark, before it goes on. The
//! empty token may be named without having been learned: it is in force until the first fence.
//!
//! **Taking over** a claim that is not settled, from a writer that may be slow, cut off or gone: *read the row*, then *fence*
//! (an append of a renewed token under the condition of the one in force), then *search* for the mark up to the fence's own
//! place. Found: that is the outcome. Not found: *own* the claim by replacing exactly the row that was read, or delete it
//! so. If the row has changed, nothing was decided.
//!
//! **Why no part id has two records.** Let W be a writer that owned the claim with mark m before T read the row with mark m, and
//! let T's fence stand at F. W learned its token before it owned, so before T read, so before F was written. A token that was
//! in force before F is not in force after it, for the fence changes it and tokens never come back: versions, leases and
//! renewals only rise. So an append of W under mark m stands before F or is refused for ever, however long it was on its way.
//! T searched all of the log before F and acts on what it saw: the record is there, or it never will be. Should W go on
//! under a token that it learned later, it has to own first; either that comes before T's replacing, which then fails, or
//! after it, and then W's fails. In both cases one of them owns the row, and only that one may write. By induction over the owners
//! of a row, an owner writes only when no earlier owner's record is or will be there.
//!
//! **Why no answer is wrong.** An acknowledgement names its place. A record found by its mark is the one that was claimed, and a
//! repeat is compared with it by its digest. An append whose answer was lost is searched for, and if it is not there its own
//! writer takes it over and tries again; only if S2 or the database stay away is the outcome unknown, and then the claim
//! stays: `owed` finds it. A settled row names a place for good; if that was trimmed, the part id is free, and its row replaced.
//!
//! **Without room.** A record within some 60 bytes of the limit, or a command with a part id, carries no mark. Its claim names its exact
//! number, which is also a condition of its append, and it is known by number and digest. What remains is one case: two such
//! records, the same to the last byte, under two part ids, written at the same moment for the same number, the
//! acknowledgement of the second lost: they may be taken for one. Records of this size have claims on every channel, so that no
//! other is mistaken for them.
//!
//! **Repeats** wait for the first writer as long as that may still be on its way ([`Options::repeat_patience`]), looking for
//! its record and its row, before they shut it out. Within one process they know whether it is.
//!
//! # Deleting
//!
//! S2 acknowledges a deletion when the stream can no longer be read or written, and clears it in its own time. A name that
//! is used again before that waits. Followers in other processes see the end in the stream itself.
#![warn(missing_docs)]

mod append;
mod channel_store;
mod debts;
mod delete;
mod doubt;
mod follower;
mod import;
mod known;
mod live;
mod log;
mod names;
mod options;
mod provision;
mod reach;
mod record;
mod refusal;
mod remembered;
mod stream;
mod written;

pub use log::{APPEND_INFLIGHT_BYTES, S2Log};
pub use options::{
    APPEND_TIMEOUT_DEFAULT, BASIN_PREFIX_BYTES_MAX, Endpoint, OUTAGE_DEFAULT, Options, REPEAT_PATIENCE_DEFAULT,
};

#[cfg(test)]
#[path = "../../../tests/it/contract/channel_store.rs"]
mod contract;
#[cfg(test)]
mod tests;
