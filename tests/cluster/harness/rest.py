"""Plain HTTP/1.1 as any client speaks it: one request per connection, and event streams."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Event:
    kind: str
    id: str
    data: str


class Refused(Exception):
    """An answer that is no success."""

    def __init__(self, answer: Answer):
        super().__init__(f"{answer.status} {answer.body.decode(errors='replace')[:200]}")
        self.answer = answer


async def request(
    address: str, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b"", within_s: float = 20
) -> Answer:
    async with asyncio.timeout(within_s), _sent(address, method, path, headers or {}, body) as (status, fields, reader):
        return Answer(status, fields, b"".join([part async for part in _body(reader, fields)]))


async def events(address: str, path: str, headers: dict[str, str], begin_within_s: float = 20) -> AsyncIterator[Event]:
    """Ends with the body; a connection that breaks before is a ConnectionError."""
    async with asyncio.timeout(begin_within_s) as patience, _sent(address, "GET", path, headers, b"") as (status, fields, reader):
        if status != 200:
            raise Refused(Answer(status, fields, b"".join([part async for part in _body(reader, fields)])))
        patience.reschedule(None)
        rest = b""
        async for part in _body(reader, fields):
            *frames, rest = (rest + part).split(b"\n\n")
            for frame in frames:
                yield _event(frame.decode())


@asynccontextmanager
async def _sent(address: str, method: str, path: str, headers: dict[str, str], body: bytes):
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        fields = {"Host": address, "Connection": "close", **headers}
        if body or method in ("POST", "PUT"):
            fields["Content-Length"] = str(len(body))
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        writer.write(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body)
        await writer.drain()
        yield *await _head(reader), reader
    finally:
        writer.transport.abort()


async def _head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    status = await _line(reader)
    fields = {}
    while line := await _line(reader):
        name, _, value = line.partition(":")
        fields[name.strip().lower()] = value.strip()
    return int(status.split()[1]), fields


async def _line(reader: asyncio.StreamReader) -> str:
    line = await reader.readline()
    if not line.endswith(b"\n"):
        raise ConnectionError("the connection ended in mid-answer")
    return line.decode().rstrip("\r\n")


async def _body(reader: asyncio.StreamReader, fields: dict[str, str]) -> AsyncIterator[bytes]:
    try:
        if fields.get("transfer-encoding") == "chunked":
            while size := int(await _line(reader), 16):
                yield await reader.readexactly(size)
                await reader.readexactly(2)
        elif length := int(fields.get("content-length", 0)):
            yield await reader.readexactly(length)
    except asyncio.IncompleteReadError:
        raise ConnectionError("the connection ended in mid-answer") from None


def _event(frame: str) -> Event:
    fields = {"event": "message", "id": "", "data": ""}
    for line in frame.split("\n"):
        name, _, value = line.partition(": ")
        if name in fields:
            fields[name] = value
    return Event(fields["event"], fields["id"], fields["data"])
