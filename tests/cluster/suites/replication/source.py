"""Postgres restarts, loses the slot, or is another one than before."""

import asyncio
import os
import shutil
from pathlib import Path

from harness.services import DATABASE, run
from index.stage import INDEX, SLOT, Stage
from suites.replication.replicas import start_all
from world import World, poll, say

RESTARTS = 3
# A little more than one segment of the log, beyond what the slot may keep.
SEGMENT_BYTES = 16 << 20


async def postgres_restarts_under_writes(world: World) -> None:
    stage, services = Stage(world), world.cluster.services
    async with stage.writers(reads=False) as writers:
        for number in range(RESTARTS):
            await asyncio.sleep(world.rng.uniform(0.5, 1.5))
            # In the end without a last word, as a crash.
            await (services.stop("postgres") if number == 0 else services.kill("postgres"))
            await services.start("postgres")
            for writer in writers:
                writer.check()
        await stage.leader()
    await stage.until_equal(f"after {RESTARTS} restarts of Postgres")


async def the_slot_is_dropped_by_hand(world: World) -> None:
    """Whatever was written in between is found by a snapshot, rows that were deleted too."""
    stage, services = Stage(world), world.cluster.services
    async with stage.writers(reads=False) as writers:
        await asyncio.sleep(1)
        for _ in range(2):
            await stage.leader()
            await drop_slot(stage)
            await asyncio.sleep(world.rng.uniform(0, 1))
            for writer in writers:
                writer.check()
        await stage.leader()
    # Once more while nobody follows, and a session of before is deleted in the gap.
    await asyncio.gather(*(replica.kill() for replica in world.cluster.replicas))
    await drop_slot(stage)
    await services.sql_do("delete from session where id in (select id from session where current_run_version = 0 order by id limit 20)")
    await services.sql_do("delete from session_change")
    await start_all(world.cluster.replicas)
    await stage.until_equal("after the slot was dropped")


async def drop_slot(stage: Stage) -> None:
    async def is_dropped() -> bool:
        await stage.services.sql_do(
            f"select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = '{SLOT}' and active"
        )
        try:
            await stage.services.sql_do(f"select pg_drop_replication_slot('{SLOT}')")
        except RuntimeError as error:
            assert "is active" in str(error), error
            return False
        return True

    await poll(is_dropped, "the slot is dropped", 20, 0.02)


async def the_slot_is_invalidated(world: World) -> None:
    """Postgres keeps only so much for a worker that stores nothing, and throws away the rest."""
    stage, services = Stage(world), world.cluster.services
    await stage.leader()
    await services.sql_do("alter system set max_slot_wal_keep_size = '1MB'")
    await services.sql_do("select pg_reload_conf()")
    try:
        async with stage.writers(reads=False):
            await services.stop("clickhouse")

            async def is_lost() -> bool:
                # A segment that is full of nothing.
                await services.sql_do("select pg_logical_emit_message(false, 'filler', repeat('x', 1 << 20)); select pg_switch_wal()")
                await services.sql_do("checkpoint")
                return (await stage.slot()).get("wal_status") in ("lost", None)

            await poll(is_lost, "the slot is lost", 60, 0.1)
    finally:
        await services.sql_do("alter system reset max_slot_wal_keep_size")
        await services.sql_do("select pg_reload_conf()")
        await services.start("clickhouse")
    await stage.until_equal("after the slot was invalidated")


async def a_backup_is_restored_into_another_server(world: World) -> None:
    """Another system identifier, and places in its log that the index has seen long ago; what the backup does not have goes."""
    stage, services = Stage(world), world.cluster.services
    async with stage.writers(reads=False):
        await asyncio.sleep(1)
    await stage.until_equal("before the backup")
    dump = services.directory / "backup"
    await run("pg_dump", "-Fc", "-f", str(dump), services.database_url())
    async with stage.writers(reads=False):
        await asyncio.sleep(2)
    await stage.until_equal("before the loss")
    epoch, tip = await stage.epoch(), (await stage.slot())["tip"]
    await asyncio.gather(*(replica.kill() for replica in world.cluster.replicas))
    await services.stop("postgres")
    shutil.move(services.directory / "postgres", services.directory / "postgres-lost")
    await services.start("postgres")
    await services.sql_do(f"create database {DATABASE}", database="postgres")
    await run("pg_restore", "-d", services.database_url(), str(dump))
    assert (await services.sql(f"select pg_current_wal_lsn() < '{tip}' as is_back"))[0]["is_back"], "the log does not begin anew"
    await start_all(world.cluster.replicas)
    await stage.until_equal("after the restore")
    async with stage.writers(reads=True):
        await asyncio.sleep(1)
    await stage.until_equal("after writes to the restored database")
    assert await stage.epoch() == epoch + 1, f"the epoch was {epoch} and is {await stage.epoch()}"
    say(f"epoch {epoch} became {epoch + 1}")


async def the_disk_of_postgres_is_put_back(world: World) -> None:
    """The same server, the same slot, and a log that is younger than the index: nothing but the places tells of it."""
    stage, services = Stage(world), world.cluster.services
    kept, data = services.directory / "postgres-kept", services.directory / "postgres"
    async with stage.writers(reads=False):
        await asyncio.sleep(1)
    await stage.until_equal("before the copy")
    await services.stop("postgres")
    await copy(data, kept)
    await services.start("postgres")
    async with stage.writers(reads=False):
        await stage.leader()
        await asyncio.sleep(3)
    await stage.until_equal("before the loss")
    epoch = await stage.epoch()
    await asyncio.gather(*(replica.kill() for replica in world.cluster.replicas))
    await services.stop("postgres")
    shutil.rmtree(data)
    shutil.move(kept, data)
    await services.start("postgres")
    await start_all(world.cluster.replicas)
    await stage.until_equal("after the disk was put back")
    async with stage.writers(reads=True):
        await asyncio.sleep(1)
    await stage.until_equal("after writes to the disk of before")
    assert await stage.epoch() == epoch + 1, f"the epoch was {epoch} and is {await stage.epoch()}"


async def copy(source: Path, target: Path) -> None:
    """With owners: a server of a database refuses files of others."""
    await run("cp", "-a", str(source), str(target), env=dict(os.environ))


async def a_reconcile_finds_and_mends_what_was_made_wrong(world: World) -> None:
    """Rows that the index lost, has too many, or has otherwise: counted, mended, and then there are none."""
    stage = Stage(world)
    table = f"{INDEX}.sessions_v1"
    async with stage.writers(reads=False):
        await asyncio.sleep(1)
    await stage.until_equal("before anything is made wrong")
    columns = (await stage.ask(f"SELECT name FROM system.columns WHERE database = '{INDEX}' AND table = 'sessions_v1' ORDER BY position")).split("\n")

    async def spoil(wrong: dict[str, str], offset: int) -> None:
        values = ", ".join(wrong.get(name, name) for name in columns)
        await stage.ask(f"INSERT INTO {table} SELECT {values} FROM {table} FINAL ORDER BY session_id LIMIT 3 OFFSET {offset}")

    # As a fault of before would have left them: the same version with other values, the later insert counts.
    await spoil({"external_id": "'spoiled'"}, 0)
    await spoil({"session_id": "concat(session_id, 'x')"}, 10)
    await stage.ask(f"DELETE FROM {table} WHERE session_id IN (SELECT session_id FROM {table} FINAL ORDER BY session_id LIMIT 3 OFFSET 20)")
    found = await stage.compare()
    assert found.differing == 9, found
    said = await stage.command("replication", "reconcile")
    say(f"reconcile: {' '.join(said.split())}")
    await stage.until_equal("after the reconcile")
    again = await stage.command("replication", "reconcile")
    assert "6 written, 3 removed" in said and " 0 written, 0 removed" in again, f"{said}\n{again}"


SCENARIOS = [
    postgres_restarts_under_writes,
    the_slot_is_dropped_by_hand,
    the_slot_is_invalidated,
    a_reconcile_finds_and_mends_what_was_made_wrong,
    the_disk_of_postgres_is_put_back,
    a_backup_is_restored_into_another_server,
]
