"""One set of Postgres, Redis, s2-lite and a store of objects, on demand with ClickHouse, in a directory of its own, through
`tests/services`."""

import asyncio
import json
import os
import shlex
import signal
import tempfile
from pathlib import Path

from . import ROOT

SCRIPT = ROOT / "tests/services"
DATABASE = "continuo"


class Services:
    """They outlive a kill with their data: Postgres syncs, and s2-lite lies in files. Redis forgets."""

    NAMES = ("postgres", "redis", "s2", "blobs")

    def __init__(self, *also: str):
        self._names = (*self.NAMES, *also)
        self._directory = Path(tempfile.mkdtemp(prefix="continuo-cluster-"))
        self._urls: dict[str, str] = {}

    async def up(self) -> None:
        said = await self._script("up")
        for word in shlex.split(said, comments=False):
            name, equals, value = word.partition("=")
            if equals:
                self._urls[name.removeprefix("CONTINUO_TEST_")] = value
        await self.sql_do(f"create database {DATABASE}", database="postgres")

    async def start(self, name: str) -> None:
        await self._script("start", name)

    async def stop(self, name: str) -> None:
        await self._script("stop", name)

    async def kill(self, name: str) -> None:
        await self._script("kill", name)

    async def down(self) -> None:
        await self._script("down")

    async def mend(self, name: str) -> None:
        """Runs after it, whatever it did before."""
        await self.start(name)
        self.thaw(name)

    def freeze(self, name: str) -> None:
        os.kill(self._pid(name), signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        os.kill(self._pid(name), signal.SIGCONT)

    def settings(self) -> dict[str, str]:
        """What a replica has to be told to use them."""
        return {
            "CONTINUO_DATABASE_URL": self.database_url(),
            "CONTINUO_REDIS_URL": self._urls["REDIS_URL"],
            "CONTINUO_S2_ENDPOINT": self._urls["S2_ENDPOINT"],
            "CONTINUO_BLOBS_S3_ENDPOINT": self._urls["BLOBS_ENDPOINT"],
            "CONTINUO_BLOBS_S3_BUCKET": self._urls["BLOBS_BUCKET"],
            "CONTINUO_BLOBS_S3_ACCESS_KEY": self._urls["BLOBS_ACCESS_KEY"],
            "CONTINUO_BLOBS_S3_SECRET_KEY": self._urls["BLOBS_SECRET_KEY"],
            **({"CONTINUO_CLICKHOUSE_URL": self.clickhouse_url} if "clickhouse" in self._names else {}),
        }

    @property
    def clickhouse_url(self) -> str:
        return self._urls["CLICKHOUSE_URL"]

    @property
    def directory(self) -> Path:
        return self._directory

    def database_url(self, database: str = DATABASE) -> str:
        return self._urls["POSTGRES_URL"].rpartition("/")[0] + f"/{database}"

    async def sql(self, query: str) -> list[dict]:
        """The rows of a query, as the database has them."""
        wrapped = f"select coalesce(json_agg(row_to_json(r)), '[]') from ({query}) r"
        return json.loads(await self.sql_do(wrapped))

    async def sql_do(self, statement: str, database: str = DATABASE) -> str:
        return await run("psql", "--no-psqlrc", "-At", "-v", "ON_ERROR_STOP=1", "-d", self.database_url(database), "-c", statement)

    async def redis_do(self, command: str) -> None:
        address = self._urls["REDIS_URL"].removeprefix("redis://")
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"{command}\r\n".encode())
        answer = await reader.readline()
        writer.close()
        assert answer.startswith(b"+"), answer

    def _pid(self, name: str) -> int:
        return int((self._directory / f"{name}.pid").read_text())

    async def _script(self, *command: str) -> str:
        environment = {
            **os.environ,
            "CONTINUO_SERVICES_DIR": str(self._directory),
            "CONTINUO_SERVICES": " ".join(self._names),
            "CONTINUO_SERVICES_DURABLE": "1",
        }
        return await run(str(SCRIPT), *command, env=environment)


async def run(*command: str, env: dict[str, str] | None = None) -> str:
    """What a command prints; its complaint, if it fails."""
    pipe = asyncio.subprocess.PIPE
    null = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*command, env=env, stdin=null, stdout=pipe, stderr=pipe)
    out, err = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(command[:2])} ended with {process.returncode}: {err.decode(errors='replace').strip()}")
    return out.decode()
