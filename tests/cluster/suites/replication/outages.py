"""ClickHouse is away, dies, or refuses."""

import asyncio
import time

import grpc
from harness import rest
from harness.calls import Code
from harness.metrics import rss_mib
from harness.replicas import Replica
from index.churn import rows
from index.comparison import COLUMNS
from index.stage import BATCH_ROWS, FLIGHTS, INDEX, Stage
from support.stubs import session_service_pb2 as sessions
from world import World, create_request, new_name, poll, say

CLICKHOUSE_KILLS = 4
# Nothing is sent to a worker that does not read, although so much more is written.
UNSENT_BYTES = 4 << 20
BACK_PRESSURE_WITHIN_S = 90
# After 10 s it would be killed.
POSTGRES_STOPS_WITHIN_S = 8
# A batch is read until it is twice full, and so are those on their way.
BUFFERED_ROWS_MAX = 2 * BATCH_ROWS * (FLIGHTS + 1)
GROWTH_MIB_MAX = 64
LARGE_ROWS = 30_000
# Fewer would show little.
ROWS_MIN = 50
# What each column is made to be instead. Those of the order key would make another row of it.
WRONG = {
    "external_id": "concat(external_id, '?')",
    "tags": "arrayReverse(arrayPushBack(tags, 'more'))",
    "metadata": """'{"data":{"other":1}}'""",
    "closed_at": "ifNull(closed_at, created_at) + INTERVAL 1 MILLISECOND",
    "closed_reason": "concat(closed_reason, '?')",
    "expires_at": "ifNull(expires_at, created_at) + INTERVAL 1 MILLISECOND",
    "updated_at": "updated_at + INTERVAL 1 MILLISECOND",
    "is_test": "1 - is_test",
    "type": "concat(type, '?')",
    "task_identifier": "concat(task_identifier, '?')",
    "environment_type": "concat(environment_type, '?')",
    "friendly_id": "concat(friendly_id, '?')",
}


async def the_comparison_sees_every_difference(world: World) -> None:
    """The judge first: in a copy of the index, whatever is made wrong by hand has to be found."""
    stage = Stage(world)
    async with stage.writers():
        await asyncio.sleep(2)
    await stage.until_equal("after the first writers")
    await stage.ask("CREATE DATABASE judge")
    await stage.ask(f"CREATE TABLE judge.sessions_v1 AS {INDEX}.sessions_v1")
    made_wrong = [({column: wrong}, f"{column} is") for column, wrong in WRONG.items()]
    made_wrong.append(({"_is_deleted": "1"}, "is missing"))
    made_wrong.append(({"session_id": "concat(session_id, 'x')"}, "is too many"))
    made_wrong.append(({"created_at": "created_at + INTERVAL 1 MILLISECOND"}, "is too many"))
    for wrong, what in [({}, ""), *made_wrong]:
        await stage.ask("TRUNCATE TABLE judge.sessions_v1")
        await stage.ask(f"INSERT INTO judge.sessions_v1 SELECT * FROM {INDEX}.sessions_v1 FINAL")
        if wrong:
            await stage.ask(f"INSERT INTO judge.sessions_v1 {await one_row(stage, wrong)}")
        found = await stage.compare("judge")
        # A row that is there twice may differ and be too many.
        assert found.rows >= ROWS_MIN and len(wrong) <= found.differing <= 2 * len(wrong), f"{what}: {found}"
        assert what in " ".join(found.examples), f"{what}: {found}"
    await stage.ask("DROP DATABASE judge")


async def one_row(stage: Stage, wrong: dict[str, str]) -> str:
    """One row once more and newer, with these values."""
    told = await stage.ask(f"SELECT name FROM system.columns WHERE database = '{INDEX}' AND table = 'sessions_v1' ORDER BY position")
    values = ", ".join({"_version": "_version + 1", **wrong}.get(name, name) for name in told.split("\n"))
    return f"SELECT {values} FROM {INDEX}.sessions_v1 FINAL ORDER BY session_id LIMIT 1"


async def clickhouse_is_away_under_writes(world: World) -> None:
    """What is written meanwhile waits in Postgres, and not in memory."""
    stage = Stage(world)
    leader = await stage.leader()
    before = rss_mib(leader)
    await world.cluster.services.stop("clickhouse")
    began = time.monotonic()
    async with stage.writers(count=3, pause_s=0, reads=False) as writers:
        await until_nothing_is_read(stage, writers)
        say(f"back-pressure is seen after {time.monotonic() - began:.1f} s; for {world.options.outage_seconds:.0f} s it goes on")
        for writer in writers[:-1]:
            writer.pause_s = 0.2
        await lists_are_refused_and_nothing_else_is(stage, leader)
        ends_at, most, memory = time.monotonic() + world.options.outage_seconds, 0.0, 0.0
        while time.monotonic() < ends_at:
            for writer in writers:
                writer.check()
            buffered = (await stage.metrics(leader)).value("sessions_replication_buffered_rows")
            most, memory = max(most, buffered), max(memory, rss_mib(leader))
            await asyncio.sleep(0.25)
        slot = await stage.slot()
        assert most <= BUFFERED_ROWS_MAX, f"{most:.0f} rows were held in memory"
        assert memory - before < GROWTH_MIB_MAX, f"memory grew from {before:.0f} to {memory:.0f} MiB"
        assert slot["unconfirmed"] > slot["unsent"] > UNSENT_BYTES, slot
        say(f"{slot['unconfirmed'] >> 20} MiB of log wait, {most:.0f} rows in memory, {before:.0f} MiB grew to {memory:.0f} MiB")
        await postgres_stops_all_the_same(world)
        await world.cluster.services.start("clickhouse")
    await stage.until_equal("after the outage", within_s=120 + world.options.outage_seconds)


async def postgres_stops_all_the_same(world: World) -> None:
    """Its processes that send the log wait until they are read, or until nobody is there any more."""
    began = time.monotonic()
    await world.cluster.services.stop("postgres")
    took = time.monotonic() - began
    await world.cluster.services.start("postgres")
    assert took < POSTGRES_STOPS_WITHIN_S, f"Postgres took {took:.1f} s to stop"


async def until_nothing_is_read(stage: Stage, writers: list) -> None:
    """The worker leaves in the socket what it cannot store."""
    async def is_left() -> bool:
        for writer in writers:
            writer.check()
        slot = await stage.slot()
        return (slot["unsent"] or 0) > UNSENT_BYTES

    await poll(is_left, "the worker stops reading", BACK_PRESSURE_WITHIN_S, 0.2)


async def lists_are_refused_and_nothing_else_is(stage: Stage, replica: Replica) -> None:
    client, keys = stage.cluster.client_of(replica), stage.cluster.keys
    made = await client.call(lambda c: c.sessions.CreateSession, create_request(new_name("while-away")))
    assert (await client.call(lambda c: c.sessions.GetSession, sessions.GetSessionRequest(session=made.session.id))).session.id
    assert await replica.is_ready(), "a replica is not ready because lists are away"
    # Tags of a filter nobody has changed: not everything can be told from what was noted.
    request = sessions.ListSessionsRequest(page_size=100)
    try:
        await client.sessions.ListSessions(request, metadata=client.metadata, timeout=20)
    except grpc.aio.AioRpcError as error:
        assert error.code() is Code.UNAVAILABLE, error
    else:
        raise AssertionError("a list came without the index")
    headers = {"Authorization": f"Bearer {keys.dev}"}
    answer = await rest.request(replica.address, "GET", "/api/v1/sessions", headers)
    assert answer.status == 503 and "retry-after" in answer.headers, answer


async def clickhouse_dies_in_mid_insert(world: World) -> None:
    stage, services = Stage(world), world.cluster.services
    await stage.leader()
    async with stage.writers(count=2, reads=False) as writers:
        for _ in range(CLICKHOUSE_KILLS):
            await asyncio.sleep(world.rng.uniform(0.5, 2))
            await services.kill("clickhouse")
            await asyncio.sleep(world.rng.uniform(0, 1))
            await services.start("clickhouse")
            for writer in writers:
                writer.check()
        await asyncio.sleep(1)
    await stage.until_equal(f"after {CLICKHOUSE_KILLS} kills of ClickHouse")


async def one_row_is_refused_and_the_rest_goes_on(world: World) -> None:
    """It is parked, everybody can see it, lists are right all the same, and it is stored as soon as it is taken."""
    stage = Stage(world)
    await stage.ask(f"ALTER TABLE {INDEX}.sessions_v1 ADD CONSTRAINT no_poison CHECK NOT has(tags, 'poison')")
    began = time.monotonic()
    try:
        await a_row_is_parked(stage)
    finally:
        await stage.ask(f"ALTER TABLE {INDEX}.sessions_v1 DROP CONSTRAINT no_poison")
    # It is tried again after 10 s, and then each time after twice as long.
    await stage.until_equal("after the refused row was taken", within_s=60 + 3 * (time.monotonic() - began))
    assert (await stage.metrics(await stage.leader())).value("sessions_replication_parked_rows") == 0


async def a_row_is_parked(stage: Stage) -> None:
    template, name = await stage.template(), f"poisonx{stage.world.rng.getrandbits(24):06x}"
    async with stage.writers():
        # In the middle of a large transaction of rows that are good.
        is_refused = """|| case when g = 700 then '{"tags": ["poison"]}' else '{}' end::jsonb"""
        await stage.services.sql_do(rows(name, template, 1, 3 * BATCH_ROWS, is_refused))

        async def is_parked() -> bool:
            return bool(await stage.parked())

        await poll(is_parked, "the row is parked", 60, 0.1)
    (parked,) = await stage.parked()
    assert parked["session_id"] == f"session_{name}000000700" and "469" in parked["error"], parked
    leader = await stage.leader()
    assert (await stage.metrics(leader)).value("sessions_replication_parked_rows") == 1

    async def only_that_is_missing() -> bool:
        found = await stage.compare()
        return found.differing == 1 and found.examples == [f"{parked['session_id']} is missing"]

    await poll(only_that_is_missing, "every other row is stored", 60, 0.5)
    await stage.lists_are_right()
    await as_of_stays_below(stage, leader, parked["version"])
    said = await stage.command("replication", "status")
    assert "parked" in said, said


async def as_of_stays_below(stage: Stage, replica: Replica, version: int) -> None:
    """What lists say of how far the index is, does not pass a row that it does not have."""
    headers = {"Authorization": f"Bearer {stage.cluster.keys.dev}"}
    answer = await rest.request(replica.address, "GET", "/api/v1/sessions", headers)
    assert answer.status == 200, answer
    epoch, _, place = answer.headers["continuo-as-of"].partition("-")
    assert (int(epoch, 16) << 56 | int(place, 16)) < version, f"{answer.headers['continuo-as-of']} is not below {version:x}"
    answer = await rest.request(replica.address, "GET", "/api/v1/sessions", {**headers, "continuo-wait-as-of": "now"}, within_s=30)
    assert answer.status == 503 and "retry-after" in answer.headers, answer


async def a_transaction_is_larger_than_memory_should_be(world: World) -> None:
    """One statement with far more rows than a batch has."""
    stage = Stage(world)
    leader, template = await stage.leader(), await stage.template()
    before = rss_mib(leader)
    await world.cluster.services.sql_do(rows(f"largex{world.rng.getrandbits(24):06x}", template, 1, LARGE_ROWS))
    most, writing = before, asyncio.create_task(stage.until_equal(f"after a transaction of {LARGE_ROWS} rows", 120))
    while not writing.done():
        most = max(most, rss_mib(leader))
        await asyncio.sleep(0.05)
    writing.result()
    assert most - before < GROWTH_MIB_MAX, f"memory grew from {before:.0f} to {most:.0f} MiB"
    say(f"memory grew from {before:.0f} to {most:.0f} MiB")
    await world.cluster.services.sql_do("delete from session where id like 'session_largex%'")
    await stage.until_equal("after all of it was deleted")


SCENARIOS = [
    the_comparison_sees_every_difference,
    clickhouse_is_away_under_writes,
    clickhouse_dies_in_mid_insert,
    one_row_is_refused_and_the_rest_goes_on,
    a_transaction_is_larger_than_memory_should_be,
]
