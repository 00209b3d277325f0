"""Readers on any replica, and replicas that stop, restart and die under them."""

import asyncio
import itertools

from harness.replicas import Replica
from ledger import Channel, out
from readers import Reader, readers_of
from world import Writer, World, create, new_name, poll, say

RECORDS = 300
READERS = 6  # pairs
WRITERS = 3


async def every_replica_shows_the_same_stream(world: World) -> None:
    cluster = world.cluster
    channel = await new_channel(world)
    readers = []
    for replica in cluster.replicas:
        address = lambda replica=replica: replica.address  # noqa: E731
        readers += readers_of(world, channel, address, cluster.client_of(replica), replica.name)
    writer = Writer(world, cluster.client(), channel, "writer")
    for _ in range(RECORDS):
        await writer.write()
    await until_all_have(world, channel, readers)
    await leave(readers)
    say(f"{len(readers)} readers on {len(cluster.replicas)} replicas have seen {RECORDS} records")


async def a_rolling_restart_under_load_fails_no_resume(world: World) -> None:
    async def restart(replica: Replica) -> None:
        world.cluster.balancer.drain(replica)
        await replica.stop()
        await replica.start()
        world.cluster.balancer.restore(replica)

    readers = await under_load(world, restart)
    failed = {reader.name: reader.failed_resumes for reader in readers if reader.failed_resumes}
    assert not failed, f"resumes failed: {failed}"


async def readers_of_a_replica_that_is_killed_go_on_elsewhere(world: World) -> None:
    async def kill(replica: Replica) -> None:
        await replica.kill()
        await asyncio.sleep(1)
        await replica.start()

    await under_load(world, kill)


async def under_load(world: World, disturb) -> list[Reader]:
    """Readers and writers through the balancer, while something happens to one replica after the other."""
    cluster = world.cluster
    channel = await new_channel(world)
    address = lambda: cluster.balancer.address  # noqa: E731
    readers = list(
        itertools.chain(*(readers_of(world, channel, address, cluster.client(), f"reader-{i}") for i in range(READERS)))
    )
    is_over = asyncio.Event()
    writers = [Writer(world, cluster.client(), channel, f"writer-{i}") for i in range(WRITERS)]
    writing = [asyncio.create_task(writer.write_until(is_over.is_set, 0.01)) for writer in writers]
    for replica in cluster.replicas:
        before = len(world.ledger.channels[channel].acknowledged)
        await disturb(replica)

        async def goes_on() -> bool:
            return len(world.ledger.channels[channel].acknowledged) > before + 20

        await poll(goes_on, "appends go on", every_s=0.1)
    is_over.set()
    await asyncio.gather(*writing)
    await until_all_have(world, channel, readers)
    records = len(world.ledger.channels[channel].acknowledged)
    resumes = sum(reader.resumes for reader in readers)
    failed = sum(reader.failed_resumes for reader in readers)
    say(f"{len(readers)} readers resumed {resumes} times, {failed} attempts failed, over {records} records of {WRITERS} writers")
    assert resumes > 0, "nothing has happened to any reader"
    await leave(readers)
    return readers


async def new_channel(world: World) -> Channel:
    return out((await create(world, world.cluster.client(), new_name("read"))).session.id)


async def until_all_have(world: World, channel: Channel, readers: list[Reader]) -> None:
    goal = max(world.ledger.channels[channel].acknowledged) + 1

    async def all_have() -> bool:
        for reader in readers:
            reader.check()
        return all(reader.next >= goal for reader in readers)

    await poll(all_have, f"every reader has {goal} records", within_s=60)


async def leave(readers: list[Reader]) -> None:
    for reader in readers:
        reader.check()
        await reader.leave()


SCENARIOS = [
    every_replica_shows_the_same_stream,
    a_rolling_restart_under_load_fails_no_resume,
    readers_of_a_replica_that_is_killed_go_on_elsewhere,
]
