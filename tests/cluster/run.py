"""Many replicas on real services, balanced, under load and under faults; then an audit of everything that was acknowledged.

    python tests/cluster/run.py [suite ...] [--seed N] [--replicas 4] [--rounds 200] [--fault-seconds 75]
        [--outage-seconds 30] [--worker-kills 20] [--only text]

Suites: claims, crossing, subscribers, workers, faults, replication, readme; all of them if none is named. With `--only`, of
each suite the scenarios whose name has the text. Each has services and replicas
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
from suites import claims, crossing, faults, readme, replication, subscribers, workers  # noqa: E402
from world import World  # noqa: E402

SUITES = {
    "claims": claims.SCENARIOS,
    "crossing": crossing.SCENARIOS,
    "subscribers": subscribers.SCENARIOS,
    "workers": workers.SCENARIOS,
    "faults": faults.SCENARIOS,
    "replication": replication.SCENARIOS,
}
# Suites with other services than the rest.
CLUSTERS = {"replication": replication.cluster}
# There sessions are deleted and databases are put back, and every scenario has a comparison of its own.
UNAUDITED = {"replication"}
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
    made = CLUSTERS[name](options) if name in CLUSTERS else Cluster(options.replicas)
    async with made as cluster:
        world = World(cluster, random.Random(f"{options.seed} {name}"), options)
        failed = tally.failed
        for scenario in SUITES[name]:
            title = scenario.__name__.replace("_", " ")
            if options.only not in title:
                continue
            await tally.run(f"{name}: {title}", scenario(world), options.scenario_s_max)
        if name not in UNAUDITED:
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
                for title, section in readme.SECTIONS.items():
                    await tally.run(f"readme: the commands of {title} run as they stand", section(), SCENARIO_S_MAX)
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
    parser.add_argument("--outage-seconds", type=float, default=30, help="how long ClickHouse stays away under back-pressure")
    parser.add_argument("--worker-kills", type=int, default=20, help="kills of the replica that follows the log")
    parser.add_argument("--only", default="", metavar="text", help="of each suite the scenarios whose name has it")
    arguments = parser.parse_args()
    longest = arguments.rounds * 5 + arguments.fault_seconds * 2 + arguments.outage_seconds * 3 + arguments.worker_kills * 60
    arguments.scenario_s_max = SCENARIO_S_MAX + longest
    try:
        counted = asyncio.run(main(arguments))
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit("interrupted")
    print(f"{counted.passed} passed, {counted.failed} failed")
    sys.exit(0 if counted.passed and not counted.failed else 1)
