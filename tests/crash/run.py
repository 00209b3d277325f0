"""Kills the server again and again under load and looks whether it kept its promises.

    python tests/crash/run.py [--kills 50] [--seed N] [--max-seconds 600]

No acknowledged record may be lost, moved, changed or doubled; numbers have no gaps; times never fall; what a reader has
seen stays; sessions stay created and closed. The load is random, the seed is printed.
"""

import argparse
import asyncio
import random
import sys
import time

from audit import audit
from ledger import Ledger
from load import ch, follow, keep_sessions, sessions, trim_now_and_then, write_batches, write_one_by_one, write_pipelined
from world import CALL_S_MAX, World

SESSIONS = 3
# Small, so that segments are sealed, moved and used again while the server dies.
SEGMENT_BYTES = 8 * 1_048_576
# A server that needs longer than this for its next acknowledgement has stopped working.
PROGRESS_S_MAX = 30
# A slow machine does not get to write as much between two kills.
LIFE_S_MAX = 5


async def make_session(world: World, ledger: Ledger, name: str) -> str:
    request = sessions.CreateSessionRequest(external_id=name, type="crash", task_identifier="nobody")
    request.trigger_config.base_payload_json = "{}"
    made = await world.call(lambda s: s.sessions.CreateSession(request, metadata=s.metadata, timeout=CALL_S_MAX))
    ledger.created[name] = made.session.id
    return made.session.id


async def load(world: World, ledger: Ledger, rng: random.Random) -> list[asyncio.Task]:
    jobs = []
    for number in range(SESSIONS):
        session = await make_session(world, ledger, f"crash-{number}")
        dice = lambda: random.Random(rng.getrandbits(64))  # noqa: E731
        reserved_in = (session, "", ch.DIRECTION_IN)
        reserved_out = (session, "", ch.DIRECTION_OUT)
        named = (session, "named", ch.DIRECTION_OUT)
        short = (session, "short", ch.DIRECTION_IN)
        jobs += [
            write_one_by_one(world, ledger, reserved_in, f"{number}-in-a", dice()),
            write_one_by_one(world, ledger, reserved_in, f"{number}-in-b", dice()),
            write_pipelined(world, ledger, reserved_out, f"{number}-out", dice()),
            write_one_by_one(world, ledger, named, f"{number}-named", dice()),
            write_batches(world, ledger, named, f"{number}-batch", dice()),
            write_one_by_one(world, ledger, short, f"{number}-short", dice()),
            trim_now_and_then(world, ledger, short, dice()),
            *(follow(world, ledger, channel) for channel in (reserved_in, reserved_out, named, short)),
        ]
    jobs.append(keep_sessions(world, ledger, "kept"))
    return [asyncio.create_task(job) for job in jobs]


async def kill_again_and_again(world: World, rng: random.Random, kills: int, deadline: float) -> int:
    done = 0
    while done < kills and time.monotonic() < deadline:
        await world.await_progress(rng.choice((1, 20, 200, 1_000, 3_000)), LIFE_S_MAX, PROGRESS_S_MAX)
        # Somewhere within the next batch.
        await asyncio.sleep(rng.uniform(0, 0.02))
        await world.kill()
        done += 1
        while done < kills and rng.random() < 0.15:
            await world.kill_while_starting(rng.uniform(0, 0.3))
            done += 1
        await world.start()
    return done


async def main(options: argparse.Namespace) -> int:
    rng = random.Random(options.seed)
    ledger = Ledger()
    world = World(SEGMENT_BYTES)
    tasks: list[asyncio.Task] = []
    began = time.monotonic()
    print(f"crash suite: {options.kills} kills, seed {options.seed}", flush=True)
    try:
        await world.start()
        jobs = await load(world, ledger, rng)
        killer = asyncio.create_task(kill_again_and_again(world, rng, options.kills, began + options.max_seconds))
        tasks = [*jobs, killer]
        # A job that ends before the last kill has failed, and so has the suite.
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                task.result()
        assert killer.done(), "a job ended by itself"
        killed = killer.result()
        assert killed == options.kills, f"only {killed} of {options.kills} kills fitted into {options.max_seconds} s"
        world.stopping = True
        await asyncio.wait_for(asyncio.gather(*jobs), PROGRESS_S_MAX)

        records = await audit(world, ledger)
        code = await world.stop()
        assert code == 0, f"the server ended with {code} on SIGTERM"
        await world.start()
        assert await audit(world, ledger) == records, "a clean restart changed something"
        await world.stop()
    except BaseException:
        print("last words of the server:", *list(world.server.said)[-40:], sep="\n  ", flush=True)
        raise
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        world.server.remove()
    print(
        f"{killed} kills in {time.monotonic() - began:.0f} s: {ledger.acknowledgements} acknowledgements "
        f"({ledger.repeats} of repeats), {records} records kept, {len(ledger.created)} sessions made, "
        f"{len(ledger.closed)} closed, nothing lost",
        flush=True,
    )
    return killed


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    parser.add_argument("--max-seconds", type=float, default=600)
    arguments = parser.parse_args()
    try:
        asyncio.run(main(arguments))
    except Exception as broken:
        print(f"seed {arguments.seed}: {type(broken).__name__}: {broken}", flush=True)
        print("0 passed, 1 failed")
        sys.exit(1)
    print("1 passed, 0 failed")
