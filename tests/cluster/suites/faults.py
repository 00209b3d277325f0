"""Whatever can break breaks, under load, and all of it comes back by itself."""

import asyncio
import random
import time
from collections import Counter

from audit import until_nothing_is_owed
from harness.calls import Client
from harness.replicas import LEASE_MS
from ledger import into, out
from readers import Reader, readers_of
from support.stubs import session_service_pb2 as sessions
from worker import Execution, Worker
from world import Writer, World, append_by_rest, close, create, new_name, poll, row_of, say

TASK = "talk"
TALKS = 6
WORKERS = 4
# After the last fault everything has to go on within so many seconds.
RECOVERED_WITHIN_S = 60


class Faults:
    """Two lanes of faults, so that a service and a replica may be broken at the same time."""

    def __init__(self, world: World):
        self._world = world
        self._services, self._balancer = world.cluster.services, world.cluster.balancer
        self.done = Counter()

    async def go_on_until(self, deadline: float) -> None:
        services = (self.postgres_restarts, self.postgres_crashes, self.redis_stops, self.redis_flushes, self.redis_freezes, self.s2_dies)
        replicas = (self.replica_sleeps, self.replica_dies, self.connections_break)
        async with asyncio.TaskGroup() as lanes:
            for kinds in (services, replicas):
                lanes.create_task(self._lane(kinds, self._world.dice(), deadline))

    async def _lane(self, kinds, dice: random.Random, deadline: float) -> None:
        # Each kind once before any comes again.
        waiting = []
        while time.monotonic() < deadline:
            waiting = waiting or dice.sample(kinds, len(kinds))
            fault = waiting.pop()
            await asyncio.sleep(dice.uniform(0.5, 3))
            await fault(dice)
            self.done[fault.__name__.replace("_", " ")] += 1

    async def mend(self) -> None:
        """Whatever was broken when something else went wrong."""
        for name in self._services.NAMES:
            await self._services.mend(name)
        for replica in self._world.cluster.replicas:
            if replica.is_running:
                replica.thaw()
            else:
                await replica.start()

    async def postgres_restarts(self, dice: random.Random) -> None:
        await self._services.stop("postgres")
        await asyncio.sleep(dice.uniform(0, 2))
        await self._services.start("postgres")

    async def postgres_crashes(self, dice: random.Random) -> None:
        await self._services.kill("postgres")
        await asyncio.sleep(dice.uniform(0, 2))
        await self._services.start("postgres")

    async def redis_stops(self, dice: random.Random) -> None:
        await self._services.stop("redis")
        await asyncio.sleep(dice.uniform(1, 10))
        await self._services.start("redis")

    async def redis_flushes(self, dice: random.Random) -> None:
        await self._services.redis_do("FLUSHALL")

    async def redis_freezes(self, dice: random.Random) -> None:
        self._services.freeze("redis")
        try:
            await asyncio.sleep(dice.uniform(1, 6))
        finally:
            self._services.thaw("redis")

    async def s2_dies(self, dice: random.Random) -> None:
        await self._services.kill("s2")
        await asyncio.sleep(dice.uniform(0, 3))
        await self._services.start("s2")

    async def replica_sleeps(self, dice: random.Random) -> None:
        """Past its leases; then it goes on as if nothing had been."""
        replica = dice.choice(self._world.cluster.replicas)
        replica.freeze()
        try:
            await asyncio.sleep(LEASE_MS / 1000 + dice.uniform(0.5, 3))
        finally:
            replica.thaw()

    async def replica_dies(self, dice: random.Random) -> None:
        replica = dice.choice(self._world.cluster.replicas)
        await replica.kill()
        await asyncio.sleep(dice.uniform(0, 2))
        while True:
            try:
                await replica.start()
                return
            except RuntimeError:
                # While Postgres is away it may refuse to start, as its operator's supervisor knows.
                await asyncio.sleep(0.5)

    async def connections_break(self, dice: random.Random) -> None:
        self._balancer.cut_all()


class Load:
    """Talks with workers, writers, readers and keepers of sessions, all through the balancer."""

    def __init__(self, world: World):
        self.world = world
        self.is_over = asyncio.Event()
        self.jobs: dict[str, asyncio.Task] = {}
        self.rounds = Counter()
        self.workers: list[Worker] = []
        self.readers: list[Reader] = []

    async def begin(self) -> None:
        world, cluster = self.world, self.world.cluster
        address = lambda: cluster.balancer.address  # noqa: E731
        for number in range(WORKERS):
            self.workers.append(Worker(world, cluster.client(), new_name("talker"), TASK, self._converse))
        for number in range(TALKS):
            session = (await create(world, cluster.client(), f"talk-{number}", TASK)).session.id
            self._do(f"asker {number}", self._write, Writer(world, cluster.client(), into(session), f"asker-{number}"))
            self._do(f"asker over HTTP {number}", self._ask_by_rest, session, f"rest-{number}")
            self.readers += readers_of(world, out(session), address, cluster.client(), f"out-{number}")
            for writer in range(2):
                name = f"named-{number}-{writer}"
                self._do(name, self._write, Writer(world, cluster.client(), out(session, "named"), name))
        for number in range(2):
            self._do(f"keeper {number}", self._keep, cluster.client(), f"kept-{number}")
            self._do(f"looker {number}", self._look, cluster.client())

    def _do(self, name: str, job, *arguments) -> None:
        self.jobs[name] = asyncio.create_task(self._again_and_again(name, job, *arguments))

    async def _again_and_again(self, name: str, job, *arguments) -> None:
        dice = self.world.dice()
        while not self.is_over.is_set():
            await job(self.rounds[name], *arguments)
            self.rounds[name] += 1
            await asyncio.sleep(dice.uniform(0, 0.2))

    async def _write(self, number: int, writer: Writer) -> None:
        await writer.write()

    async def _ask_by_rest(self, number: int, session: str, name: str) -> None:
        part_id = f"{name}-{number}"
        await append_by_rest(self.world, session, name, part_id, f"question {part_id}")

    async def _keep(self, number: int, client: Client, name: str) -> None:
        external_id = f"{name}-{number}"
        session = (await create(self.world, client, external_id)).session.id
        if number % 2:
            await close(self.world, client, session, f"reason of {external_id}")

    async def _look(self, number: int, client: Client) -> None:
        external_id = f"talk-{random.randrange(TALKS)}"
        assert (await row_of(client, external_id)).id == self.world.ledger.created[external_id]
        await client.call(lambda c: c.sessions.ListSessions, sessions.ListSessionsRequest(page_size=5))

    async def _converse(self, run: Execution) -> None:
        """Answers each message, then sleeps, ends or listens on."""
        await run.write()
        while True:
            async for _ in run.read(idle_ms=300):
                await run.write()
            match random.randrange(3):
                case 0:
                    return await run.suspend()
                case 1:
                    return None

    def check(self) -> None:
        for name, job in self.jobs.items():
            if job.done():
                job.result()
                assert self.is_over.is_set(), f"{name} has ended"
        for one in (*self.workers, *self.readers):
            one.check()

    async def goes_on(self) -> None:
        """Every job gets further, twice: what was under way and what begins now."""
        before = Counter(self.rounds)

        async def all_do() -> bool:
            self.check()
            return all(self.rounds[name] >= before[name] + 2 for name in self.jobs)

        try:
            await poll(all_do, "every job goes on", within_s=RECOVERED_WITHIN_S, every_s=0.1)
        except AssertionError:
            stuck = [name for name in self.jobs if self.rounds[name] < before[name] + 2]
            raise AssertionError(f"{RECOVERED_WITHIN_S} s after the last fault these do not go on: {stuck}") from None

    async def end(self) -> None:
        self.is_over.set()
        await asyncio.wait_for(asyncio.gather(*self.jobs.values()), RECOVERED_WITHIN_S)

    async def abandon(self) -> None:
        for job in self.jobs.values():
            job.cancel()
        await asyncio.gather(*self.jobs.values(), return_exceptions=True)
        await asyncio.gather(*(reader.leave() for reader in self.readers), *(worker.kill() for worker in self.workers))


async def everything_breaks_and_comes_back(world: World) -> None:
    load, faults = Load(world), Faults(world)
    breaking = None
    try:
        await load.begin()
        await load.goes_on()
        breaking = asyncio.create_task(faults.go_on_until(time.monotonic() + world.options.fault_seconds))
        while not breaking.done():
            load.check()
            await asyncio.wait([breaking], timeout=0.5)
        breaking.result()
        last_fault = time.monotonic()
        await load.goes_on()
        say(f"after the last fault all went on within {time.monotonic() - last_fault:.1f} s")
        await load.end()
        await until_nothing_is_owed(world.cluster, world.cluster.client(), world.ledger)
        await until_readers_have_all(world, load)
    finally:
        if breaking is not None:
            breaking.cancel()
            await asyncio.gather(breaking, return_exceptions=True)
            await faults.mend()
        await load.abandon()
    say("faults: " + ", ".join(f"{name} {count}" for name, count in sorted(faults.done.items())))
    say(f"rounds of the load: {sum(load.rounds.values())}; readers resumed {sum(r.resumes for r in load.readers)} times")


async def until_readers_have_all(world: World, load: Load) -> None:
    async def have_all() -> bool:
        load.check()
        return all(r.next > max(world.ledger.channels[r.channel].acknowledged, default=-1) for r in load.readers)

    await poll(have_all, "every reader has every record that was acknowledged", within_s=RECOVERED_WITHIN_S, every_s=0.2)


SCENARIOS = [everything_breaks_and_comes_back]
