"""The commands of the README's section on many machines, as they stand, on services of their own."""

import asyncio
import os
import re
import signal
import socket
import tempfile

from harness import ROOT
from harness.services import Services
from support.server import BINARY

SECTION = "## Run it on many machines"
WITHIN_S = 120


def commands() -> str:
    section = (ROOT / "README.md").read_text().partition(SECTION)[2].partition("\n## ")[0]
    block = re.search(r"```bash\n(.*?)```", section, re.DOTALL)
    assert block, f"the README has no commands under {SECTION!r}"
    return block.group(1)


def free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return "127.0.0.1:%d" % listener.getsockname()[1]


async def run_it() -> None:
    """Only what the section takes for granted is given: the engines, the program and two free ports."""
    services = Services()
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
            said = await run_shell(f"set -eu\n{commands()}", environment, directory)
    finally:
        await services.down()
    for text in ("chat-1", "Hello, whoever you are"):
        assert text in said, f"{text!r} was not said:\n{said}"
    assert said.rindex("Hello, whoever you are") > said.index("asked to stop"), f"the message did not outlive the replica:\n{said}"


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
