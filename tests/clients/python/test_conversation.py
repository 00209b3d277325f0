"""A session as a real program lives through it: a user on a bad network, a worker that waits, hands over and ends."""

import json
import time
import unittest
import uuid

import grpc

from support.chat import End, control, in_channel, is_command, out_channel, text_record, turn_complete
from support.client import Client, refusal
from support.server import Server
from support.severable import Severable
from support.stubs import channel_service_pb2 as channels
from support.stubs import channel_pb2 as ch
from support.stubs import run_service_pb2 as runs
from support.stubs import session_service_pb2 as sessions
from support.worker import Worker

TASK = "storyteller"
WORDS = 60


class User:
    """Talks through a network that breaks, and keeps what it has seen: every number must come once and in order."""

    def __init__(self, address: str, token: str, session: str):
        self._relay = Severable(address)
        self._client = Client(self._relay.address, token)
        self._session = session
        self._unacknowledged: dict[str, str] = {}
        self.seen: list[ch.Record] = []
        self._attach()

    def _attach(self) -> None:
        self._end = End(self._client, self._session, len(self.seen))
        for part_id, text in self._unacknowledged.items():
            self._end.say(text, part_id)

    def say(self, text: str) -> None:
        part_id = str(uuid.uuid4())
        self._unacknowledged[part_id] = text
        self._end.say(text, part_id)

    def acknowledged(self) -> channels.AppendResponse:
        ack = self._end.ack()
        del self._unacknowledged[next(iter(self._unacknowledged))]
        return ack

    def read(self) -> ch.Record:
        record = self._end.record()
        assert record.seq_num == len(self.seen), f"{record.seq_num} after {len(self.seen)} records"
        self.seen.append(record)
        return record

    def read_turn(self) -> list[str]:
        """The words up to the end of the turn."""
        words = []
        while (record := self.read()) and control(record) != "turn-complete":
            if not is_command(record):
                words.append(record.body.decode())
        return words

    def lose_connection(self) -> None:
        assert self._relay.sever() > 0
        try:
            while True:
                self._end.ack()
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.UNAVAILABLE, error
        self._end.leave()
        self._attach()

    def leave(self) -> None:
        self._end.leave()
        self._client.close()
        self._relay.close()


class Conversation(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server("serve").start()
        cls.addClassCleanup(cls.server.remove)
        cls.backend = Client(cls.server.address, cls.server.key)
        cls.addClassCleanup(cls.backend.close)

    def as_run(self, assignment) -> Client:
        client = Client(self.server.address, assignment.run_token)
        self.addCleanup(client.close)
        return client

    def create(self, name: str):
        request = sessions.CreateSessionRequest(external_id=name, type="story", task_identifier=TASK)
        request.trigger_config.base_payload_json = '{"genre": "crime", "message": "once"}'
        return self.backend.sessions.CreateSession(request)

    def test_from_the_first_word_to_the_last(self):
        name = f"story-{uuid.uuid4()}"
        created = self.create(name)
        self.assertFalse(created.is_cached)
        session = created.session.id

        with Worker(self.backend, f"worker-{uuid.uuid4()}", TASK) as worker:
            # A run is assigned, with everything it needs to know.
            first = worker.take()
            self.assertEqual(first.run.id, created.run_id)
            self.assertEqual(first.session.id, session)
            payload = json.loads(first.run.payload)
            self.assertEqual(payload["genre"], "crime")
            self.assertEqual(payload["sessionId"], session)
            self.assertNotIn("continuation", payload)

            # The user speaks with the session's own token, under its name.
            user = User(self.server.address, created.public_access_token, name)
            self.addCleanup(user.leave)
            user.say("tell me a story")
            self.assertEqual(user.acknowledged().start.seq_num, 0)

            # The run answers word by word. Halfway the user's network breaks, with a message under way.
            run = End(self.as_run(first), session)
            self.addCleanup(run.leave)
            self.assertEqual(run.record().body, b"tell me a story")
            for number in range(WORDS // 2):
                run.say(f"word {number}")
                run.ack()
            while len(user.seen) < 10:
                user.read()
            user.say("and make it short")
            user.lose_connection()
            for number in range(WORDS // 2, WORDS):
                run.say(f"word {number}")
            run.append(turn_complete(0))
            for _ in range(WORDS // 2 + 1):
                run.ack()

            # Nothing is missing, nothing came twice, and the message that was under way is there once.
            user.read_turn()
            words = [r.body.decode() for r in user.seen if not is_command(r) and control(r) is None]
            self.assertEqual(words, [f"word {number}" for number in range(WORDS)])
            self.assertEqual(user.acknowledged().start.seq_num, 1)
            second = run.record()
            self.assertEqual((second.seq_num, second.body), (1, b"and make it short"))
            run.has_read(2)
            run.say("The end.")
            run.append(turn_complete(1))
            run.ack(), run.ack()
            self.assertEqual(user.read_turn(), ["The end."])

            # With nothing more to do the run waits for input and gives its place back.
            waiting = self.as_run(first).runs
            wait = waiting.WaitOnChannel(
                runs.WaitOnChannelRequest(
                    run_id=first.run.id, session=session, direction=ch.DIRECTION_IN, last_seq_num=1
                )
            )
            self.assertFalse(wait.waitpoint.HasField("completed_at"))
            run.leave()
            suspended = waiting.SuspendOnWaitpoint(
                runs.SuspendOnWaitpointRequest(
                    run_id=first.run.id, waitpoint_id=wait.waitpoint.id, lease=first.lease
                )
            )
            self.assertEqual(suspended.run.status, "WAITING")
            worker.suspended(first)

            # Input wakes it, on a new lease; the old one's token writes no more.
            user.say("another one")
            self.assertEqual(user.acknowledged().start.seq_num, 2)
            resumed = worker.take()
            self.assertEqual(resumed.run.id, first.run.id)
            self.assertEqual(resumed.resumed_by.id, wait.waitpoint.id)
            self.assertTrue(resumed.resumed_by.HasField("completed_at"))
            self.assertFalse(resumed.resumed_by.output_is_error)
            self.assertGreater(resumed.lease, first.lease)
            late = refusal(self.append_out, self.as_run(first), session, text_record("a ghost"))
            self.assertEqual((late.code, late.reason), (grpc.StatusCode.ABORTED, "FENCED"))

            again = self.as_run(resumed)
            with End(again, session, 2) as run:
                self.assertEqual(run.record().body, b"another one")
                run.has_read(3)
                run.say("Gladly.")
                run.append(turn_complete(2))
                run.ack(), run.ack()
            self.assertEqual(user.read_turn(), ["Gladly."])

            # It hands over to a newer version of itself: one swap, and the loser of a race hears who won.
            swap = sessions.EndAndContinueRequest(session=name, calling_run_id=resumed.run.id, reason="upgrade")
            swapped = again.sessions.EndAndContinue(swap)
            self.assertTrue(swapped.swapped)
            repeat = self.backend.sessions.EndAndContinue(swap)
            self.assertEqual((repeat.swapped, repeat.run_id), (False, swapped.run_id))
            successor = worker.take()
            self.assertEqual(successor.run.id, swapped.run_id)
            payload = json.loads(successor.run.payload)
            self.assertEqual(payload["previousRunId"], resumed.run.id)
            self.assertIs(payload["continuation"], True)
            self.assertNotIn("message", payload)
            self.assertEqual(successor.in_seq_num, 3)

            farewell = ch.NewRecord(headers=[ch.Header(name=b"trigger-control", value=b"upgrade-required")])
            self.append_out(again, session, farewell)
            late = refusal(self.append_out, again, session, text_record("one more thing"))
            self.assertEqual((late.code, late.reason), (grpc.StatusCode.ABORTED, "FENCED"))
            worker.completed(resumed, '"handed over"')

            # The conversation is closed: the live run is told, says goodbye and ends.
            closed = self.backend.sessions.CloseSession(sessions.CloseSessionRequest(session=name, reason="bedtime"))
            self.assertEqual(closed.session.closed_reason, "bedtime")
            last = self.as_run(successor)
            with End(last, session, 3) as run:
                # The fence that closes `.in` goes before the wake record.
                while is_command(wake := run.record()):
                    pass
                payload = json.loads(json.loads(wake.body)["data"])["payload"]
                self.assertEqual(payload, {"chatId": name, "trigger": "close", "closedReason": "bedtime"})
                run.has_read(wake.seq_num + 1)
                run.say("Good night.")
                run.append(turn_complete(wake.seq_num))
                run.ack(), run.ack()
            worker.completed(successor, '"closed"')
            self.assertEqual(user.read_turn()[-1], "Good night.")

            append = channels.AppendRequest(channel=in_channel(name), records=[text_record("hello?")])
            late = refusal(self.backend.channels.Append, append)
            self.assertEqual((late.code, late.reason), (grpc.StatusCode.FAILED_PRECONDITION, "SESSION_CLOSED"))
            self.assertEqual(late.metadata["closed_reason"], "bedtime")

            # The audit tells the whole story.
            for run_id in (created.run_id, swapped.run_id):
                self.await_status(run_id, "COMPLETED")
            audit = self.backend.sessions.ListSessionRuns(sessions.ListSessionRunsRequest(session=session)).session_runs
            self.assertEqual([row.reason for row in audit], ["initial", "upgrade"])
            self.assertEqual([row.run.id for row in audit], [created.run_id, swapped.run_id])
            self.assertEqual([row.version for row in audit], [1, 2])

    def append_out(self, client: Client, session: str, record: ch.NewRecord):
        return client.channels.Append(channels.AppendRequest(channel=out_channel(session), records=[record]))

    def await_status(self, run_id: str, status: str) -> None:
        """What a worker reports is worked off in order, a moment after it was sent."""
        for _ in range(500):
            run = self.backend.runs.GetRun(runs.GetRunRequest(run_id=run_id)).run
            if run.status == status:
                return
            time.sleep(0.02)
        self.fail(f"{run_id} is {run.status} and not {status}")

    def test_input_that_nobody_read_boots_a_continuation(self):
        created = self.create(f"unread-{uuid.uuid4()}")
        session = created.session.id
        with Worker(self.backend, f"worker-{uuid.uuid4()}", TASK) as worker:
            first = worker.take()
            append = channels.AppendRequest(channel=in_channel(session), records=[text_record("on its way out")])
            self.backend.channels.Append(append)
            worker.completed(first, "null")
            second = worker.take()
            self.assertNotEqual(second.run.id, first.run.id)
            self.assertEqual(second.session.id, session)
            self.assertEqual(second.in_seq_num, 0)
            self.assertEqual(json.loads(second.run.payload)["previousRunId"], first.run.id)
            worker.has_read(second, 1)
            worker.completed(second, "null")
            self.await_status(second.run.id, "COMPLETED")
            audit = self.backend.sessions.ListSessionRuns(sessions.ListSessionRunsRequest(session=session)).session_runs
            self.assertEqual([row.reason for row in audit], ["initial", "continuation"])

    def test_a_canceled_run_writes_no_more(self):
        created = self.create(f"cancel-{uuid.uuid4()}")
        session = created.session.id
        with Worker(self.backend, f"worker-{uuid.uuid4()}", TASK) as worker:
            run = worker.take()
            as_run = self.as_run(run)
            self.append_out(as_run, session, text_record("still mine"))
            canceled = self.backend.runs.CancelRun(runs.CancelRunRequest(run_id=run.run.id))
            self.assertEqual(canceled.run.status, "CANCELED")
            late = refusal(self.append_out, as_run, session, text_record("not any more"))
            self.assertEqual((late.code, late.reason), (grpc.StatusCode.ABORTED, "FENCED"))
            self.assertEqual(worker.take_revoked(run).reason, "CANCELED")

    def test_a_wait_for_input_that_is_there_is_over_at_once(self):
        created = self.create(f"there-{uuid.uuid4()}")
        session = created.session.id
        with Worker(self.backend, f"worker-{uuid.uuid4()}", TASK) as worker:
            first = worker.take()
            append = channels.AppendRequest(channel=in_channel(session), records=[text_record("before the wait")])
            self.backend.channels.Append(append)
            as_run = self.as_run(first).runs
            wait = as_run.WaitOnChannel(
                runs.WaitOnChannelRequest(run_id=first.run.id, session=session, direction=ch.DIRECTION_IN)
            )
            self.assertTrue(wait.waitpoint.HasField("completed_at"))
            as_run.SuspendOnWaitpoint(
                runs.SuspendOnWaitpointRequest(run_id=first.run.id, waitpoint_id=wait.waitpoint.id, lease=first.lease)
            )
            worker.suspended(first)
            resumed = worker.take()
            self.assertEqual(resumed.run.id, first.run.id)
            worker.has_read(resumed, 1)
            worker.completed(resumed, "null")
            self.await_status(first.run.id, "COMPLETED")
