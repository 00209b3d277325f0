"""The document against itself, and against a live server. The last line says how many checks passed and failed.

A request is made by schemathesis from the document; the seed is printed, and CONTINUO_TEST_SEED gives another one.
"""

import atexit
import json
import os
import subprocess
import sys
import tempfile
import urllib.request
import xml.etree.ElementTree as xml
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "python"))

import document as described  # noqa: E402
from support.server import Server  # noqa: E402
from world import World, for_tokens, narrowed  # noqa: E402

SEED = int(os.environ.get("CONTINUO_TEST_SEED", "20261123"))
# Asked of every answer. Of the tool's other checks, wrong methods and their `Allow` are those of `tests/it/refusals`, and who
# may call is compared below, caller by caller.
ALWAYS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
]
# What is stored, or what is asked for beside, can need more than the scopes that are named, as their descriptions say.
MORE_THAN_SCOPES = {"createSession", "triggerTask", "appendRecords"}
REFUSALS = {401, 403}
RUN_S_MAX = 300
SAID_MAX = 60_000


class Tally:
    def __init__(self):
        self.passed = self.failed = 0

    def check(self, what: str, problems: list[str]) -> None:
        self.passed += not problems
        self.failed += bool(problems)
        print(f"{'not ok' if problems else 'ok'}  {what}")
        for problem in problems[:20]:
            print(f"        {problem}")


def main() -> int:
    tally = Tally()
    # The demo agent stays awake, so that its runs are there to be suspended.
    server = Server("dev", "--demo-idle-ms", "3600000", "--create-allow-jwt", "true").start()
    with urllib.request.urlopen(f"{server.url}/openapi.json", timeout=20) as answer:
        document = json.load(answer)
    tally.check("the document is OpenAPI 3.1", described.problems_of_form(document))
    tally.check("every parameter of a path is declared", described.problems_of_paths(document))
    count, problems = described.problems_of_examples(document)
    tally.check(f"{count} examples are what their schemas say", problems or ["there are none"][count:])
    live(tally, document, World(server.url, server.key), server.admin_key)
    print(f"{tally.passed} passed, {tally.failed} failed")
    return 0 if tally.passed and not tally.failed else 1


def live(tally: Tally, document: dict, world: World, admin_key: str) -> None:
    print(f"seed {SEED}")
    tight = described.tightened(document)
    good, bad = narrowed(tight, world, only_paths=False), narrowed(tight, world, only_paths=True)
    callers = {"key": world.key, "admin_key": admin_key, "url": world.url}
    # Each in a process of its own, at the same time: threads of one would wait for each other.
    runs = {
        "good": Run(good, callers, "key", "positive", 6, ["positive_data_acceptance"]),
        "bad": Run(bad, callers, "key", "negative", 6, ["negative_data_rejection"]),
        "by scopes": Run(for_tokens(good, world), callers, "scopes", "positive", 2, []),
        "bystander": Run(good, callers, "bystander", "positive", 1, []),
        "nobody": Run(good, callers, "nobody", "positive", 1, []),
    }
    for what, run in runs.items():
        run.finish(tally, what)
    for _, item in document["paths"].items():
        for _, operation in described.operations(item):
            check_callers(tally, operation, runs)


def check_callers(tally: Tally, operation: dict, runs: dict[str, "Run"]) -> None:
    """Whoever is named may call, and nobody else."""
    name = operation["operationId"]
    needed = {scheme for requirement in operation["security"] for scheme in requirement}
    answered = runs["good"].answered(name)
    has_succeeded = any(200 <= status < 300 for status in answered)
    counts = ", ".join(f"{n} x {status}" for status, n in sorted(answered.items()))
    tally.check(f"{name} succeeds: {counts}", [] if has_succeeded else ["no request did"])
    if not needed:
        return
    problems = []
    for who in ("nobody", "bystander"):
        statuses = set(runs[who].answered(name))
        if not statuses or not statuses <= REFUSALS:
            problems.append(f"{who}: {sorted(statuses)}")
    statuses = set(runs["by scopes"].answered(name))
    is_enough = not statuses & REFUSALS or (name in MORE_THAN_SCOPES and not statuses <= REFUSALS)
    if not statuses or is_enough != ("publicToken" in needed):
        problems.append(f"by scopes: {sorted(statuses)}")
    tally.check(f"{name} is for {', '.join(sorted(needed))}", problems)


class Run:
    """One run of the tool."""

    def __init__(self, document: dict, callers: dict, caller: str, mode: str, examples: int, checks: list[str]):
        self._folder = tempfile.TemporaryDirectory()
        folder = self._path = Path(self._folder.name)
        (folder / "openapi.json").write_text(json.dumps(document))
        (folder / "notes").touch()
        phases = "examples,fuzzing" if examples < 3 else "examples,coverage,fuzzing"
        command = [
            *(str(Path(sys.executable).parent / "schemathesis"), "--config-file", str(HERE / "schemathesis.toml"), "run"),
            *(str(folder / "openapi.json"), "--url", callers["url"], "--mode", mode, "--checks", ",".join(ALWAYS + checks)),
            *("--phases", phases, "--max-examples", str(examples), "--seed", str(SEED), "--generation-database", "none"),
            *("--report", "junit", "--report-junit-path", str(folder / "junit.xml"), "--no-color", "--warnings", "off"),
            # Where only a path can be wrong, nothing is left.
            *("--continue-on-failure", "--suppress-health-check", "filter_too_much"),
        ]
        environment = {
            **os.environ,
            "PYTHONPATH": str(HERE),
            "PYTHONDONTWRITEBYTECODE": "1",
            "SCHEMATHESIS_HOOKS": "hooks",
            "CONTINUO_OPENAPI_NOTES": str(folder / "notes"),
            "CONTINUO_OPENAPI_CALLER": json.dumps({**callers, "kind": caller}),
        }
        with open(folder / "said", "w") as said:
            self._process = subprocess.Popen(command, env=environment, stdout=said, stderr=said, cwd=folder)
        atexit.register(self._process.kill)

    def finish(self, tally: Tally, what: str) -> None:
        """A check for each operation."""
        code = self._process.wait(RUN_S_MAX)
        report = self._path / "junit.xml"
        cases = list(xml.parse(report).iter("testcase")) if report.exists() else []
        broken = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
        if code != 0 or not cases:
            print((self._path / "said").read_text()[-SAID_MAX:])
        for case in cases:
            tally.check(f"{what}: {case.get('name')}", ["see above"] if case in broken else [])
        if not cases or (code != 0 and not broken):
            tally.check(f"{what}: the tool ran", [f"it ended with {code}"])

    def answered(self, operation: str) -> Counter:
        """With which status, how often."""
        notes = (json.loads(line) for line in (self._path / "notes").read_text().splitlines())
        return Counter(status for name, status in notes if name == operation)


if __name__ == "__main__":
    sys.exit(main())
