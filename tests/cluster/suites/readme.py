"""The commands of the README's sections on engines that replicas share, as they stand, on services of their own."""

import asyncio
import os
import re
import signal
import socket
import tempfile

from harness import ROOT
from harness.services import Services
from support.server import BINARY

MACHINES = "## Run it on many machines"
LISTS = "## Lists on ClickHouse"
WITHIN_S = 120


def commands(title: str) -> str:
    section = (ROOT / "README.md").read_text().partition(f"\n{title}\n")[2].partition("\n## ")[0]
    block = re.search(r"```bash\n(.*?)```", section, re.DOTALL)
    assert block, f"the README has no commands under {title!r}"
    return block.group(1)


def free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return "127.0.0.1:%d" % listener.getsockname()[1]


async def many_machines() -> None:
    said = await run_section(MACHINES, Services())
    for text in ("chat-1", "Hello, whoever you are"):
        assert text in said, f"{text!r} was not said:\n{said}"
    assert said.rindex("Hello, whoever you are") > said.index("asked to stop"), f"the message did not outlive the replica:\n{said}"


async def lists() -> None:
    said = await run_section(LISTS, Services("clickhouse"))
    for text in ("index for lists is dropped", "continuo-as-of: ", '"externalId":"chat-1"', "sessions_replication_leader 1"):
        assert text in said, f"{text!r} was not said:\n{said}"


async def run_section(title: str, services: Services) -> str:
    """What the commands say. Only what the section takes for granted is given: the engines, the program and two free ports."""
    try:
        await services.up()
        with tempfile.TemporaryDirectory(prefix="continuo-readme-") as directory:
            environment = {
                **services.settings(),
                "PATH": os.environ["PATH"],
                "TMPDIR": directory,
                "CONTINUO": BINARY,
                "ONE": free_address(),
                "TWO": free_address(),
            }
            return await run_shell(f"set -eu\n{commands(title)}", environment, directory)
    finally:
        await services.down()


async def run_shell(script: str, environment: dict[str, str], directory: str) -> str:
    """What it says. Whatever it started ends with it."""
    pipe, null = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", script, env=environment, cwd=directory,
        stdin=null, stdout=pipe, stderr=asyncio.subprocess.STDOUT, start_new_session=True,
    )
    try:
        said, _ = await asyncio.wait_for(process.communicate(), WITHIN_S)
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    text = said.decode(errors="replace")
    assert process.returncode == 0, f"the commands ended with {process.returncode}:\n{text}"
    return text


SECTIONS = {"many machines": many_machines, "lists on ClickHouse": lists}
