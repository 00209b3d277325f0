"""Runs outlive their workers and the replicas that their workers talk to."""

import asyncio
import time

from harness.calls import Client
from harness.replicas import LEASE_MS
from ledger import into
from worker import Execution, Worker
from world import Writer, World, create, new_name, poll, say

ROUNDS = 4


class Stage:
    """Two workers for one task, the second on a replica of its own, and what they were given in which order."""

    def __init__(self, world: World):
        self.world = world
        cluster = world.cluster
        self.first_replica, self.second_replica, self.third_replica, *_ = world.rng.sample(cluster.replicas, len(cluster.replicas))
        self.task = new_name("worked")
        self.taken: asyncio.Queue[Execution] = asyncio.Queue()
        self.may_end = asyncio.Event()
        self.workers: list[Worker] = []

    def add_worker(self, client: Client) -> Worker:
        worker = Worker(self.world, client, new_name("worker"), self.task, self._execute)
        self.workers.append(worker)
        return worker

    async def _execute(self, run: Execution) -> None:
        await run.write()
        self.taken.put_nowait(run)
        while not self.may_end.is_set():
            await run.write()
            await asyncio.sleep(0.05)
        async for _ in run.read(idle_ms=100):
            pass

    async def begin(self) -> tuple[Execution, Worker]:
        """A run on the first worker, and the second worker beside it."""
        client = self.world.cluster.client_of(self.third_replica)
        first = self.add_worker(self.world.cluster.client_of(self.first_replica))
        made = await create(self.world, client, new_name("worked"), self.task)
        await Writer(self.world, client, into(made.session.id), new_name("asker")).write()
        run = await asyncio.wait_for(self.taken.get(), 30)
        assert run.id == made.run_id
        second = self.add_worker(self.world.cluster.client_of(self.second_replica))
        await asyncio.wait_for(second.connected.wait(), 30)
        return run, first

    async def end(self, run: str) -> None:
        self.may_end.set()

        async def is_over() -> bool:
            for worker in self.workers:
                worker.check()
            status = await self.world.cluster.services.sql(f"select status from run where id = '{run}'")
            return status == [{"status": "COMPLETED_SUCCESSFULLY"}]

        await poll(is_over, f"{run} is completed", every_s=0.1)
        for worker in self.workers:
            await worker.kill()
        if not self.first_replica.is_running:
            await self.first_replica.start()


async def takeover(world: World, what: str, lose) -> None:
    """A worker is lost in some way; how long until another has its run."""
    took = []
    for _ in range(ROUNDS):
        stage = Stage(world)
        run, first = await stage.begin()
        began = time.monotonic()
        await lose(stage, first)
        again = await asyncio.wait_for(stage.taken.get(), 60)
        took.append(time.monotonic() - began)
        assert again.id == run.id and again.lease.lease > run.lease.lease, f"{again.id} follows {run.id}"
        assert again.worker_id != run.worker_id
        await stage.end(run.id)
    say(f"{what}: taken over after " + ", ".join(f"{t:.2f}" for t in took) + f" s; a lease is {LEASE_MS / 1000:.1f} s")


async def the_run_of_a_killed_worker_goes_on_with_another(world: World) -> None:
    async def lose(stage: Stage, worker: Worker) -> None:
        await worker.kill()

    await takeover(world, "worker killed", lose)


async def the_run_of_a_silent_worker_goes_on_with_another(world: World) -> None:
    async def lose(stage: Stage, worker: Worker) -> None:
        await worker.go_silent()

    await takeover(world, "worker silent", lose)


async def the_run_of_a_worker_that_dies_with_its_replica_goes_on_with_another(world: World) -> None:
    async def lose(stage: Stage, worker: Worker) -> None:
        await asyncio.gather(stage.first_replica.kill(), worker.go_silent())

    await takeover(world, "worker and replica killed", lose)


async def a_worker_keeps_its_run_when_its_replica_is_killed(world: World) -> None:
    cluster = world.cluster
    stage = Stage(world)
    addresses = [stage.first_replica.address]
    client = Client(lambda: addresses[-1], cluster.keys.dev, cluster.heard)
    worker = stage.add_worker(client)
    made = await create(world, cluster.client_of(stage.third_replica), new_name("kept"), stage.task)
    await Writer(world, cluster.client_of(stage.third_replica), into(made.session.id), new_name("asker")).write()
    run = await asyncio.wait_for(stage.taken.get(), 30)

    async def lease_until() -> int:
        row = (await cluster.services.sql(f"select lease_until_ms from run where id = '{run.id}'"))[0]
        return row["lease_until_ms"] or 0

    before = await lease_until()
    addresses.append(cluster.balancer.address)
    await stage.first_replica.kill()

    # It writes on, through another replica, under the lease it had: for longer than that would live by itself.
    async def lives_on() -> bool:
        worker.check()
        return await lease_until() > before + 2 * LEASE_MS

    await poll(lives_on, "the lease is renewed through another replica", every_s=0.2)
    await stage.end(run.id)
    leases = {lease for held, lease in world.ledger.assigned if held == run.id}
    assert leases == {run.lease.lease}, f"{run.id} was assigned again: {leases}"


SCENARIOS = [
    the_run_of_a_killed_worker_goes_on_with_another,
    the_run_of_a_silent_worker_goes_on_with_another,
    the_run_of_a_worker_that_dies_with_its_replica_goes_on_with_another,
    a_worker_keeps_its_run_when_its_replica_is_killed,
]
