"""A worker: serves the sessions of a task by repeating what is said, word by word.

    python worker.py my-task

With nothing to do for a second, a run waits without holding a place. `/hand-over` makes it hand the session to a new run, as
for an upgrade; `/close` makes it close the session.
"""

import asyncio
import collections
import json
import os
import sys
import uuid

import grpc
from continuo.v1 import channel_pb2, channel_service_pb2, channel_service_pb2_grpc
from continuo.v1 import run_service_pb2, run_service_pb2_grpc, session_pb2
from continuo.v1 import session_service_pb2, session_service_pb2_grpc
from continuo.v1 import worker_service_pb2, worker_service_pb2_grpc

KEY = os.environ["CONTINUO_SECRET_KEY"]
IDLE_MS = 1000


def report(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)


def bearer(token):
    return [("authorization", f"Bearer {token}")]


class Worker:
    def __init__(self, channel):
        self.workers = worker_service_pb2_grpc.WorkerServiceStub(channel)
        self.channels = channel_service_pb2_grpc.ChannelServiceStub(channel)
        self.runs = run_service_pb2_grpc.RunServiceStub(channel)
        self.sessions = session_service_pb2_grpc.SessionServiceStub(channel)
        self.outgoing = asyncio.Queue()
        self.tokens = {}  # by (run, lease), of the leases that are held

    def send(self, **message):
        self.outgoing.put_nowait(worker_service_pb2.WorkRequest(**message))

    async def work(self, task):
        async with asyncio.TaskGroup() as tasks:
            self.send(hello=worker_service_pb2.WorkerHello(worker_id=str(uuid.uuid4()), task_identifiers=[task], capacity=10))
            async for message in self.workers.Work(messages(self.outgoing), metadata=bearer(KEY)):
                match message.WhichOneof("message"):
                    case "welcome":
                        tasks.create_task(self.beat(message.welcome.heartbeat_ms / 1000))
                    case "assignment":
                        tasks.create_task(self.serve(message.assignment))
                    case "renewed":
                        for renewed in message.renewed.leases:
                            self.tokens[renewed.lease.run_id, renewed.lease.lease] = renewed.run_token
                    case "revoked":
                        self.tokens.pop((message.revoked.lease.run_id, message.revoked.lease.lease), None)

    async def beat(self, seconds):
        while True:
            await asyncio.sleep(seconds)
            leases = [worker_service_pb2.LeaseRef(run_id=run, lease=lease) for run, lease in self.tokens]
            self.send(heartbeat=worker_service_pb2.WorkerHeartbeat(leases=leases))

    async def serve(self, assignment):
        """One lease of a run, from its assignment to its end."""
        held = assignment.run.id, assignment.lease
        lease = worker_service_pb2.LeaseRef(run_id=assignment.run.id, lease=assignment.lease)
        self.tokens[held] = assignment.run_token
        if assignment.HasField("resumed_by"):
            report("resumed", run=assignment.run.id)
        else:
            report("took", run=assignment.run.id, continuation=json.loads(assignment.run.payload).get("continuation", False))
            self.send(started=worker_service_pb2.AttemptStarted(lease=lease))
        try:
            output = await self.converse(assignment)
            if output is None:
                self.send(suspended=worker_service_pb2.AttemptSuspended(lease=lease))
            else:
                self.send(completed=worker_service_pb2.AttemptCompleted(lease=lease, output=json.dumps(output)))
        except grpc.RpcError as error:
            reason = session_pb2.RunError(name=error.code().name, message=error.details())
            self.send(failed=worker_service_pb2.AttemptFailed(lease=lease, error=reason))
        finally:
            self.tokens.pop(held, None)

    async def converse(self, assignment):
        """Answers until the run is over; its output, or nothing where it was suspended."""
        run, session, next_seq_num = assignment.run.id, assignment.session.id, assignment.in_seq_num
        attachment = Attachment(self.channels, session, next_seq_num, assignment.run_token)
        try:
            while True:
                record = await attachment.next()
                if record is None:
                    if await self.is_suspended(assignment, next_seq_num):
                        report("suspended", run=run)
                        return None
                    continue
                next_seq_num = record.seq_num + 1
                attachment.send(read_seq_num=next_seq_num)
                for word in record.body.split():
                    attachment.append(channel_pb2.NewRecord(body=word))
                attachment.append(turn_complete(record.seq_num))
                await attachment.flush()
                if record.body == b"/hand-over":
                    request = session_service_pb2.EndAndContinueRequest(session=session, calling_run_id=run, reason="upgrade")
                    swapped = await self.sessions.EndAndContinue(request, metadata=self.as_run(assignment))
                    report("handed over", run=run, next=swapped.run_id)
                    return "handed over"
                if record.body == b"/close":
                    request = session_service_pb2.CloseSessionRequest(session=session, reason="said so", calling_run_id=run)
                    await self.sessions.CloseSession(request, metadata=bearer(KEY))
                    report("closed", run=run)
                    return "closed"
        finally:
            attachment.stream.cancel()

    async def is_suspended(self, assignment, next_seq_num):
        """Gives the place back until there is input; false if there is some already."""
        wait = run_service_pb2.WaitOnChannelRequest(
            run_id=assignment.run.id, session=assignment.session.id, direction=channel_pb2.DIRECTION_IN
        )
        if next_seq_num > 0:
            wait.last_seq_num = next_seq_num - 1
        waitpoint = (await self.runs.WaitOnChannel(wait, metadata=self.as_run(assignment))).waitpoint
        if waitpoint.HasField("completed_at"):
            return False
        suspend = run_service_pb2.SuspendOnWaitpointRequest(
            run_id=assignment.run.id, waitpoint_id=waitpoint.id, lease=assignment.lease
        )
        await self.runs.SuspendOnWaitpoint(suspend, metadata=self.as_run(assignment))
        return True

    def as_run(self, assignment):
        return bearer(self.tokens.get((assignment.run.id, assignment.lease), assignment.run_token))


class Attachment:
    """The run's side of its session: what it appends goes to `.out`, and it reads `.in`."""

    def __init__(self, channels, session, next_seq_num, token):
        self.outgoing, self.inbox, self.pending = asyncio.Queue(), collections.deque(), 0
        start = channel_pb2.ReadStart(seq_num=next_seq_num)
        self.send(open=channel_service_pb2.AttachOpen(session=session, start=start, heartbeat_ms=IDLE_MS))
        self.stream = channels.Attach(messages(self.outgoing), metadata=bearer(token))
        self.incoming = aiter(self.stream)

    def send(self, **message):
        self.outgoing.put_nowait(channel_service_pb2.AttachRequest(**message))

    def append(self, record):
        self.pending += 1
        self.send(append=channel_service_pb2.ChannelAppend(records=[record]))

    async def flush(self):
        """Until everything appended is durable."""
        while self.pending:
            await self.take()

    async def next(self):
        """The next message, or nothing once there was none for a while."""
        while not self.inbox:
            if (await self.take()).HasField("heartbeat"):
                return None
        return self.inbox.popleft()

    async def take(self):
        message = await anext(self.incoming)
        self.pending -= message.HasField("ack")
        # A record with one header without a name is a command of the log itself.
        self.inbox.extend(r for r in message.batch.records if not (len(r.headers) == 1 and r.headers[0].name == b""))
        return message


async def messages(queue):
    while True:
        yield await queue.get()


def turn_complete(in_seq_num):
    pairs = {b"trigger-control": b"turn-complete", b"session-in-event-id": b"%d" % in_seq_num}
    return channel_pb2.NewRecord(headers=[channel_pb2.Header(name=name, value=value) for name, value in pairs.items()])


async def main(task):
    async with grpc.aio.insecure_channel(os.environ["CONTINUO_URL"].removeprefix("http://")) as channel:
        await Worker(channel).work(task)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
