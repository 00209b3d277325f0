"""Closes, fences and waits of which one half happens on one replica and the other half on another."""

import asyncio
import time

import grpc
from harness.calls import reason_of
from ledger import into, out, owned
from support.stubs import session_service_pb2 as sessions
from worker import Execution, Worker
from world import Writer, World, append, cancel, close, create, new_name, poll, row_of, say

CLOSES = 20
HAND_OVERS = 6
WAKES = 5


async def an_append_precedes_a_close_elsewhere_or_is_refused(world: World) -> None:
    clients = world.cluster.clients()
    accepted = refused = 0
    for number in range(CLOSES):
        closer, other, *_ = world.rng.sample(clients, len(clients))
        session = (await create(world, closer, new_name("close"))).session.id
        writers = [Writer(world, client, into(session), f"{session}-{i}") for i, client in enumerate(clients)]
        writing = [asyncio.create_task(write_until_refused(world, writer, session)) for writer in writers]
        await asyncio.sleep(world.rng.uniform(0, 0.15))
        # Two closes at once have one winner, and both answer with it.
        await asyncio.gather(close(world, closer, session, "one"), close(world, other, session, "one"))
        late = [expect_refusal(world, client, session, f"late-{i}") for i, client in enumerate(clients)]
        await asyncio.gather(*late)
        accepted += sum(await asyncio.gather(*writing))
        refused += len(writers) + len(late)
    say(f"{CLOSES} closes: {accepted} appends came before, {refused} were refused")


async def write_until_refused(world: World, writer: Writer, session: str) -> int:
    accepted = 0
    while True:
        part_id, body = writer.next()
        if not await try_append(world, writer.client, session, writer.name, part_id, body):
            return accepted
        accepted += 1


async def try_append(world: World, client, session: str, writer: str, part_id: str, body: bytes) -> bool:
    try:
        await append(world, client, into(session), writer, part_id, body, "SESSION_CLOSED")
    except grpc.aio.AioRpcError as error:
        assert reason_of(error) == "SESSION_CLOSED", reason_of(error)
        world.ledger.refuse(into(session), body)
        return False
    return True


async def expect_refusal(world: World, client, session: str, part_id: str) -> None:
    was_taken = await try_append(world, client, session, part_id, part_id, f'{{"data":"{part_id}"}}'.encode())
    assert not was_taken, f"{session} took a record after its close was answered"


async def a_superseded_run_writes_no_more_anywhere(world: World) -> None:
    cluster = world.cluster
    clients = cluster.clients()
    runs: asyncio.Queue[Execution] = asyncio.Queue()
    end = asyncio.Event()

    async def execute(run: Execution) -> None:
        await run.write()
        runs.put_nowait(run)
        await end.wait()

    task = new_name("superseded")
    workers = [Worker(world, client, new_name("superseded"), task, execute) for client in cluster.clients()]
    for number in range(HAND_OVERS):
        session = (await create(world, world.rng.choice(clients), new_name("superseded"), task)).session.id
        old = await asyncio.wait_for(runs.get(), 30)
        mover = world.rng.choice(clients)
        if number % 2:
            await cancel(mover, old.id)
        else:
            request = sessions.EndAndContinueRequest(session=session, calling_run_id=old.id, reason="upgrade")
            swapped = await mover.call(lambda c: c.sessions.EndAndContinue, request)
            new = await asyncio.wait_for(runs.get(), 30)
            assert (swapped.run_id, new.session) == (new.id, session)
        for replica in cluster.replicas:
            await expect_fenced(world, cluster.client_of(replica, token_of(old)), old)
    for worker in workers:
        worker.check()
    end.set()
    for worker in workers:
        await worker.kill()
    say(f"{HAND_OVERS} runs superseded, each refused on {len(clients)} replicas")


def token_of(run: Execution) -> str:
    return run.client.metadata[0][1].removeprefix("Bearer ")


async def expect_fenced(world: World, client, run: Execution) -> None:
    part_id = new_name("ghost")
    body = owned(run.id, run.lease.lease, 1_000) + part_id.encode()
    try:
        await append(world, client, out(run.session), part_id, part_id, body, "FENCED")
    except grpc.aio.AioRpcError as error:
        assert reason_of(error) == "FENCED", reason_of(error)
        world.ledger.refuse(out(run.session), body)
    else:
        raise AssertionError(f"{run.id} was superseded and wrote a record")


async def a_wait_registered_on_one_replica_ends_by_an_append_on_another(world: World) -> None:
    services = world.cluster.services

    async def nothing() -> None:
        pass

    async def flush() -> None:
        await services.redis_do("FLUSHALL")

    async def freeze() -> None:
        services.freeze("redis")

    async def stop() -> None:
        await services.stop("redis")

    for what, disturb in (("as it is", nothing), ("flushed", flush), ("frozen", freeze), ("stopped", stop), ("back again", nothing)):
        try:
            took = [await wake(world, disturb if number == 0 else nothing) for number in range(WAKES)]
        finally:
            await services.mend("redis")
        say(f"Redis {what}: woken after " + ", ".join(f"{1000 * t:.0f}" for t in took) + " ms")


async def wake(world: World, before) -> float:
    """From the acknowledged append until the run goes on."""
    waiter, writer, *_ = world.rng.sample(world.cluster.replicas, len(world.cluster.replicas))
    client = world.cluster.client_of(writer)
    resumed = asyncio.Event()

    async def execute(run: Execution) -> None:
        if run.assignment.HasField("resumed_by"):
            resumed.set()
            async for _ in run.read(idle_ms=50):
                pass
        else:
            await run.suspend()

    task = new_name("waits")
    worker = Worker(world, world.cluster.client_of(waiter), new_name("waits"), task, execute)
    try:
        made = await create(world, client, new_name("waits"), task)

        async def is_waiting() -> bool:
            worker.check()
            rows = await world.cluster.services.sql(f"select 1 from run where id = '{made.run_id}' and status = 'WAITING_TO_RESUME'")
            return bool(rows)

        await poll(is_waiting, "the run waits", every_s=0.1)
        await before()
        writing = Writer(world, client, into(made.session.id), new_name("waker"))
        await writing.write()
        began = time.monotonic()
        await asyncio.wait_for(resumed.wait(), 30)
        took = time.monotonic() - began

        async def is_over() -> bool:
            worker.check()
            rows = await world.cluster.services.sql(f"select 1 from run where id = '{made.run_id}' and completed_at_ms is not null")
            return bool(rows)

        await poll(is_over, "the run is over", every_s=0.1)
    finally:
        await worker.kill()
    assert (await row_of(client, made.session.id)).current_run_id == made.run_id
    return took


SCENARIOS = [
    an_append_precedes_a_close_elsewhere_or_is_refused,
    a_superseded_run_writes_no_more_anywhere,
    a_wait_registered_on_one_replica_ends_by_an_append_on_another,
]
