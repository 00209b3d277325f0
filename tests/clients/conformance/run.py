"""Runs the same scenario with the generated client of every language, each a process of its own, and prints one table.

Names of languages may be given to run only them. A cell that is not filled has failed. With the browser comes its suite on
what only a browser can show: preflights, origins, and what script may read.
"""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))

from support.server import Server  # noqa: E402

import docs  # noqa: E402
from languages import LANGUAGES, PROGRAMS, ROOT, Language  # noqa: E402
from scenario import STEPS, WORKER_STEPS, Row, Scenario  # noqa: E402

# They mostly wait for each other, so two processors carry some at once.
AT_ONCE = 4


def main(*names: str) -> int:
    unknown = {name.lower() for name in names} - {language.name.lower() for language in LANGUAGES}
    if unknown:
        print(f"no such language: {', '.join(sorted(unknown))}; there are {', '.join(one.name for one in LANGUAGES)}")
        return 2
    wanted = [language for language in LANGUAGES if not names or language.name.lower() in map(str.lower, names)]
    # One for each language, which restarts it. So often that every run renews its lease while it is awake, and goes on with a
    # new token.
    servers = [Server("serve", "--worker-heartbeat-ms=400") for _ in wanted]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        rows = list(pool.map(play, servers, make_ready(wanted)))
    codes = [print_table(rows), check_docs()]
    if any(not language.has_worker for language in wanted):
        codes.append(subprocess.call([ROOT / "tests/clients/support/run-suites", PROGRAMS / "browser", "1"]))
    return max(codes)


def check_docs() -> int:
    wrong = docs.stale()
    for sentence in wrong:
        print(sentence)
    print(f"{int(not wrong)} passed, {len(wrong)} failed")
    return min(len(wrong), 1)


def make_ready(languages: list[Language]) -> list[Language]:
    for prepare in dict.fromkeys(prepare for language in languages for prepare in language.prepare):
        began = time.monotonic()
        prepare()
        print(f"{prepare.__name__.removeprefix('prepare_')} is ready after {time.monotonic() - began:.1f} s", flush=True)
    return languages


def play(server: Server, language: Language) -> Row:
    try:
        row = Scenario(server.start(), language).run()
    finally:
        server.remove()
    for name, trouble in row.cells.items():
        if trouble is not True:
            print(f"\n{language.name}, {name}: {trouble}\n", flush=True)
    print(f"{language.name} took {row.seconds:.1f} s", flush=True)
    return row


def print_table(rows: list[Row]) -> int:
    passed = failed = 0
    print(f"\n{'':20}" + "".join(f"{step:>11}" for step in STEPS))
    for row in rows:
        cells = []
        for step in STEPS:
            if step in WORKER_STEPS and not row.language.has_worker:
                cells.append("-")
                continue
            is_good = row.cells.get(step) is True
            passed, failed = passed + is_good, failed + (not is_good)
            cells.append("yes" if is_good else "FAILED" if step in row.cells else "EMPTY")
        print(f"{row.language.name:20}" + "".join(f"{cell:>11}" for cell in cells))
    if not all(row.language.has_worker for row in rows):
        print("- gRPC-Web has no streams of the client, so a worker cannot live in a browser")
    print(f"{passed} passed, {failed} failed")
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
