"""A worker as an agent author would write one: takes runs, keeps their leases over lost connections, gives up those that
are lost."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import grpc
from harness.calls import Client, reason_of
from ledger import into, out, owned, reference
from support.stubs import channel_pb2 as ch
from support.stubs import channel_service_pb2 as pb
from support.stubs import run_service_pb2 as runs
from support.stubs import worker_service_pb2 as work
from world import World, append

# Why a run that lost its lease, or was superseded, hears no.
LOST = ("FENCED", "STALE_SNAPSHOT", "RUN_NOT_READY", "UNAUTHENTICATED", "PERMISSION_DENIED", "SESSION_CLOSED")
RECONNECT_PAUSE_S = 0.1


class Lost(Exception):
    """The run is another worker's business by now."""


class Ended(Exception):
    """The Work stream ended without an error."""


@dataclass
class Held:
    """A run under this worker's lease."""

    task: asyncio.Task
    run: "Execution"
    alive_until: float


class Worker:
    """`execute` gets an Execution; when it returns, the run is completed, unless it was suspended."""

    def __init__(
        self, world: World, client: Client, worker_id: str, task: str, execute: Callable[["Execution"], Awaitable], capacity: int = 64
    ):
        self._world, self._client, self.id = world, client, worker_id
        self._hello = work.WorkerHello(worker_id=worker_id, task_identifiers=[task], capacity=capacity, version="1")
        self._execute = execute
        self._held: dict[tuple[str, int], Held] = {}
        self._outgoing: asyncio.Queue = asyncio.Queue()
        self._welcome: work.WorkerWelcome | None = None
        self.connected = asyncio.Event()
        self._failed: BaseException | None = None
        self._serving = asyncio.create_task(self._serve_for_ever())

    def check(self) -> None:
        """Raises what broke the worker or one of its runs."""
        if self._failed is not None:
            raise self._failed
        if self._serving.done() and not self._serving.cancelled():
            self._serving.result()

    async def kill(self) -> None:
        """As if its process were gone: nothing more is sent, and its connections end."""
        jobs = [self._serving, *(held.task for held in self._held.values())]
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
        await self._client.close()

    async def go_silent(self) -> None:
        """As if its machine had lost its network: nothing more is sent, and the other side hears of no end."""
        self._is_silent = True
        for held in self._held.values():
            held.task.cancel()

    _is_silent = False

    async def _serve_for_ever(self) -> None:
        while True:
            try:
                await self._serve()
            except (grpc.aio.AioRpcError, grpc.aio.UsageError, Ended, asyncio.CancelledError) as error:
                if asyncio.current_task().cancelling():
                    raise
                if not isinstance(error, grpc.aio.UsageError | Ended):
                    self._client.heard.judge(error)
            if self._is_silent:
                return
            self.connected.clear()
            await self._client.reconnect()
            await asyncio.sleep(RECONNECT_PAUSE_S)

    async def _serve(self) -> None:
        self._outgoing = asyncio.Queue()
        self._drop_expired()
        hello = work.WorkerHello()
        hello.CopyFrom(self._hello)
        hello.held_leases.extend(work.LeaseRef(run_id=run, lease=lease) for run, lease in self._held)
        call = self._client.workers.Work(metadata=self._client.metadata)
        await call.write(work.WorkRequest(hello=hello))
        sending = asyncio.create_task(self._send(call))
        try:
            while (message := await call.read()) is not grpc.aio.EOF:
                if not self._is_silent:
                    self._take(message)
        finally:
            sending.cancel()
            call.cancel()
        if (code := await call.code()) != grpc.StatusCode.OK:
            raise grpc.aio.AioRpcError(code, await call.initial_metadata(), await call.trailing_metadata(), await call.details())
        raise Ended

    async def _send(self, call) -> None:
        """What there is to report, and a heartbeat in between."""
        loop = asyncio.get_running_loop()
        beat_at = 0.0
        while True:
            message = None
            try:
                async with asyncio.timeout(max(0.01, beat_at - loop.time()) if self._welcome else 5):
                    message = await self._outgoing.get()
            except TimeoutError:
                pass
            if self._is_silent:
                continue
            try:
                if message is not None:
                    await call.write(work.WorkRequest(**message))
                if loop.time() >= beat_at and self._welcome:
                    self._drop_expired()
                    leases = [work.LeaseRef(run_id=run, lease=lease) for run, lease in self._held]
                    await call.write(work.WorkRequest(heartbeat=work.WorkerHeartbeat(leases=leases)))
                    beat_at = loop.time() + self._welcome.heartbeat_ms / 1000
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError, grpc.aio.UsageError):
                return  # the reading side hears why

    def _take(self, message: work.WorkResponse) -> None:
        now = asyncio.get_running_loop().time()
        match message.WhichOneof("message"):
            case "welcome":
                self._welcome = message.welcome
                self.connected.set()
                self._outgoing.put_nowait(None)  # the heartbeat begins
            case "assignment":
                self._begin(message.assignment, now)
            case "renewed":
                for renewed in message.renewed.leases:
                    if held := self._held.get((renewed.lease.run_id, renewed.lease.lease)):
                        held.alive_until = now + self._welcome.lease_ms / 1000
                        held.run.client.metadata = bearer(renewed.run_token)
            case "revoked":
                lease = message.revoked.lease
                if held := self._held.pop((lease.run_id, lease.lease), None):
                    held.task.cancel()
            case "stop":
                lease = message.stop.lease
                if held := self._held.get((lease.run_id, lease.lease)):
                    held.run.is_asked_to_stop = True

    def _begin(self, assignment: work.Assignment, now: float) -> None:
        key = (assignment.run.id, assignment.lease)
        self._world.ledger.assign(*key, self.id)
        run = Execution(self._world, self, assignment)
        task = asyncio.create_task(self._run(key, run))
        self._held[key] = Held(task, run, now + assignment.lease_ms / 1000)
        if not assignment.HasField("resumed_by"):
            self.report(started=work.AttemptStarted(lease=run.lease))

    async def _run(self, key: tuple[str, int], run: "Execution") -> None:
        try:
            await self._execute(run)
            self._held.pop(key, None)
            if run.is_suspended:
                self.report(suspended=work.AttemptSuspended(lease=run.lease))
            else:
                self.report(completed=work.AttemptCompleted(lease=run.lease, output="null"))
        except Lost:
            self._held.pop(key, None)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self._failed = error
            raise
        finally:
            await run.client.close()

    def _drop_expired(self) -> None:
        now = asyncio.get_running_loop().time()
        for key in [key for key, held in self._held.items() if held.alive_until <= now]:
            self._held.pop(key).task.cancel()

    def report(self, **message) -> None:
        self._outgoing.put_nowait(message)

    def connection(self, token: str) -> Client:
        """For what a run does with its own token."""
        return Client(self._client.address, token, self._client.heard)


class Execution:
    """One assignment, as the code of a task sees it."""

    def __init__(self, world: World, worker: Worker, assignment: work.Assignment):
        self._world, self._worker = world, worker
        self.assignment = assignment
        self.id, self.session = assignment.run.id, assignment.session.id
        self.lease = work.LeaseRef(run_id=self.id, lease=assignment.lease)
        self.in_seq_num = assignment.in_seq_num
        self.client = worker.connection(assignment.run_token)
        self.worker_id = worker.id
        self.is_suspended = False
        self.is_asked_to_stop = False
        self._numbers = itertools.count()

    async def write(self) -> pb.AppendResponse:
        """The next record of `.out`."""
        number = next(self._numbers)
        writer = f"{self.id}/{self.lease.lease}"
        body = owned(self.id, self.lease.lease, number)
        return await self._call(append(self._world, self.client, out(self.session), writer, f"{writer}/{number}", body, *LOST))

    async def read(self, idle_ms: int) -> AsyncIterator[ch.Record]:
        """Data of `.in` from where it is unread, until nothing has come for so long."""
        while True:
            start = ch.ReadStart(seq_num=self.in_seq_num, clamp=True)
            request = pb.ReadRequest(channel=reference(into(self.session)), start=start, idle_timeout_ms=idle_ms)
            call = self.client.channels.Read(request, metadata=self.client.metadata)
            try:
                async for event in call:
                    for record in event.batch.records:
                        assert record.seq_num == self.in_seq_num, f"{self.session}: {record.seq_num} and not {self.in_seq_num}"
                        self._world.ledger.read[self.session].add(record.seq_num)
                        self.in_seq_num += 1
                        if not (len(record.headers) == 1 and record.headers[0].name == b""):
                            yield record
                    if event.HasField("batch"):
                        position = work.ReadPosition(lease=self.lease, seq_num=self.in_seq_num)
                        self._worker.report(read_position=position)
                return
            except (grpc.aio.AioRpcError, asyncio.CancelledError) as error:
                if asyncio.current_task().cancelling():
                    raise
                if isinstance(error, grpc.aio.AioRpcError) and reason_of(error) in LOST:
                    raise Lost from error
                self.client.heard.judge(error)
                await self.client.reconnect()
            finally:
                call.cancel()
            await asyncio.sleep(RECONNECT_PAUSE_S)

    async def suspend(self) -> None:
        """Until there is more in `.in`. The run goes on in another execution."""
        wait = runs.WaitOnChannelRequest(run_id=self.id, session=self.session, direction=ch.DIRECTION_IN)
        if self.in_seq_num > 0:
            wait.last_seq_num = self.in_seq_num - 1
        made = await self._call(self.client.call(lambda c: c.runs.WaitOnChannel, wait, *LOST))
        suspend = runs.SuspendOnWaitpointRequest(run_id=self.id, waitpoint_id=made.waitpoint.id, lease=self.lease.lease)
        await self._call(self.client.call(lambda c: c.runs.SuspendOnWaitpoint, suspend, *LOST))
        self.is_suspended = True

    @staticmethod
    async def _call(call: Awaitable):
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            raise Lost from error


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)
