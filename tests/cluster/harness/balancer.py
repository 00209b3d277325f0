"""A plain TCP load balancer: round robin over the replicas that answer, and hands to break its connections with."""

import asyncio

from . import rest
from .replicas import Replica

CONNECT_S_MAX = 1
CHECK_EVERY_S = 0.5
CHECK_S_MAX = 2


class Balancer:
    """Asks each replica whether it lives. One that does not answer gets no connections and loses those it has."""

    def __init__(self, replicas: list[Replica]):
        self._replicas = replicas
        self._next = 0
        self._drained: set[Replica] = set()
        self._down: set[Replica] = set()
        self._relays: dict[Replica, set[_Near]] = {replica: set() for replica in replicas}
        self.connections: dict[Replica, int] = dict.fromkeys(replicas, 0)
        self.address = ""

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Near(self), "127.0.0.1", 0)
        self.address = "127.0.0.1:%d" % self._server.sockets[0].getsockname()[1]
        self._checks = asyncio.create_task(self._check_for_ever())

    async def stop(self) -> None:
        self._server.close()
        self._checks.cancel()
        for replica in self._replicas:
            self.cut(replica)

    def drain(self, replica: Replica) -> None:
        """No new connections for it, as before a planned stop."""
        self._drained.add(replica)

    def restore(self, replica: Replica) -> None:
        self._drained.discard(replica)

    def cut(self, replica: Replica) -> int:
        """Resets every connection to it; new ones are made. How many."""
        victims = set(self._relays[replica])
        for relay in victims:
            relay.abort()
        return len(victims)

    def cut_all(self) -> int:
        return sum(self.cut(replica) for replica in self._replicas)

    async def connect(self, near: "_Near") -> None:
        """To the next replica that takes it; nobody there is a reset."""
        loop = asyncio.get_running_loop()
        for _ in self._replicas:
            replica = self._replicas[self._next % len(self._replicas)]
            self._next += 1
            if replica in self._drained or replica in self._down or not replica.address:
                continue
            host, _, port = replica.address.rpartition(":")
            try:
                async with asyncio.timeout(CONNECT_S_MAX):
                    await loop.create_connection(lambda: _Far(near), host, int(port))
            except (OSError, TimeoutError):
                continue
            relays = self._relays[replica]
            relays.add(near)
            near.at_end(lambda relays=relays: relays.discard(near))
            self.connections[replica] += 1
            return
        near.abort()

    async def _check_for_ever(self) -> None:
        while True:
            await asyncio.gather(*map(self._check, self._replicas))
            await asyncio.sleep(CHECK_EVERY_S)

    async def _check(self, replica: Replica) -> None:
        try:
            await rest.request(replica.address, "GET", "/healthz", within_s=CHECK_S_MAX)
            self._down.discard(replica)
        except (OSError, TimeoutError, ValueError):
            self._down.add(replica)
            self.cut(replica)


class _End(asyncio.Protocol):
    """One side of a relayed connection."""

    other: "_End | None" = None
    has_ended = False

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.other.transport.write(data)

    def eof_received(self) -> bool:
        """The other direction may go on."""
        self.has_ended = True
        if self.other is None or self.other.has_ended:
            return False
        self.other.transport.write_eof()
        return True

    def pause_writing(self) -> None:
        self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if not self.other.transport.is_closing():
            self.other.transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        if self.other is None:
            return
        # What was received is delivered; a reset is handed on as one.
        if error is None:
            self.other.transport.close()
        else:
            self.other.transport.abort()


class _Near(_End):
    """The client's side."""

    def __init__(self, balancer: Balancer):
        self._balancer = balancer
        self._at_end = None
        self._is_lost = False

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        transport.pause_reading()
        self._connecting = asyncio.create_task(self._balancer.connect(self))

    def at_end(self, callback) -> None:
        self._at_end = callback
        if self._is_lost:
            callback()

    def connection_lost(self, error: Exception | None) -> None:
        self._is_lost = True
        if self._at_end is not None:
            self._at_end()
        super().connection_lost(error)

    def abort(self) -> None:
        if self.other is not None:
            self.other.transport.abort()
        self.transport.abort()


class _Far(_End):
    """The replica's side."""

    def __init__(self, near: _Near):
        self._near = near

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        if self._near.transport.is_closing():
            transport.abort()
            return
        self.other, self._near.other = self._near, self
        self._near.transport.resume_reading()
