"""The server that dies and comes back, as the load sees it: sometimes there, each time at another address."""

import asyncio
import sys
from pathlib import Path

import grpc

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "clients/python"))

from support import stubs  # noqa: E402
from support.server import Server  # noqa: E402

# What a caller may hear while the server is dying or not there. Anything else is a finding.
MAY_HAPPEN = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.UNKNOWN,
}
# What the Python client itself says when a write hits a connection that has just broken; no server sends this text.
CLIENTS_OWN_WORDS = "Internal error from Core"
CALL_S_MAX = 20


def raise_unless_expected(code: grpc.StatusCode, details: str | None) -> None:
    if code not in MAY_HAPPEN and details != CLIENTS_OWN_WORDS:
        raise AssertionError(f"an unexpected refusal: {code} {details}")


class Stubs:
    def __init__(self, address: str, key: str):
        # Without this, connections of different generations would be shared and back off together.
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.initial_reconnect_backoff_ms", 20)]
        self.channel = grpc.aio.insecure_channel(address, options=options)
        self.metadata = (("authorization", f"Bearer {key}"),)
        self.sessions = stubs.session_service_pb2_grpc.SessionServiceStub(self.channel)
        self.channels = stubs.channel_service_pb2_grpc.ChannelServiceStub(self.channel)


class World:
    def __init__(self, segment_bytes: int):
        self.server = Server("serve", "--channel-log-segment-bytes", str(segment_bytes))
        self._up = asyncio.Event()
        self._stubs: Stubs | None = None
        self.stopping = False
        self._progress = asyncio.Condition()
        self.acknowledgements = 0

    async def start(self) -> None:
        await asyncio.to_thread(self.server.start)
        self._stubs = Stubs(self.server.address, self.server.key)
        self._up.set()

    async def kill(self) -> None:
        self._up.clear()
        await asyncio.to_thread(self.server.kill)
        await self._forget()

    async def kill_while_starting(self, after_s: float) -> None:
        """The server is down; it is started and does not get far."""
        self.server.spawn()
        await asyncio.sleep(after_s)
        await asyncio.to_thread(self.server.kill)

    async def stop(self) -> int:
        self._up.clear()
        code = await asyncio.to_thread(self.server.stop)
        await self._forget()
        return code

    async def _forget(self) -> None:
        stubs, self._stubs = self._stubs, None
        if stubs is not None:
            await stubs.channel.close()

    async def up(self) -> Stubs:
        """Waits until there is a server."""
        while True:
            await self._up.wait()
            if self._stubs is not None:
                return self._stubs

    async def try_call(self, call):
        """The answer, or None if the server went away meanwhile; `call` gets the stubs."""
        here = await self.up()
        try:
            return await asyncio.wait_for(call(here), CALL_S_MAX + 5)
        except grpc.aio.AioRpcError as error:
            raise_unless_expected(error.code(), error.details())
            return None
        except asyncio.CancelledError:
            # Closing the channel of a dead server cancels its calls; a cancelled task stays cancelled.
            if asyncio.current_task().cancelling():
                raise
            return None

    async def call(self, call):
        """Again and again until it is answered."""
        while (answer := await self.try_call(call)) is None:
            await asyncio.sleep(0.01)
        return answer

    async def made_progress(self) -> None:
        self.acknowledgements += 1
        async with self._progress:
            self._progress.notify_all()

    async def await_progress(self, acknowledgements: int, enough_s: float, first_within_s: float) -> None:
        """So many more acknowledgements, or what comes in so many seconds; but none at all is a failure."""
        before = self.acknowledgements
        await self._await_acknowledgements(before + 1, first_within_s)
        try:
            await self._await_acknowledgements(before + acknowledgements, enough_s)
        except TimeoutError:
            pass

    async def _await_acknowledgements(self, goal: int, within_s: float) -> None:
        async with asyncio.timeout(within_s), self._progress:
            await self._progress.wait_for(lambda: self.acknowledgements >= goal)
