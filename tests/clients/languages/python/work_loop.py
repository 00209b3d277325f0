"""The loop that a worker stands on, to be copied as it is: `work(task, serve)` takes the runs of a task, and calls `serve(run)`
for each, in a thread of its own.

It promises that a worker comes back when the network breaks or the server restarts, under its name and with the leases that it
holds, and that what was said of a run is said again until the server knows. A run attaches again where it was, and appends again
what was not acknowledged, so that it counts once. Once its lease is over, what it asks for next raises an error. Only what no
other try would change ends the loop, and is raised: a key or a task that is refused.
"""

import collections
import json
import os
import queue
import threading
import time
import uuid

import grpc
from continuo.v1 import channel_pb2, channel_service_pb2, channel_service_pb2_grpc
from continuo.v1 import run_service_pb2, run_service_pb2_grpc, session_pb2
from continuo.v1 import session_service_pb2, session_service_pb2_grpc
from continuo.v1 import worker_service_pb2, worker_service_pb2_grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

URL = os.environ["CONTINUO_URL"]
KEY = os.environ["CONTINUO_SECRET_KEY"]
IDLE_MS = 1000
PAUSE_S = 0.1
# With these there is no point in coming back with the same key and task.
FINAL = ("UNAUTHENTICATED", "PERMISSION_DENIED", "INVALID_ARGUMENT", "UNIMPLEMENTED")
# Pings find out that a connection is dead, and a server that was away is tried again before the leases end.
OPTIONS = [("grpc.keepalive_time_ms", 10_000), ("grpc.max_reconnect_backoff_ms", 1_000)]


def work(task, serve):
    """Calls `serve` for a fresh run, and again whenever a run that waited goes on. What it returns, anything that JSON can say, is
    the run's output; nothing means that the run was suspended. What it raises fails the attempt."""
    with grpc.insecure_channel(URL.removeprefix("http://"), OPTIONS) as channel:
        WorkLoop(channel, task, serve).work()


def report(event, **fields):
    # One write, so that no two threads share a line.
    print(json.dumps({"event": event, **fields}) + "\n", end="", flush=True)


def bearer(token):
    return [("authorization", f"Bearer {token}")]


def error_info(error):
    """The reason that the server gave; without one it was the network."""
    status = rpc_status.from_call(error)
    info = error_details_pb2.ErrorInfo()
    return next((info for detail in (status.details if status else ()) if detail.Unpack(info)), None)


def may_retry(error):
    return error.code() is grpc.StatusCode.UNAVAILABLE or error_info(error) is None


class WorkLoop:
    def __init__(self, channel, task, serve):
        self.channel, self.serve = channel, serve
        self.workers = worker_service_pb2_grpc.WorkerServiceStub(channel)
        self.hello = {"worker_id": str(uuid.uuid4()), "task_identifiers": [task], "capacity": 10}
        self.outgoing = None
        self.held = {}  # by name
        self.lock = threading.Lock()  # of what is said: nothing falls between two connections

    def work(self):
        while True:
            try:
                for message in self.connect():
                    self.take(message)
            except grpc.RpcError as error:
                if error.code().name in FINAL:
                    raise
                report("lost", code=error.code().value[0])
            self.outgoing.put(None)
            time.sleep(PAUSE_S)

    def connect(self):
        """Says what is still held: the server renews the leases that live on, and revokes the others."""
        with self.lock:
            self.outgoing = queue.SimpleQueue()
            held = list(self.held.values())
            self.send(hello=worker_service_pb2.WorkerHello(**self.hello, held_leases=[one.lease for one in held]))
            for one in held:
                if one.said:
                    self.send(**one.said)
        return self.workers.Work(iter(self.outgoing.get, None), metadata=bearer(KEY))

    def send(self, **message):
        self.outgoing.put(worker_service_pb2.WorkRequest(**message))

    def tell(self, held, **message):
        with self.lock:
            held.said = message
            self.send(**message)

    def take(self, message):
        match message.WhichOneof("message"):
            case "welcome":
                beat = [self.outgoing, message.welcome.heartbeat_ms / 1000]
                threading.Thread(target=self.beat, args=beat, daemon=True).start()
            case "assignment":
                held = Held(message.assignment)
                self.held[held.name] = held
                threading.Thread(target=self.attempt, args=[held], daemon=True).start()
            case "renewed":
                for renewed in message.renewed.leases:
                    if held := self.held.get(name_of(renewed.lease)):
                        held.token = renewed.run_token
            case "revoked":
                if held := self.held.pop(name_of(message.revoked.lease), None):
                    held.is_over = True

    def beat(self, outgoing, seconds):
        while outgoing is self.outgoing:
            leases = [held.lease for held in list(self.held.values())]
            outgoing.put(worker_service_pb2.WorkRequest(heartbeat=worker_service_pb2.WorkerHeartbeat(leases=leases)))
            time.sleep(seconds)

    def attempt(self, held):
        """One lease of a run, from its assignment to its end."""
        run, lease = RunContext(self.channel, held), held.lease
        try:
            if not run.is_resumed:
                self.tell(held, started=worker_service_pb2.AttemptStarted(lease=lease))
            try:
                output = self.serve(run)
            finally:
                run.leave()
            if output is None:
                self.tell(held, suspended=worker_service_pb2.AttemptSuspended(lease=lease))
            else:
                self.tell(held, completed=worker_service_pb2.AttemptCompleted(lease=lease, output=json.dumps(output)))
        except Exception as error:
            report("failed", run=run.id, error=str(error))
            reason = session_pb2.RunError(name=type(error).__name__, message=str(error))
            self.tell(held, failed=worker_service_pb2.AttemptFailed(lease=lease, error=reason))


class Held:
    """A lease of a run, from its assignment until the server revokes it; it does so too when it knows of the run's end."""

    def __init__(self, assignment):
        self.assignment, self.token = assignment, assignment.run_token
        self.lease = worker_service_pb2.LeaseRef(run_id=assignment.run.id, lease=assignment.lease)
        self.name = name_of(self.lease)
        self.said = {}  # the newest report
        self.is_over = False

    def ask(self, method, request, token=None):
        """A call with the newest token of the run, if no other is given."""
        return self.persist(lambda: method(request, metadata=bearer(token or self.token)))

    def persist(self, call):
        """Repeats what a broken network leaves open, until it is answered or the lease is over."""
        while not self.is_over:
            try:
                return call()
            except grpc.RpcError as error:
                if not may_retry(error):
                    raise
                time.sleep(PAUSE_S)
        raise RuntimeError("the lease is over")


class RunContext:
    """What a run is served with. What it appends goes to `.out` of its session, and it reads `.in`. After a break it reads on where
    it was, and appends again what was not acknowledged, under the same part ids, so that it counts once."""

    def __init__(self, channel, held):
        self.channels = channel_service_pb2_grpc.ChannelServiceStub(channel)
        self.runs = run_service_pb2_grpc.RunServiceStub(channel)
        self.sessions = session_service_pb2_grpc.SessionServiceStub(channel)
        self.held, self.ask = held, held.ask
        self.id, self.payload, self.session = held.lease.run_id, held.assignment.run.payload, held.assignment.session.id
        self.is_resumed = held.assignment.HasField("resumed_by")
        # Where reading begins, and where it has come to.
        self.in_seq_num = self.next_seq_num = held.assignment.in_seq_num
        self.inbox = collections.deque()
        self.parts, self.unacknowledged = 0, collections.deque()
        self.outgoing, self.stream = queue.SimpleQueue(), None

    def next(self):
        """The next message, or nothing once there was none for a while."""
        while not self.inbox:
            if self.take().HasField("heartbeat"):
                return None
        return self.inbox.popleft()

    def append(self, record):
        self.parts += 1
        append = channel_service_pb2.ChannelAppend(records=[record], part_id=f"{self.held.name}.{self.parts}")
        self.unacknowledged.append(append)
        self.send(append=append)

    def turn_complete(self, in_seq_num):
        """The end of a turn. It also tells the server how far `.in` was read, so that nothing is answered twice."""
        pairs = {b"trigger-control": b"turn-complete", b"session-in-event-id": b"%d" % in_seq_num}
        headers = [channel_pb2.Header(name=name, value=value) for name, value in pairs.items()]
        self.append(channel_pb2.NewRecord(headers=headers))

    def flush(self):
        """Until everything appended is durable."""
        while self.unacknowledged:
            self.take()

    def wait_for_input(self, next_seq_num):
        """Gives the place back until there is input; false if there is some already."""
        wait = run_service_pb2.WaitOnChannelRequest(run_id=self.id, session=self.session, direction=channel_pb2.DIRECTION_IN)
        if next_seq_num > 0:
            wait.last_seq_num = next_seq_num - 1
        # A repeat after a lost answer finds the same waitpoint.
        wait.idempotency_key = f"{self.held.name}.{next_seq_num}"
        waitpoint = self.ask(self.runs.WaitOnChannel, wait).waitpoint
        if waitpoint.HasField("completed_at"):
            return False
        lease = self.held.lease.lease
        suspend = run_service_pb2.SuspendOnWaitpointRequest(run_id=self.id, waitpoint_id=waitpoint.id, lease=lease)
        self.ask(self.runs.SuspendOnWaitpoint, suspend)
        return True

    def end_and_continue(self, reason):
        """Hands the session over to a new run; its id."""
        request = session_service_pb2.EndAndContinueRequest(session=self.session, calling_run_id=self.id, reason=reason)
        return self.ask(self.sessions.EndAndContinue, request).run_id

    def attach(self):
        self.outgoing = queue.SimpleQueue()
        start = channel_pb2.ReadStart(seq_num=self.next_seq_num)
        self.send(open=channel_service_pb2.AttachOpen(session=self.session, start=start, heartbeat_ms=IDLE_MS))
        for append in self.unacknowledged:
            self.send(append=append)
        self.stream = self.channels.Attach(iter(self.outgoing.get, None), metadata=bearer(self.held.token))

    def send(self, **message):
        self.outgoing.put(channel_service_pb2.AttachRequest(**message))

    def take(self):
        message = self.held.persist(self.receive)
        if message.HasField("ack"):
            self.unacknowledged.popleft()
        for record in message.batch.records:
            self.next_seq_num = record.seq_num + 1
            # A record with one header without a name is a command of the log itself.
            if not (len(record.headers) == 1 and record.headers[0].name == b""):
                self.inbox.append(record)
        return message

    def receive(self):
        if self.stream is None:
            self.attach()
        try:
            return next(self.stream)
        except grpc.RpcError:
            self.leave()
            raise

    def leave(self):
        self.outgoing.put(None)
        if self.stream is not None:
            self.stream.cancel()
            self.stream = None


def name_of(lease):
    return f"{lease.run_id}.{lease.lease}"
