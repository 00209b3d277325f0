"""What the server has promised: everything it acknowledged, and everything that was ever asked of it."""

import hashlib
from collections import defaultdict
from dataclasses import dataclass, field

Channel = tuple[str, str, int]  # session id, name, direction
Mark = bytes  # stands for a body, so that a long run fits into memory


def mark(body: bytes) -> Mark:
    return hashlib.blake2b(body, digest_size=16).digest()


@dataclass
class ChannelLedger:
    acknowledged: dict[int, Mark] = field(default_factory=dict)  # by number
    attempted: set[Mark] = field(default_factory=set)
    batches: list[list[Mark]] = field(default_factory=list)  # to be stored all or none
    seen: dict[int, tuple[Mark, int]] = field(default_factory=dict)  # what readers were shown, with its time
    trimmed_before: int = 0
    trim_asked_before: int = 0

    def attempt(self, *bodies: bytes) -> None:
        self.attempted.update(mark(body) for body in bodies)

    def attempt_batch(self, bodies: list[bytes]) -> None:
        self.attempt(*bodies)
        self.batches.append([mark(body) for body in bodies])


@dataclass
class Ledger:
    channels: dict[Channel, ChannelLedger] = field(default_factory=lambda: defaultdict(ChannelLedger))
    created: dict[str, str] = field(default_factory=dict)  # external id -> session id
    closed: dict[str, tuple[int, str]] = field(default_factory=dict)  # session id -> closed_at in ns, reason
    repeats: int = 0
    acknowledgements: int = 0

    def acknowledge(self, channel: Channel, seq: int, bodies: list[bytes], repeated: bool) -> None:
        own = self.channels[channel]
        for number, body in enumerate(bodies, seq):
            given = mark(body)
            known = own.acknowledged.setdefault(number, given)
            assert known == given, f"{channel}: number {number} was given to two records"
        self.acknowledgements += 1
        self.repeats += repeated

    def show(self, channel: Channel, seq: int, body: bytes, timestamp: int) -> None:
        shown = (mark(body), timestamp)
        known = self.channels[channel].seen.setdefault(seq, shown)
        assert known == shown, f"{channel}: number {seq} changed after a reader had seen it"
