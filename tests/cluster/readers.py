"""Subscribers that follow a channel over whatever breaks: each number once and in order."""

import asyncio
import json

import grpc
from harness import rest
from harness.calls import Client
from ledger import Channel, reference
from support.stubs import channel_pb2 as ch
from support.stubs import channel_service_pb2 as pb
from world import World

RESUME_PAUSE_S = 0.05


class Reader:
    """`next` is the number it waits for. A resume is good when the first attempt is answered."""

    def __init__(self, world: World, channel: Channel, name: str):
        self._world, self.channel, self.name = world, channel, name
        self.next = 0
        self.resumes = self.failed_resumes = 0
        self._is_answered = True
        self._job = asyncio.create_task(self._follow_for_ever())

    def check(self) -> None:
        if self._job.done():
            self._job.result()
            raise AssertionError(f"{self.name} has ended")

    async def leave(self) -> None:
        self._job.cancel()
        await asyncio.gather(self._job, return_exceptions=True)

    async def _follow_for_ever(self) -> None:
        while True:
            try:
                await self._follow()
            except (grpc.aio.AioRpcError, rest.Refused, OSError, TimeoutError, asyncio.CancelledError) as error:
                if asyncio.current_task().cancelling():
                    raise
                self._world.cluster.heard.judge(error)
            self.resumes += 1
            if not self._is_answered:
                self.failed_resumes += 1
                await asyncio.sleep(RESUME_PAUSE_S)
            self._is_answered = False

    async def _follow(self) -> None:
        raise NotImplementedError

    def _answered(self) -> None:
        self._is_answered = True

    def _take(self, seq: int, body: bytes, timestamp: int) -> None:
        assert seq == self.next, f"{self.name}: {seq} came instead of {self.next}"
        self._world.ledger.show(self.channel, seq, body, timestamp)
        self.next += 1


class GrpcReader(Reader):
    def __init__(self, world: World, client: Client, channel: Channel, name: str):
        self._client = client
        super().__init__(world, channel, name)

    async def _follow(self) -> None:
        start = ch.ReadStart(seq_num=self.next)
        request = pb.ReadRequest(channel=reference(self.channel), start=start, heartbeat_ms=1_000)
        call = self._client.channels.Read(request, metadata=self._client.metadata)
        try:
            async for event in call:
                self._answered()
                assert not event.HasField("gap"), f"{self.name}: {event.gap}, and nobody trimmed"
                for record in event.batch.records:
                    self._take(record.seq_num, record.body, record.timestamp_ms)
        finally:
            call.cancel()
            # As another process would come back, through the balancer.
            await self._client.reconnect()


class SseReader(Reader):
    """Of `.out`, as a browser."""

    def __init__(self, world: World, address, channel: Channel, name: str):
        self._address = address
        super().__init__(world, channel, name)

    async def _follow(self) -> None:
        headers = {"Authorization": f"Bearer {self._world.cluster.keys.dev}", "Timeout-Seconds": "600"}
        if self.next > 0:
            headers["Last-Event-ID"] = str(self.next - 1)
        path = f"/realtime/v1/sessions/{self.channel[0]}/out"
        async for event in rest.events(self._address(), path, headers):
            self._answered()
            if event.kind == "error":
                raise ConnectionError(event.data)
            if event.kind == "batch":
                for record in json.loads(event.data)["records"]:
                    self._take(record["seq_num"], record["body"].encode(), record["timestamp"])


def readers_of(world: World, channel: Channel, address, client: Client, name: str) -> list[Reader]:
    """One of each kind."""
    return [GrpcReader(world, client, channel, f"{name}-grpc"), SseReader(world, address, channel, f"{name}-sse")]
