"""What the cluster has promised: everything it acknowledged, and everything that was ever asked of it."""

import hashlib
import json
from collections import defaultdict
from dataclasses import dataclass, field

from support.stubs import channel_pb2 as ch

Channel = tuple[str, str, int]  # session id, name, direction
Mark = bytes  # stands for a body, so that a long run fits into memory


# How the body of a record begins whose writer says which run it is, under which lease.
OWNED = b'{"run": '


def owned(run: str, lease: int, number: int) -> bytes:
    return json.dumps({"run": run, "lease": lease, "number": number}).encode()


def mark(body: bytes) -> Mark:
    return hashlib.blake2b(body, digest_size=16).digest()


def into(session: str, name: str = "") -> Channel:
    return session, name, ch.DIRECTION_IN


def out(session: str, name: str = "") -> Channel:
    return session, name, ch.DIRECTION_OUT


def reference(channel: Channel) -> ch.ChannelRef:
    return ch.ChannelRef(session=channel[0], name=channel[1], direction=channel[2])


@dataclass(frozen=True)
class Promise:
    """A record that was acknowledged."""

    part_id: str
    mark: Mark
    seq: int


@dataclass
class ChannelLedger:
    acknowledged: dict[int, Promise] = field(default_factory=dict)  # by number
    attempted: dict[Mark, str] = field(default_factory=dict)  # which writer
    refused: set[Mark] = field(default_factory=set)  # refused for good, with the certainty that they are not there
    seen: dict[int, tuple[Mark, int]] = field(default_factory=dict)  # what readers were shown, with its time


@dataclass
class Ledger:
    channels: dict[Channel, ChannelLedger] = field(default_factory=lambda: defaultdict(ChannelLedger))
    created: dict[str, str] = field(default_factory=dict)  # external id -> session id
    closed: dict[str, tuple[int, str]] = field(default_factory=dict)  # session id -> closed_at in ns, reason
    assigned: dict[tuple[str, int], str] = field(default_factory=dict)  # run, lease -> worker
    read: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))  # session -> numbers of .in that runs were given
    repeats: int = 0
    acknowledgements: int = 0

    def attempt(self, channel: Channel, writer: str, body: bytes) -> None:
        self.channels[channel].attempted[mark(body)] = writer

    def acknowledge(self, channel: Channel, part_id: str, body: bytes, seq: int, repeated: bool = False) -> None:
        promise = Promise(part_id, mark(body), seq)
        known = self.channels[channel].acknowledged.setdefault(seq, promise)
        assert known == promise, f"{channel}: number {seq} was given to {known.part_id} and to {part_id}"
        self.acknowledgements += 1
        self.repeats += repeated

    def refuse(self, channel: Channel, body: bytes) -> None:
        self.channels[channel].refused.add(mark(body))

    def show(self, channel: Channel, seq: int, body: bytes, timestamp: int) -> None:
        shown = (mark(body), timestamp)
        known = self.channels[channel].seen.setdefault(seq, shown)
        assert known == shown, f"{channel}: number {seq} changed after a reader had seen it"

    def assign(self, run: str, lease: int, worker: str) -> None:
        known = self.assigned.setdefault((run, lease), worker)
        assert known == worker, f"lease {lease} of {run} was given to {known} and to {worker}"

    def totals(self) -> str:
        records = sum(len(own.acknowledged) for own in self.channels.values())
        return (
            f"{self.acknowledgements} acknowledgements ({self.repeats} of repeats) of {records} records in "
            f"{len(self.channels)} channels, {len(self.created)} sessions made, {len(self.closed)} closed, "
            f"{len(self.assigned)} leases"
        )
