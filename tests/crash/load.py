"""Writers, readers and session keepers. Each works until the world stops and notes in the ledger what was promised."""

import asyncio
import itertools
import json
import random

import grpc

from ledger import Channel, Ledger
from world import CALL_S_MAX, World, raise_unless_expected, stubs

ch = stubs.channel_pb2
pb = stubs.channel_service_pb2
sessions = stubs.session_service_pb2


def reference(channel: Channel) -> ch.ChannelRef:
    return ch.ChannelRef(session=channel[0], name=channel[1], direction=channel[2])


class Bodies:
    """Bodies that never repeat, small ones mostly and now and then a large one."""

    def __init__(self, writer: str, rng: random.Random):
        self._writer, self._rng = writer, rng
        self._numbers = itertools.count()

    def next(self) -> tuple[str, bytes]:
        part_id = f"{self._writer}-{next(self._numbers)}"
        size = self._rng.choice((0, 100, 100, 1_000, 1_000, 8_000, 8_000, 60_000))
        return part_id, json.dumps({"data": "x" * size, "id": part_id}).encode()


async def write_one_by_one(world: World, ledger: Ledger, channel: Channel, writer: str, rng: random.Random) -> None:
    """One record at a time; after a failure the same one again, under the same part id."""
    bodies = Bodies(writer, rng)
    own = ledger.channels[channel]
    while not world.stopping:
        part_id, body = bodies.next()
        own.attempt(body)
        request = pb.AppendRequest(channel=reference(channel), records=[ch.NewRecord(body=body)], part_id=part_id)
        ack = await world.call(lambda s: s.channels.Append(request, metadata=s.metadata, timeout=CALL_S_MAX))
        ledger.acknowledge(channel, ack.start.seq_num, [body], ack.repeated)
        await world.made_progress()


async def write_batches(world: World, ledger: Ledger, channel: Channel, writer: str, rng: random.Random) -> None:
    """Several records at once, which have no part id: after a failure all of them are there, or none."""
    bodies = Bodies(writer, rng)
    own = ledger.channels[channel]
    while not world.stopping:
        batch = [bodies.next()[1] for _ in range(rng.randint(2, 6))]
        own.attempt_batch(batch)
        request = pb.AppendRequest(channel=reference(channel), records=[ch.NewRecord(body=body) for body in batch])
        ack = await world.try_call(lambda s: s.channels.Append(request, metadata=s.metadata, timeout=CALL_S_MAX))
        if ack is not None:
            assert ack.end.seq_num - ack.start.seq_num == len(batch)
            ledger.acknowledge(channel, ack.start.seq_num, batch, False)
            await world.made_progress()


async def write_pipelined(world: World, ledger: Ledger, channel: Channel, writer: str, rng: random.Random) -> None:
    """Up to 32 appends under way; after a failure all that were not acknowledged again, in order."""
    bodies = Bodies(writer, rng)
    own = ledger.channels[channel]
    pending: list[tuple[str, bytes]] = []

    async def produce(here):
        call = here.channels.Produce(metadata=here.metadata)
        await call.write(pb.ProduceRequest(open=pb.ProduceOpen(channel=reference(channel))))
        sent = 0
        while not world.stopping or pending:
            while sent < len(pending) or (not world.stopping and len(pending) < 32):
                if sent == len(pending):
                    pending.append(bodies.next())
                    own.attempt(pending[-1][1])
                part_id, body = pending[sent]
                append = pb.ChannelAppend(records=[ch.NewRecord(body=body)], part_id=part_id)
                await call.write(pb.ProduceRequest(append=append))
                sent += 1
            answer = await call.read()
            if answer is grpc.aio.EOF:
                raise_unless_expected(await call.code(), await call.details())
                return None
            _, body = pending.pop(0)
            sent -= 1
            ledger.acknowledge(channel, answer.ack.start.seq_num, [body], answer.ack.repeated)
            await world.made_progress()
        await call.done_writing()
        return True

    while not world.stopping or pending:
        here = await world.up()
        try:
            await produce(here)
        except grpc.aio.AioRpcError as error:
            raise_unless_expected(error.code(), error.details())
        except (asyncio.CancelledError, asyncio.InvalidStateError, grpc.aio.UsageError):
            if asyncio.current_task().cancelling():
                raise
        await asyncio.sleep(0.01)


async def follow(world: World, ledger: Ledger, channel: Channel) -> None:
    """Reads from the first record on, across every restart: each number once and in order."""
    following = 0
    while not world.stopping:
        here = await world.up()
        request = pb.ReadRequest(channel=reference(channel), start=ch.ReadStart(seq_num=following), heartbeat_ms=1_000)
        call = here.channels.Read(request, metadata=here.metadata)
        try:
            async for event in call:
                if event.HasField("gap"):
                    asked = ledger.channels[channel].trim_asked_before
                    assert event.gap.earliest_seq_num <= asked, f"{channel}: {event.gap} but nobody trimmed beyond {asked}"
                    following = event.gap.earliest_seq_num
                for record in event.batch.records:
                    assert record.seq_num == following, f"{channel}: {record.seq_num} came instead of {following}"
                    ledger.show(channel, record.seq_num, record.body, record.timestamp_ms)
                    following += 1
                if world.stopping:
                    break
        except grpc.aio.AioRpcError as error:
            raise_unless_expected(error.code(), error.details())
        except asyncio.CancelledError:
            if asyncio.current_task().cancelling():
                raise
        finally:
            call.cancel()
        await asyncio.sleep(0.01)


async def trim_now_and_then(world: World, ledger: Ledger, channel: Channel, rng: random.Random) -> None:
    """Keeps a channel short, so that segments become free while they are in use."""
    own = ledger.channels[channel]
    while not world.stopping:
        goal = max(own.acknowledged, default=0) - rng.randint(0, 50)
        if goal > own.trimmed_before:
            own.trim_asked_before = goal
            request = pb.TrimRequest(channel=reference(channel), before_seq_num=goal)
            done = await world.try_call(lambda s: s.channels.Trim(request, metadata=s.metadata, timeout=CALL_S_MAX))
            if done is not None:
                own.trimmed_before = goal
        await asyncio.sleep(0.05)


async def keep_sessions(world: World, ledger: Ledger, keeper: str) -> None:
    """Makes sessions and closes every second one."""
    for number in itertools.count():
        if world.stopping:
            return
        external_id = f"{keeper}-{number}"
        request = sessions.CreateSessionRequest(external_id=external_id, type="crash", task_identifier="nobody")
        request.trigger_config.base_payload_json = "{}"
        made = await world.call(lambda s: s.sessions.CreateSession(request, metadata=s.metadata, timeout=CALL_S_MAX))
        ledger.created[external_id] = made.session.id
        await world.made_progress()
        if number % 2:
            close = sessions.CloseSessionRequest(session=made.session.id, reason=f"reason of {external_id}")
            done = await world.call(lambda s: s.sessions.CloseSession(close, metadata=s.metadata, timeout=CALL_S_MAX))
            closed = done.session
            ledger.closed[made.session.id] = (closed.closed_at.ToNanoseconds(), closed.closed_reason)
            await world.made_progress()
