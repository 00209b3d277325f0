"""Replicas die, sleep and go while they follow the log."""

import asyncio
import time

from harness import rest
from harness.psql import Psql
from harness.replicas import LEASE_MS, Replica
from index.churn import rows
from index.stage import Stage
from support.stubs import session_service_pb2 as sessions
from world import World, create_request, new_name, say

# How often replicas are asked who leads while nothing happens.
LOOKS = 10
SLEEPS = 2
# As long as a stop may take, and what it needs besides.
STOP_WITHIN_S = 20


async def one_of_them_leads_and_another_takes_over(world: World) -> None:
    stage, cluster = Stage(world), world.cluster
    async with stage.writers(reads=True):
        leader = await stage.leader()
        for _ in range(LOOKS):
            leaders = await stage.leaders()
            assert leaders == [leader], [replica.name for replica in leaders]
            await asyncio.sleep(0.1)
        took = []
        # Down to the last of them, and back.
        for _ in cluster.replicas[1:]:
            began = time.monotonic()
            await leader.kill()
            leader = await stage.leader()
            took.append(time.monotonic() - began)
            await stage.appears_at_once()
        say("taken over after " + ", ".join(f"{t:.1f}" for t in took) + f" s; {leader.name} is the last")
        await start_all(cluster.replicas)
        assert await stage.leaders() == [leader], "it goes on leading when others come"
        await stage.appears_at_once()
    await stage.until_equal("after the takeovers")


async def start_all(replicas: list[Replica]) -> None:
    await asyncio.gather(*(replica.start() for replica in replicas if not replica.is_running))


async def the_leader_is_killed_again_and_again(world: World) -> None:
    """Inserts, updates, deletes and long values go on meanwhile."""
    stage, cluster, kills = Stage(world), world.cluster, world.options.worker_kills
    async with stage.writers(count=3, pause_s=0.01, reads=False) as writers:
        coming = []
        for _ in range(kills):
            leader = await stage.leader()
            await asyncio.sleep(world.rng.uniform(0, 0.6))
            await leader.kill()
            coming.append(asyncio.create_task(leader.start()))
            await asyncio.sleep(0)
            await asyncio.gather(*coming[:-1])
            coming = coming[-1:]
            for writer in writers:
                writer.check()
        await asyncio.gather(*coming)
        did = sum((writer.did for writer in writers), start=type(writers[0].did)())
    say(f"{kills} kills under " + ", ".join(f"{what} {count}" for what, count in sorted(did.items())))
    await stage.until_equal(f"after {kills} kills of whoever led")


async def a_leader_sleeps_and_goes_on_as_if_nothing_had_been(world: World) -> None:
    stage = Stage(world)
    async with stage.writers(reads=False):
        for _ in range(SLEEPS):
            leader = await stage.leader()
            leader.freeze()
            try:
                await asyncio.sleep(LEASE_MS / 1000 + world.rng.uniform(1, 3))
            finally:
                leader.thaw()
            await asyncio.sleep(0.5)
    await stage.leader()
    await stage.until_equal("after the leader slept")


async def a_replica_stops_while_a_transaction_is_open(world: World) -> None:
    """It waits for nobody's commit, and whoever comes next has the transaction whole."""
    stage, cluster = Stage(world), world.cluster
    template = await stage.template()
    name = f"openx{world.rng.getrandbits(32):08x}"
    async with Psql(cluster.services.database_url()) as held:
        await held.do(f"begin; {rows(name, template, 1, 50)}")
        async with stage.writers():
            await asyncio.sleep(1)
            # Every one of them, so that each was the one at some time; the last two while nobody takes over.
            for replica in cluster.replicas[:-1]:
                leader = await stage.leader()
                began = time.monotonic()
                await leader.stop()
                assert time.monotonic() - began < STOP_WITHIN_S, f"it took {time.monotonic() - began:.1f} s to stop"
                await stage.leader()
                await leader.start()
                assert replica.is_running
        await held.do(f"{rows(name, template, 51, 60)} update session set tags = '[\"late\"]' where id like 'session_{name}%'; commit")
    await stage.until_equal("after stops with a transaction open")
    count = await stage.ask(f"SELECT count() FROM trigger_dev.sessions_v1 FINAL WHERE session_id LIKE 'session_{name}%' AND has(tags, 'late')")
    assert count == "60", f"{count} of 60 rows of the open transaction are in the index"


async def all_replicas_stop_and_nothing_is_left_behind(world: World) -> None:
    """A stop stores what was read and says so to Postgres: with nobody writing, nothing is read twice."""
    stage, cluster = Stage(world), world.cluster
    async with stage.writers(reads=False):
        await asyncio.sleep(1)
    await asyncio.gather(*(replica.stop() for replica in cluster.replicas))
    slot = await stage.slot()
    say(f"stopped with {slot['unconfirmed']} bytes of the log to read again")
    await cluster.services.sql_do(f"update session set tags = '[\"alone\"]' where id in (select id from session limit 100)")
    await start_all(cluster.replicas)
    await stage.until_equal("after all were away")


async def a_list_can_wait_for_what_is_there(world: World) -> None:
    """With `now`, a list tells of a position that is not behind any earlier answer, on any replica."""
    stage, cluster = Stage(world), world.cluster
    headers = {"Authorization": f"Bearer {cluster.keys.dev}"}
    last = ""
    async with stage.writers():
        await stage.leader()
        for number in range(12):
            replica = cluster.replicas[number % len(cluster.replicas)]
            wait = {"continuo-wait-as-of": "now" if number % 2 == 0 else last}
            answer = await rest.request(replica.address, "GET", "/api/v1/sessions", {**headers, **wait}, within_s=20)
            assert answer.status == 200, answer
            told = answer.headers["continuo-as-of"]
            assert place(told) >= place(last), f"{told} came after {last}"
            last = told
    await stage.until_equal("after lists that waited")


async def a_deleted_session_leaves_every_list(world: World) -> None:
    """At once, on every replica, and soon it is not in the index either."""
    stage, cluster = Stage(world), world.cluster
    await stage.template()
    clients = [cluster.client_of(replica) for replica in cluster.replicas]
    name = new_name("deleted")
    made = await clients[0].call(lambda c: c.sessions.CreateSession, create_request(name))
    await stage.until_equal("with a session that will be deleted")
    await clients[0].call(lambda c: c.sessions.DeleteSession, sessions.DeleteSessionRequest(session=made.session.id))
    for client in clients:
        for request in (sessions.ListSessionsRequest(page_size=100), sessions.ListSessionsRequest(filter={"external_id": name})):
            listed = (await client.call(lambda c: c.sessions.ListSessions, request)).sessions
            assert made.session.id not in [row.id for row in listed], f"{name} was deleted and is listed"
    await stage.until_equal("after it was deleted")


def place(text: str) -> tuple[int, int]:
    epoch, _, lsn = text.partition("-")
    return (int(epoch, 16), int(lsn, 16)) if text else (0, 0)


SCENARIOS = [
    one_of_them_leads_and_another_takes_over,
    a_list_can_wait_for_what_is_there,
    a_deleted_session_leaves_every_list,
    the_leader_is_killed_again_and_again,
    a_leader_sleeps_and_goes_on_as_if_nothing_had_been,
    a_replica_stops_while_a_transaction_is_open,
    all_replicas_stop_and_nothing_is_left_behind,
]
