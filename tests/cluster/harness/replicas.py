"""`continuo serve` processes on the same services."""

import asyncio
import base64
import os
import re
import secrets
import signal
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from support.server import BINARY, new_key

from . import rest
from .services import run

START_S_MAX = 60
STOP_S_MAX = 40
# Short, so that a takeover is seen in seconds.
LEASE_MS = 3_000
HEARTBEAT_MS = 500


@dataclass(frozen=True)
class Keys:
    """The same for every replica."""

    dev: str = field(default_factory=new_key)
    admin: str = field(default_factory=lambda: "tr_pat_" + secrets.token_hex(20))
    master: str = field(default_factory=lambda: base64.b64encode(secrets.token_bytes(32)).decode())


def settings(keys: Keys, services: dict[str, str], replicas: int) -> dict[str, str]:
    return {
        **services,
        "PATH": os.environ["PATH"],
        "CONTINUO_REPLICAS": str(replicas),
        "CONTINUO_LISTEN": "127.0.0.1:0",
        "CONTINUO_DEV_SECRET_KEY": keys.dev,
        "CONTINUO_ADMIN_KEY": keys.admin,
        "CONTINUO_MASTER_KEY": keys.master,
        "CONTINUO_WORKER_LEASE_MS": str(LEASE_MS),
        "CONTINUO_WORKER_HEARTBEAT_MS": str(HEARTBEAT_MS),
        "CONTINUO_LOG": os.environ.get("CONTINUO_LOG", "info,fjall=warn,lsm_tree=warn,sea_orm_migration=warn"),
    }


async def migrate(environment: dict[str, str]) -> None:
    await run(BINARY, "migrate", "up", env=environment)


class Replica:
    """One process at a time; each start has a port of its own, so that a port that others took meanwhile is no matter."""

    def __init__(self, number: int, environment: dict[str, str]):
        self.name = f"replica-{number}"
        self.address = ""
        self._directory = tempfile.TemporaryDirectory(prefix=f"continuo-{self.name}-")
        self._environment = {**environment, "CONTINUO_DATA_DIR": self._directory.name}
        self._process: asyncio.subprocess.Process | None = None
        self._log = Path(self._directory.name) / "said"

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int:
        return self._process.pid

    async def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                BINARY, "serve", env=self._environment,
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=log,
            )
        try:
            async with asyncio.timeout(START_S_MAX):
                while found := await self._process.stdout.readline():
                    if address := re.search(rb"listening on https?://(\S+)", found):
                        self.address = address.group(1).decode().rstrip("/")
                        break
                while self.is_running and not await self.is_ready():
                    await asyncio.sleep(0.02)
        except TimeoutError:
            pass
        if not self.is_running or not await self.is_ready():
            raise RuntimeError(f"{self.name} did not become ready:\n{self.last_words()}")

    async def is_ready(self) -> bool:
        try:
            return (await rest.request(self.address, "GET", "/readyz", within_s=2)).status == 200
        except (OSError, TimeoutError):
            return False

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    async def kill(self) -> None:
        """At once and without a last word."""
        if self.is_running:
            self._process.kill()
            await self._process.wait()

    async def stop(self) -> None:
        """As an operator does."""
        self._process.terminate()
        try:
            code = await asyncio.wait_for(self._process.wait(), STOP_S_MAX)
        except TimeoutError:
            raise AssertionError(f"{self.name} did not stop on SIGTERM:\n{self.last_words()}") from None
        assert code == 0, f"{self.name} ended with {code} on SIGTERM:\n{self.last_words()}"

    def last_words(self, lines: int = 30) -> str:
        return "\n".join(f"  {self.name}: {line}" for line in self.log().splitlines()[-lines:])

    def log(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    async def remove(self) -> None:
        await self.kill()
        self._directory.cleanup()
