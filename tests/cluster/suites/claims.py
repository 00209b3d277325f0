"""A dead session, and everybody at once."""

import asyncio
import json
import time

from ledger import into
from support.stubs import session_service_pb2 as sessions
from worker import Execution, Worker
from world import World, append, cancel, create, create_request, new_name, row_of, say

TASK = "claimed"
AT_ONCE = 64
CONNECTIONS_PER_REPLICA = 2


async def of_64_at_once_on_a_dead_session_one_starts_the_run(world: World) -> None:
    cluster, rounds = world.cluster, world.options.rounds
    clients = [client for _ in range(CONNECTIONS_PER_REPLICA) for client in cluster.clients()]
    over: dict[str, asyncio.Event] = {}

    async def execute(run: Execution) -> None:
        # While the round lasts, its run lives; then it reads everything, so that nothing is left to boot another for.
        if run.session in over:
            await over[run.session].wait()
        async for _ in run.read(idle_ms=50):
            pass

    workers = [Worker(world, client, new_name("claims"), TASK, execute, 1_000) for client in cluster.clients()]
    began = time.monotonic()
    for number in range(rounds):
        world.rng.shuffle(clients)
        await one_round(world, clients, new_name(f"claims-{number}"), over)
        for worker in workers:
            worker.check()
    took = time.monotonic() - began
    extra = await cluster.services.sql(
        f"select session_id, count(*) from run where task_identifier = '{TASK}' group by session_id having count(*) <> 2"
    )
    assert not extra, f"losers left runs: {extra[:3]}"
    for worker in workers:
        await worker.kill()
    say(f"{rounds} rounds of {AT_ONCE} at once over {len(cluster.replicas)} replicas in {took:.1f} s")


async def one_round(world: World, clients: list, name: str, over: dict[str, asyncio.Event]) -> None:
    made = await create(world, clients[0], name, TASK)
    session = made.session.id
    await cancel(clients[1], made.run_id)
    over[session] = asyncio.Event()

    async def enter(number: int):
        client = clients[number % len(clients)]
        if number % 2:
            return (await client.call(lambda c: c.sessions.CreateSession, create_request(name, TASK))).run_id
        body = json.dumps({"data": f"{name} {number}"}).encode()
        await append(world, client, into(session), f"{name}-{number}", f"part-{number}", body)

    answers = await asyncio.gather(*map(enter, range(AT_ONCE)))
    told = {run for run in answers if run is not None}
    row = await row_of(clients[2], session)
    assert row.current_run_version == 2, f"{session}: the version is {row.current_run_version} after one round"
    assert told == {row.current_run_id}, f"{session}: creates were told {told}, and the run is {row.current_run_id}"
    audit = (await clients[3].call(lambda c: c.sessions.ListSessionRuns, sessions.ListSessionRunsRequest(session=session))).session_runs
    assert [(a.run_id, a.version) for a in audit] == [(made.run_id, 1), (row.current_run_id, 2)], f"{session}: {audit}"
    over[session].set()


SCENARIOS = [of_64_at_once_on_a_dead_session_one_starts_the_run]
