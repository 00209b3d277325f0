"""gRPC clients that go on until they are answered, and the judgement of what they hear meanwhile."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable

import grpc
from support import stubs
from support.client import Refusal

from . import rest

Code = grpc.StatusCode
CALL_S_MAX = 10
# A cluster that needs longer than this for one answer has not recovered.
ANSWER_S_MAX = 90
# What the transport itself says of a connection that broke.
TRANSPORT = {Code.UNAVAILABLE, Code.CANCELLED, Code.DEADLINE_EXCEEDED, Code.UNKNOWN, Code.INTERNAL}


class Unexpected(AssertionError):
    """An answer that no fault explains."""


class Heard(Counter):
    """What clients heard beside success, by its name."""

    def judge(self, error: BaseException, *also: str) -> str:
        """Counts a refusal that may happen while something is broken, or that the caller names by its reason, and gives its
        name; raises at any other."""
        name, is_expected = _name(error)
        if not is_expected and name.rpartition(" ")[2] not in also:
            raise Unexpected(f"a client heard {name}: {_text(error)}") from error
        self[name] += 1
        return name.rpartition(" ")[2]

    def __str__(self) -> str:
        return ", ".join(f"{name} {count}" for name, count in sorted(self.items())) or "nothing but answers"


def _name(error: BaseException) -> tuple[str, bool]:
    if isinstance(error, grpc.aio.AioRpcError):
        said = Refusal(error)
        if said.reason is None:
            return f"transport {said.code.name}", said.code in TRANSPORT
        # Said by the server: trying again helps, and it says so. An append of unknown outcome is repeated by its part id.
        retry = said.code is Code.UNAVAILABLE and said.may_retry
        return f"grpc {said.code.name} {said.reason}", retry or said.reason == "OUTCOME_UNKNOWN"
    if isinstance(error, rest.Refused):
        # 500 is an append of unknown outcome, but only where it says when to try again.
        status, retry_after = error.answer.status, error.answer.headers.get("retry-after")
        return f"http {status}", status in (500, 503) and retry_after is not None
    if isinstance(error, TimeoutError):
        return "transport TIMEOUT", True
    if isinstance(error, OSError | EOFError | asyncio.CancelledError):
        return f"transport {type(error).__name__}", True
    return type(error).__name__, False


def _text(error: BaseException) -> str:
    return error.details() if isinstance(error, grpc.aio.AioRpcError) else str(error)


class Client:
    """The stubs of one credential over one connection, which is made anew when it seems to be lost."""

    def __init__(self, address: Callable[[], str], key: str, heard: Heard):
        self.address, self.heard = address, heard
        self.metadata = (("authorization", f"Bearer {key}"),)
        self._channel: grpc.aio.Channel | None = None
        self._connect()

    def _connect(self) -> None:
        # Without a pool of its own, a connection would be shared with other clients and break for all of them.
        options = [
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.initial_reconnect_backoff_ms", 20),
            ("grpc.max_reconnect_backoff_ms", 500),
            ("grpc.enable_retries", 0),
        ]
        self._connected_to = self.address()
        self._channel = grpc.aio.insecure_channel(self._connected_to, options=options)
        self.sessions = stubs.session_service_pb2_grpc.SessionServiceStub(self._channel)
        self.channels = stubs.channel_service_pb2_grpc.ChannelServiceStub(self._channel)
        self.runs = stubs.run_service_pb2_grpc.RunServiceStub(self._channel)
        self.workers = stubs.worker_service_pb2_grpc.WorkerServiceStub(self._channel)

    async def reconnect(self) -> None:
        """The next call goes over a new connection, to whichever replica the balancer chooses."""
        old = self._channel
        self._connect()
        await old.close(grace=0.1)

    async def call(self, method: Callable[["Client"], Callable], request, *also: str, within_s: float = ANSWER_S_MAX):
        """Again and again until it is answered. A refusal for one of the reasons in `also` is handed on."""
        deadline = asyncio.get_running_loop().time() + within_s
        pause = 0.02
        while True:
            try:
                return await method(self)(request, metadata=self.metadata, timeout=CALL_S_MAX)
            except (grpc.aio.AioRpcError, asyncio.CancelledError, grpc.aio.UsageError) as error:
                if isinstance(error, asyncio.CancelledError) and asyncio.current_task().cancelling():
                    raise
                if isinstance(error, grpc.aio.AioRpcError) and Refusal(error).reason in also:
                    raise
                said = None if isinstance(error, grpc.aio.UsageError) else self.heard.judge(error)
                if said in ("DEADLINE_EXCEEDED", "SERVER_STOPPING") or self.address() != self._connected_to:
                    await self.reconnect()
                if asyncio.get_running_loop().time() > deadline:
                    raise AssertionError(f"no answer within {within_s:.0f} s; last: {_name(error)[0]}") from error
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))
            pause = min(pause * 2, 1)

    async def close(self) -> None:
        await self._channel.close(grace=0)


async def forever_retried(heard: Heard, attempt: Callable[[], Awaitable], within_s: float = ANSWER_S_MAX):
    """The same for a call over HTTP."""
    deadline = asyncio.get_running_loop().time() + within_s
    pause = 0.02
    while True:
        try:
            return await attempt()
        except (rest.Refused, OSError, TimeoutError) as error:
            heard.judge(error)
            if asyncio.get_running_loop().time() > deadline:
                raise AssertionError(f"no answer within {within_s:.0f} s; last: {_name(error)[0]}") from error
        await asyncio.sleep(pause * random.uniform(0.5, 1.5))
        pause = min(pause * 2, 1)


def reason_of(error: grpc.aio.AioRpcError) -> str | None:
    return Refusal(error).reason
