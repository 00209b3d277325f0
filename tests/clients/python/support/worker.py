"""A worker process in a few lines: takes runs, keeps their leases, reports what became of them."""

import threading

from .client import Client
from .duplex import Duplex
from .stubs import worker_service_pb2 as pb


class Worker:
    def __init__(self, client: Client, worker_id: str, *tasks: str, capacity: int = 4):
        self._held: dict[str, int] = {}
        self._stopping = threading.Event()
        hello = pb.WorkerHello(worker_id=worker_id, task_identifiers=tasks, capacity=capacity, version="1")
        self._stream = Duplex(client.workers.Work, pb.WorkRequest(hello=hello), wait_s=120)
        self.welcome = self._stream.receive_until("welcome").welcome
        self._pulse = threading.Thread(target=self._beat, daemon=True)
        self._pulse.start()

    def _beat(self) -> None:
        while not self._stopping.wait(self.welcome.heartbeat_ms / 1000):
            leases = [pb.LeaseRef(run_id=run_id, lease=lease) for run_id, lease in dict(self._held).items()]
            self._stream.send(pb.WorkRequest(heartbeat=pb.WorkerHeartbeat(leases=leases)))

    def take(self) -> pb.Assignment:
        """The next run; a fresh one is reported as started."""
        assignment = self._stream.receive_until("assignment").assignment
        self._held[assignment.run.id] = assignment.lease
        if not assignment.HasField("resumed_by"):
            self._stream.send(pb.WorkRequest(started=pb.AttemptStarted(lease=self._lease(assignment))))
        return assignment

    def take_stop(self, assignment: pb.Assignment) -> pb.StopRequested:
        """Waits until the server asks this run to end."""
        while True:
            stop = self._stream.receive_until("stop").stop
            if stop.lease == self._lease(assignment):
                return stop

    def take_revoked(self, assignment: pb.Assignment) -> pb.LeaseRevoked:
        while True:
            revoked = self._stream.receive_until("revoked").revoked
            if revoked.lease == self._lease(assignment):
                return revoked

    def has_read(self, assignment: pb.Assignment, seq_num: int) -> None:
        position = pb.ReadPosition(lease=self._lease(assignment), seq_num=seq_num)
        self._stream.send(pb.WorkRequest(read_position=position))

    def suspended(self, assignment: pb.Assignment) -> None:
        self._held.pop(assignment.run.id, None)
        self._stream.send(pb.WorkRequest(suspended=pb.AttemptSuspended(lease=self._lease(assignment))))

    def completed(self, assignment: pb.Assignment, output: str) -> None:
        self._held.pop(assignment.run.id, None)
        done = pb.AttemptCompleted(lease=self._lease(assignment), output=output)
        self._stream.send(pb.WorkRequest(completed=done))

    def failed(self, assignment: pb.Assignment, name: str, message: str) -> None:
        self._held.pop(assignment.run.id, None)
        failed = pb.AttemptFailed(lease=self._lease(assignment), is_final=True)
        failed.error.name, failed.error.message = name, message
        self._stream.send(pb.WorkRequest(failed=failed))

    @staticmethod
    def _lease(assignment: pb.Assignment) -> pb.LeaseRef:
        return pb.LeaseRef(run_id=assignment.run.id, lease=assignment.lease)

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_) -> None:
        self._stopping.set()
        self._stream.cancel()
