"""Compares what the server has now with what it promised."""

from dataclasses import dataclass

import grpc

from ledger import Channel, ChannelLedger, Ledger, Mark, mark
from load import ch, pb, reference, sessions
from world import CALL_S_MAX, World


@dataclass(frozen=True, slots=True)
class Stored:
    """A record as it lies in the channel."""

    seq: int
    timestamp: int
    mark: Mark
    is_command: bool

    @classmethod
    def of(cls, record: ch.Record) -> "Stored":
        is_command = len(record.headers) == 1 and record.headers[0].name == b""
        return cls(record.seq_num, record.timestamp_ms, mark(record.body), is_command)


async def audit(world: World, ledger: Ledger) -> int:
    """Raises on the first broken promise. How many records were looked at."""
    records = 0
    for channel, own in ledger.channels.items():
        records += check_channel(channel, own, await read_all(world, channel))
    await check_sessions(world, ledger)
    return records


async def read_all(world: World, channel: Channel) -> list[Stored]:
    here = await world.up()
    tail = (await here.channels.CheckTail(pb.CheckTailRequest(channel=reference(channel)), metadata=here.metadata)).tail
    request = pb.ReadRequest(channel=reference(channel))
    call = here.channels.Read(request, metadata=here.metadata, timeout=120)
    records: list[Stored] = []
    if tail.seq_num > 0:
        async for event in call:
            records.extend(map(Stored.of, event.batch.records))
            if records and records[-1].seq + 1 >= tail.seq_num:
                break
    call.cancel()
    return records


def check_channel(channel: Channel, own: ChannelLedger, records: list[Stored]) -> int:
    by_seq = {record.seq: record for record in records}
    numbers = [record.seq for record in records]
    earliest = numbers[0] if numbers else 0
    assert numbers == list(range(earliest, earliest + len(numbers))), f"{channel}: the numbers have gaps"
    assert own.trimmed_before <= earliest <= own.trim_asked_before, (
        f"{channel}: begins at {earliest}, was trimmed up to {own.trimmed_before}..{own.trim_asked_before}"
    )
    times = [record.timestamp for record in records]
    assert times == sorted(times), f"{channel}: a time fell"

    for seq, given in own.acknowledged.items():
        if seq >= earliest:
            assert seq in by_seq, f"{channel}: record {seq} was acknowledged and is lost; the tail is {earliest + len(numbers)}"
            assert by_seq[seq].mark == given, f"{channel}: record {seq} was acknowledged with another body"
    for seq, shown in own.seen.items():
        if seq >= earliest:
            assert seq in by_seq, f"{channel}: a reader has seen record {seq}, which is lost"
            now = (by_seq[seq].mark, by_seq[seq].timestamp)
            assert now == shown, f"{channel}: a reader has seen another record {seq}"

    stored = {record.mark: record.seq for record in records if not record.is_command}
    commands = sum(record.is_command for record in records)
    assert len(stored) + commands == len(records), f"{channel}: a record is there twice"
    unknown = [seq for given, seq in stored.items() if given not in own.attempted]
    assert not unknown, f"{channel}: nobody wrote the records {unknown}"
    check_batches(channel, own, stored, earliest)
    return len(records)


def check_batches(channel: Channel, own: ChannelLedger, stored: dict[Mark, int], earliest: int) -> None:
    for batch in own.batches:
        found = [stored.get(given) for given in batch]
        if all(seq is None for seq in found):
            continue
        whole = None not in found and found == list(range(found[0], found[0] + len(batch)))
        cut_by_trim = own.trim_asked_before > 0 and earliest in found
        assert whole or cut_by_trim, f"{channel}: a batch is there in part: {found}"


async def check_sessions(world: World, ledger: Ledger) -> None:
    here = await world.up()
    for external_id, session_id in ledger.created.items():
        request = sessions.GetSessionRequest(session=external_id)
        row = (await here.sessions.GetSession(request, metadata=here.metadata, timeout=CALL_S_MAX)).session
        assert row.id == session_id, f"{external_id} was {session_id} and is {row.id}"
    for session_id, promised in ledger.closed.items():
        request = sessions.GetSessionRequest(session=session_id)
        row = (await here.sessions.GetSession(request, metadata=here.metadata, timeout=CALL_S_MAX)).session
        assert (row.closed_at.ToNanoseconds(), row.closed_reason) == promised, f"{session_id}: the close changed"
        channel = ch.ChannelRef(session=session_id, direction=ch.DIRECTION_IN)
        append = pb.AppendRequest(channel=channel, records=[ch.NewRecord(body=b"too late")])
        try:
            await here.channels.Append(append, metadata=here.metadata, timeout=CALL_S_MAX)
        except grpc.aio.AioRpcError as error:
            assert error.code() == grpc.StatusCode.FAILED_PRECONDITION, f"{session_id}: {error.code()} {error.details()}"
        else:
            raise AssertionError(f"{session_id} is closed and took a record")
