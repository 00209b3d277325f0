"""Both ends of a session's reserved pair."""

import json

from .client import Client
from .duplex import Duplex
from .stubs import channel_pb2 as ch
from .stubs import channel_service_pb2 as pb


def text_record(text: str) -> ch.NewRecord:
    return ch.NewRecord(body=text.encode())


def turn_complete(in_seq_num: int) -> ch.NewRecord:
    headers = [
        ch.Header(name=b"trigger-control", value=b"turn-complete"),
        ch.Header(name=b"session-in-event-id", value=str(in_seq_num).encode()),
    ]
    return ch.NewRecord(headers=headers)


def control(record: ch.Record) -> str | None:
    first = record.headers[0] if record.headers else None
    return first.value.decode() if first is not None and first.name == b"trigger-control" else None


def is_command(record: ch.Record) -> bool:
    return len(record.headers) == 1 and record.headers[0].name == b""


def in_channel(session: str, name: str = "") -> ch.ChannelRef:
    return ch.ChannelRef(session=session, name=name, direction=ch.DIRECTION_IN)


def out_channel(session: str, name: str = "") -> ch.ChannelRef:
    return ch.ChannelRef(session=session, name=name, direction=ch.DIRECTION_OUT)


class End:
    """One side's view: appends to its own channel, reads the other one from `next_seq_num` on."""

    def __init__(self, client: Client, session: str, next_seq_num: int = 0):
        start = ch.ReadStart(seq_num=next_seq_num)
        self._stream = Duplex(client.channels.Attach, pb.AttachRequest(open=pb.AttachOpen(session=session, start=start)))
        self._acks: list[pb.AppendResponse] = []
        self._records: list[ch.Record] = []

    def append(self, *records: ch.NewRecord, part_id: str | None = None) -> None:
        """Without waiting: any number may be under way."""
        self._stream.send(pb.AttachRequest(append=pb.ChannelAppend(records=records, part_id=part_id)))

    def say(self, text: str, part_id: str | None = None) -> None:
        self.append(text_record(text), part_id=part_id)

    def has_read(self, seq_num: int) -> None:
        self._stream.send(pb.AttachRequest(read_seq_num=seq_num))

    def ack(self) -> pb.AppendResponse:
        """The next acknowledgement, in the order of the appends."""
        while not self._acks:
            self._take()
        return self._acks.pop(0)

    def record(self) -> ch.Record:
        """The next record of the other side."""
        while not self._records:
            self._take()
        return self._records.pop(0)

    def _take(self) -> None:
        message = self._stream.receive()
        if message.HasField("ack"):
            self._acks.append(message.ack)
        elif message.HasField("batch"):
            self._records.extend(message.batch.records)

    def leave(self) -> None:
        self._stream.cancel()

    def __enter__(self) -> "End":
        return self

    def __exit__(self, *_) -> None:
        self.leave()


def data_of(record: ch.Record):
    return json.loads(record.body)
