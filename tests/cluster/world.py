"""What a scenario is given, and the calls that most of them make. Whatever is acknowledged here is in the ledger."""

import asyncio
import itertools
import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from harness import rest
from harness.calls import Client, forever_retried
from harness.cluster import Cluster
from ledger import Channel, Ledger, into, reference
from support.stubs import channel_pb2 as ch
from support.stubs import channel_service_pb2 as pb
from support.stubs import run_service_pb2 as runs
from support.stubs import session_pb2
from support.stubs import session_service_pb2 as sessions

NOBODY = "nobody"
ATTEMPTS_MAX = 10


@dataclass
class World:
    cluster: Cluster
    rng: random.Random
    options: object
    ledger: Ledger = field(default_factory=Ledger)

    def dice(self) -> random.Random:
        return random.Random(self.rng.getrandbits(64))


def say(text: str) -> None:
    print(f"   {text}", flush=True)


def new_name(prefix: str) -> str:
    return f"{prefix}-{uuid.uuid4()}"


def create_request(name: str, task: str = NOBODY) -> sessions.CreateSessionRequest:
    config = session_pb2.TriggerConfig(base_payload_json="{}", max_attempts=ATTEMPTS_MAX)
    return sessions.CreateSessionRequest(external_id=name, type="cluster", task_identifier=task, trigger_config=config)


async def create(world: World, client: Client, name: str, task: str = NOBODY) -> sessions.CreateSessionResponse:
    made = await client.call(lambda c: c.sessions.CreateSession, create_request(name, task))
    known = world.ledger.created.setdefault(name, made.session.id)
    assert known == made.session.id, f"{name} is {known} and {made.session.id}"
    return made


async def close(world: World, client: Client, session: str, reason: str) -> session_pb2.Session:
    request = sessions.CloseSessionRequest(session=session, reason=reason)
    row = (await client.call(lambda c: c.sessions.CloseSession, request)).session
    promised = (row.closed_at.ToNanoseconds(), row.closed_reason)
    known = world.ledger.closed.setdefault(session, promised)
    assert known == promised, f"{session}: two closes came first"
    return row


async def cancel(client: Client, run: str) -> None:
    await client.call(lambda c: c.runs.CancelRun, runs.CancelRunRequest(run_id=run))


async def row_of(client: Client, session: str) -> session_pb2.Session:
    return (await client.call(lambda c: c.sessions.GetSession, sessions.GetSessionRequest(session=session))).session


async def append(
    world: World, client: Client, channel: Channel, writer: str, part_id: str, body: bytes, *also: str
) -> pb.AppendResponse:
    """Until it is acknowledged, under the same part id. A refusal for a reason in `also` is raised."""
    world.ledger.attempt(channel, writer, body)
    request = pb.AppendRequest(channel=reference(channel), records=[ch.NewRecord(body=body)], part_id=part_id)
    ack = await client.call(lambda c: c.channels.Append, request, *also)
    world.ledger.acknowledge(channel, part_id, body, ack.start.seq_num, ack.repeated)
    return ack


async def append_by_rest(world: World, session: str, writer: str, part_id: str, text: str) -> int:
    """The same over HTTP, to `.in`."""
    body = f'{{"data":"{text}","id":"{part_id}"}}'.encode()
    channel = into(session)
    world.ledger.attempt(channel, writer, body)
    headers = {"Authorization": f"Bearer {world.cluster.keys.dev}", "X-Part-Id": part_id}

    async def attempt() -> rest.Answer:
        path = f"/realtime/v1/sessions/{session}/in/append"
        answer = await rest.request(world.cluster.balancer.address, "POST", path, headers, text.encode(), within_s=10)
        if answer.status != 200:
            raise rest.Refused(answer)
        return answer

    answer = await forever_retried(world.cluster.heard, attempt)
    seq = int(answer.body.rpartition(b'"seq":')[2].strip(b"}"))
    world.ledger.acknowledge(channel, part_id, body, seq)
    return seq


class Writer:
    """Appends records that never repeat, one after the other."""

    def __init__(self, world: World, client: Client, channel: Channel, name: str):
        self._world, self.client, self._channel, self.name = world, client, channel, name
        self._numbers = itertools.count()

    def next(self) -> tuple[str, bytes]:
        part_id = f"{self.name}-{next(self._numbers)}"
        return part_id, f'{{"data":"{part_id} {"x" * 40}","id":"{part_id}"}}'.encode()

    async def write(self, *also: str) -> pb.AppendResponse:
        return await append(self._world, self.client, self._channel, self.name, *self.next(), *also)

    async def write_until(self, is_over: Callable[[], bool], pause_s: float) -> None:
        while not is_over():
            await self.write()
            await asyncio.sleep(pause_s)


async def poll(look: Callable, what: str, within_s: float = 30, every_s: float = 0.02):
    """Looks until there is something to see."""
    deadline = asyncio.get_running_loop().time() + within_s
    while not (found := await look()):
        assert asyncio.get_running_loop().time() < deadline, f"not within {within_s:.0f} s: {what}"
        await asyncio.sleep(every_s)
    return found
