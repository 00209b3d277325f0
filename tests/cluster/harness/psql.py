"""A connection to Postgres that stays, through psql."""

import asyncio
import contextlib

# More than the longest line anybody writes or reads here.
LINE_BYTES_MAX = 16 << 20
DONE = ":done"
# psql's own code for a connection that is lost; any other is a mistake in what it was given.
LOST_CODE = 2


class Lost(Exception):
    """The connection is gone; whether the last statements were committed is not known."""


class Psql:
    """Statements one after the other in one session, so that a transaction may stay open between them."""

    def __init__(self, url: str):
        self._url = url
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> "Psql":
        return self

    async def __aexit__(self, *_) -> None:
        await self.close()

    async def do(self, statements: str) -> list[str]:
        """The rows, their columns divided by `|`. Connects first if it has to."""
        if self._process is None:
            await self._connect()
        stdin, stdout = self._process.stdin, self._process.stdout
        try:
            stdin.write(f"{statements};\n\\echo {DONE}\n".encode())
            await stdin.drain()
            rows = []
            while line := await stdout.readline():
                if (row := line.decode().rstrip("\n")) == DONE:
                    return rows
                rows.append(row)
        except (BrokenPipeError, ConnectionResetError):
            pass
        except asyncio.CancelledError:
            await self.close()
            raise
        return await self._ended()

    async def close(self) -> None:
        """Without a word to the other side: an open transaction is rolled back."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()

    async def _connect(self) -> None:
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(
            "psql", "--no-psqlrc", "-qAt", "-v", "ON_ERROR_STOP=1", "-d", self._url,
            stdin=pipe, stdout=pipe, stderr=pipe, limit=LINE_BYTES_MAX,
        )

    async def _ended(self) -> list[str]:
        process, self._process = self._process, None
        said = (await process.stderr.read()).decode(errors="replace").strip()
        code = await process.wait()
        if code == LOST_CODE:
            raise Lost(said)
        raise AssertionError(f"psql ended with {code}: {said}")
