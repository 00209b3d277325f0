"""What a worker has to live through: its connection is cut between two turns and in the middle of one, and its server is
restarted in the middle of one. Each message is answered once, and every number of `.out` comes once."""

import uuid
from dataclasses import dataclass, field

from support.chat import in_channel, is_command, out_channel, text_record
from support.client import Client
from support.server import Server
from support.stubs import channel_pb2 as ch
from support.stubs import channel_service_pb2 as channels
from support.stubs import session_pb2
from support.stubs import session_service_pb2 as sessions

from program import WAIT_S_MAX, Program, poll
from proxy import Proxy

RECOVERY_STEPS = ("idle cut", "turn cut", "restart")
WORDS = [f"word-{number}-of-the-answer" for number in range(40)]
CUT = WORDS[12]


@dataclass
class Turn:
    """What stands on `.out` up to a turn-complete."""

    words: list[str] = field(default_factory=list)
    answers: int | None = None


class Recovery:
    def __init__(self, server: Server, wire: Proxy, worker: Program, task: str):
        self._server, self._wire, self._worker, self._task = server, wire, worker, task
        self._client = Client(server.address, server.key)

    def play(self, step) -> None:
        """`step` names what is being lived through."""
        with step("idle cut"):
            talk = self._talk(attempts=1)
            self._ask(talk, "are you there?")
            self._worker.until("suspended", run=self._runs(talk)[-1].id)
            assert self._wire.sever() > 0, "the worker is connected"
            assert self._ask(talk, "still there?") == ["still", "there?"]
        with step("turn cut"):
            # Another run goes on where there was one attempt, another attempt where there are two.
            for attempts in (1, 2):
                talk = self._talk(attempts) if attempts > 1 else talk
                self._wire.cut_out(CUT)
                words = self._ask(talk, " ".join(WORDS))
                assert not self._wire.has_work, "the cut came by"
                # What the attempt that was lost had written stands before the answer.
                begun = words[: -len(WORDS)]
                assert words[len(begun) :] == WORDS and begun == WORDS[: len(begun)], words
                assert self._ask(talk, "and now?") == ["and", "now?"]
        with step("restart"):
            before = [(run.id, run.attempt_count) for run in self._runs(talk)]
            held_up = self._wire.hold_up(CUT)
            asked = self._say(talk, " ".join(WORDS))
            held_up.reached()
            self._restart(then=held_up.let_on)
            assert self._answer(talk, asked) == WORDS, "the same attempt went on where it was"
            assert [(run.id, run.attempt_count) for run in self._runs(talk)] == before
            assert self._ask(talk, "and now?") == ["and", "now?"]

    def close(self) -> None:
        self._client.close()

    def _restart(self, then) -> None:
        self._wire.lead_to(None)
        self._server.ask_to_stop()
        poll(lambda: not self._server.is_ready(), "the server to stop")
        then()
        assert self._server.wait_stopped() == 0
        self._client.close()
        self._server.start()
        self._client = Client(self._server.address, self._server.key)
        self._wire.lead_to(self._server.address)

    def _talk(self, attempts: int) -> str:
        config = session_pb2.TriggerConfig(base_payload_json="{}", max_attempts=attempts)
        request = sessions.CreateSessionRequest(
            external_id=f"talk-{uuid.uuid4()}", type="chat", task_identifier=self._task, trigger_config=config
        )
        return self._client.sessions.CreateSession(request).session.id

    def _ask(self, session: str, text: str) -> list[str]:
        return self._answer(session, self._say(session, text))

    def _say(self, session: str, text: str) -> int:
        append = channels.AppendRequest(channel=in_channel(session), records=[text_record(text)])
        return self._client.channels.Append(append).start.seq_num

    def _answer(self, session: str, asked: int) -> list[str]:
        """All that was written for this message, once its turn is complete."""
        poll(lambda: any(turn.answers == asked for turn in self._turns(session)), f"the answer to message {asked}")
        turns = self._turns(session)
        assert [turn.answers for turn in turns] == list(range(asked + 1)), "each message is answered once, and in order"
        return turns[asked].words

    def _turns(self, session: str) -> list[Turn]:
        turns = [Turn()]
        for record in self._outputs(session):
            headers = {header.name: header.value for header in record.headers}
            if b"session-in-event-id" in headers:
                turns[-1].answers = int(headers[b"session-in-event-id"])
                turns.append(Turn())
            elif not is_command(record):
                turns[-1].words.append(record.body.decode())
        return turns[:-1]

    def _outputs(self, session: str) -> list[ch.Record]:
        """Commands too, which a list would leave out."""
        records = []
        read = self._client.channels.Read(channels.ReadRequest(channel=out_channel(session)), timeout=WAIT_S_MAX)
        for event in read:
            if event.HasField("heartbeat"):
                read.cancel()
                break
            records.extend(event.batch.records)
        assert [record.seq_num for record in records] == list(range(len(records))), "every number comes once"
        return records

    def _runs(self, session: str) -> list[session_pb2.Run]:
        found = self._client.sessions.ListSessionRuns(sessions.ListSessionRunsRequest(session=session))
        return [row.run for row in found.session_runs]
