"""Many replicas on real services, balanced, under load and under faults; then an audit of everything that was acknowledged.

    python tests/cluster/run.py [suite ...] [--seed N] [--replicas 4] [--rounds 200] [--fault-seconds 75]

Suites: claims, crossing, subscribers, workers, faults, readme; all of them if none is named. Each has services and replicas
of its own. The seed is printed; the last line says how many scenarios and audits passed and failed.
"""

import argparse
import asyncio
import random
import signal
import sys
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness.cluster import Cluster  # noqa: E402  isort: skip
from audit import audit  # noqa: E402
from suites import claims, crossing, faults, readme, subscribers, workers  # noqa: E402
from world import World  # noqa: E402

SUITES = {
    "claims": claims.SCENARIOS,
    "crossing": crossing.SCENARIOS,
    "subscribers": subscribers.SCENARIOS,
    "workers": workers.SCENARIOS,
    "faults": faults.SCENARIOS,
}
SCENARIO_S_MAX = 300


class Tally:
    def __init__(self):
        self.passed = self.failed = 0

    async def run(self, name: str, scenario, within_s: float) -> bool:
        began = time.monotonic()
        try:
            async with asyncio.timeout(within_s):
                await scenario
        except Exception as broken:
            self.failed += 1
            traceback.print_exc(file=sys.stdout)
            print(f"FAIL {name}: {type(broken).__name__}: {broken}", flush=True)
            return False
        self.passed += 1
        print(f"ok   {name} ({time.monotonic() - began:.1f} s)", flush=True)
        return True


async def run_suite(tally: Tally, name: str, options: argparse.Namespace) -> None:
    print(f"== {name}: {options.replicas} replicas, seed {options.seed}", flush=True)
    async with Cluster(options.replicas) as cluster:
        world = World(cluster, random.Random(f"{options.seed} {name}"), options)
        failed = tally.failed
        for scenario in SUITES[name]:
            title = scenario.__name__.replace("_", " ")
            await tally.run(f"{name}: {title}", scenario(world), options.scenario_s_max)
        await tally.run(f"{name}: the audit", audited(world), options.scenario_s_max)
        if tally.failed > failed:
            print("last words:", *(replica.last_words() for replica in cluster.replicas), sep="\n", flush=True)
    print(f"   clients heard: {cluster.heard}", flush=True)


async def audited(world: World) -> None:
    records = await audit(world.cluster, world.ledger)
    print(f"   audit: {records} records read over two replicas; promised were {world.ledger.totals()}", flush=True)


async def main(options: argparse.Namespace) -> Tally:
    tally = Tally()
    ending = asyncio.current_task()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ending.cancel)
    for name in options.suites or [*SUITES, "readme"]:
        try:
            if name == "readme":
                await tally.run("readme: the commands run as they stand", readme.run_it(), SCENARIO_S_MAX)
            else:
                await run_suite(tally, name, options)
        except Exception as broken:
            tally.failed += 1
            traceback.print_exc(file=sys.stdout)
            print(f"FAIL {name}: {type(broken).__name__}: {broken}", flush=True)
    return tally


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("suites", nargs="*", choices=[*SUITES, "readme", []], metavar="suite")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    parser.add_argument("--replicas", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=200, help="rounds of 64 appends and creates on a dead session")
    parser.add_argument("--fault-seconds", type=float, default=75, help="how long the faults go on")
    arguments = parser.parse_args()
    arguments.scenario_s_max = SCENARIO_S_MAX + arguments.rounds * 5 + arguments.fault_seconds * 2
    try:
        counted = asyncio.run(main(arguments))
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit("interrupted")
    print(f"{counted.passed} passed, {counted.failed} failed")
    sys.exit(0 if counted.passed and not counted.failed else 1)
