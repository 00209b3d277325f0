"""What every program has to live through, and what is looked up from the outside afterwards."""

import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field

from support.chat import in_channel, is_command, out_channel
from support.client import Client
from support.server import Server
from support.stubs import channel_pb2 as ch
from support.stubs import channel_service_pb2 as channels
from support.stubs import run_service_pb2 as runs
from support.stubs import session_pb2
from support.stubs import session_service_pb2 as sessions

from languages import Language
from program import WAIT_S_MAX, Program, poll
from proxy import Proxy
from recovery import RECOVERY_STEPS, Recovery

CHAT_STEPS = ("create", "attach", "stream", "cut", "resume", "once", "errors")
WORKER_STEPS = ("take", "wait", "hand over", "close", *RECOVERY_STEPS, "refused")
STEPS = CHAT_STEPS + WORKER_STEPS
WORDS = [f"word-{number}-of-the-story" for number in range(40)]
CUTS = (WORDS[12], WORDS[27])
# Canonical codes of gRPC.
NOT_AUTHENTICATED, INVALID, PRECONDITION = 16, 3, 9
WRONG_KEY = "tr_dev_" + "A" * 24


@dataclass
class Row:
    """What became of a language's steps: true, or why not. A step that is not in here was not reached."""

    language: Language
    cells: dict[str, bool | str] = field(default_factory=dict)
    seconds: float = 0

    @contextmanager
    def step(self, name: str):
        try:
            yield
        except Exception as trouble:
            self.cells[name] = f"{type(trouble).__name__}: {trouble}"
            raise Broken from trouble
        self.cells.setdefault(name, True)


class Broken(Exception):
    """A step failed and said so in its row; those after it build on it."""


class Scenario:
    def __init__(self, server: Server, language: Language):
        self.row = Row(language)
        self._server = server
        self._language = language
        self._backend = Client(server.address, server.key)
        # Of the chats, and of the worker.
        self._proxy, self._wire = Proxy(server.address), Proxy(server.address)
        self._task = f"echo-{uuid.uuid4()}"
        self._name = f"chat-{uuid.uuid4()}"
        self._programs: list[Program] = []

    def run(self) -> Row:
        began = time.monotonic()
        try:
            worker = self._worker()
            self._play(worker)
            if self._language.has_worker:
                self._recover(worker)
        except Broken:
            pass
        finally:
            for program in self._programs:
                program.stop()
            self._proxy.close()
            self._wire.close()
            self._backend.close()
        self.row.seconds = time.monotonic() - began
        return self.row

    def _play(self, worker: Program) -> None:
        step = self.row.step
        with step("create"):
            chat = self._chat()
            created = chat.until("created", cached=False)
            again = self._chat()
            assert again.until("created")["cached"] is True, "the name finds the session"
            assert again.end() == 0
            assert again.all("created")[0]["session"] == created["session"]
            found = self._backend.sessions.GetSession(sessions.GetSessionRequest(session=self._name)).session
            assert found.id == created["session"], f"{created} and outside {found.id}"
        session, first = created["session"], created["run"]
        with step("take"):
            worker.until("took", run=first, continuation=False)
        with step("wait"):
            # Nothing was said yet, so it waits at once.
            worker.until("suspended", run=first)
            self._await_status(first, "WAITING")

        with step("cut"):
            self._proxy.cut_in(*CUTS)
            chat.say(" ".join(WORDS))
        with step("attach"):
            chat.until("attached", start=0)
            chat.until("acknowledged", seq=0)
        with step("wait"):
            worker.until("resumed", run=first)
        with step("stream"):
            chat.until("answered")
            assert words(chat) == WORDS, words(chat)
        with step("cut"):
            assert not self._proxy.has_work, "both cuts came by"
            assert len(chat.all("lost")) >= len(CUTS), chat.all("lost")
        with step("resume"):
            self._assert_exact(chat, session)

        with step("once"):
            worker.until("suspended", run=first)
            self._proxy.lose_answer_to("said-once", until=lambda: self._await_input("said-once"))
            chat.say("this is said-once")
            chat.until("answered")
            asked = [(ack["seq"], ack["repeated"]) for ack in chat.all("acknowledged")]
            assert asked[-1] == (1, True), asked
            assert not self._proxy.has_work
            assert self._inputs() == [" ".join(WORDS), "this is said-once"], self._inputs()
            assert words(chat) == [*WORDS, "this", "is", "said-once"], words(chat)

        with step("hand over"):
            worker.until("suspended", run=first)
            chat.say("/hand-over")
            second = worker.until("handed over", run=first)["next"]
            worker.until("took", run=second, continuation=True)
            self._await_status(first, "COMPLETED")
            chat.until("answered")
            worker.until("suspended", run=second)
            chat.say("still there?")
            chat.until("answered")
            assert words(chat)[-2:] == ["still", "there?"], words(chat)
        with step("close"):
            worker.until("suspended", run=second)
            chat.say("/close")
            worker.until("closed", run=second)
            self._await_status(second, "COMPLETED")
            chat.until("answered")
            found = self._backend.sessions.GetSession(sessions.GetSessionRequest(session=session)).session
            assert (found.status, found.closed_reason) == (session_pb2.SESSION_STATUS_CLOSED, "said so"), found
            audit = self._backend.sessions.ListSessionRuns(sessions.ListSessionRunsRequest(session=session)).session_runs
            assert [(row.run.id, row.reason) for row in audit] == [(first, "initial"), (second, "upgrade")], audit
        with step("errors"):
            chat.say("too late")
            refused = chat.until("refused")
            assert (refused["code"], refused["reason"]) == (PRECONDITION, "SESSION_CLOSED"), refused
            assert refused["metadata"]["closed_reason"] == "said so", refused
            assert chat.end() == 1
            self._assert_refused(self._chat(CONTINUO_SECRET_KEY=WRONG_KEY), NOT_AUTHENTICATED, "UNAUTHENTICATED")
            self._assert_refused(self._chat(name="session_of_mine"), INVALID, "EXTERNAL_ID_RESERVED")
        with step("resume"):
            self._assert_exact(chat, session)

    def _recover(self, worker: Program) -> None:
        with self.row.step("refused"):
            self._assert_refused(self._worker(CONTINUO_SECRET_KEY=WRONG_KEY), NOT_AUTHENTICATED, "UNAUTHENTICATED")
        recovery = Recovery(self._server, self._wire, worker, self._task)
        try:
            recovery.play(self.row.step)
        finally:
            recovery.close()

    def _chat(self, name: str | None = None, **environment: str) -> Program:
        command = [*self._language.chat, name or self._name, self._task]
        return self._start(command, {"CONTINUO_URL": self._proxy.url, **environment})

    def _worker(self, **environment: str) -> Program:
        return self._start([*self._language.worker, self._task], {"CONTINUO_URL": self._wire.url, **environment})

    def _start(self, command: list[str], environment: dict[str, str]) -> Program:
        own = {"CONTINUO_SECRET_KEY": self._server.key, **self._language.environment, **environment}
        self._programs.append(Program(command, own))
        return self._programs[-1]

    @staticmethod
    def _assert_refused(program: Program, code: int, reason: str) -> None:
        refused = program.until("refused")
        assert (refused["code"], refused["reason"]) == (code, reason), refused
        assert refused["metadata"]["side_effects"] == "none", refused
        assert program.end() == 1

    def _assert_exact(self, chat: Program, session: str) -> None:
        """What the program saw is what is there: every number once, in order, with its text."""
        seen = [(record["seq"], record["text"]) for record in chat.all("record")]
        there = [(record.seq_num, record.body.decode()) for record in self._outputs(session)]
        # A fence may still follow what was read.
        assert seen == there[: len(seen)] and len(seen) > len(WORDS), f"seen {seen}, there {there}"
        following = 0
        for event in chat.events:
            if event["event"] == "attached":
                assert event["start"] == following, f"attached at {event['start']} and not at {following}"
            elif event["event"] == "record":
                following = event["seq"] + 1

    def _outputs(self, session: str) -> list[ch.Record]:
        """Commands too, which a list would leave out."""
        records = []
        read = self._backend.channels.Read(channels.ReadRequest(channel=out_channel(session)), timeout=WAIT_S_MAX)
        for event in read:
            if event.HasField("heartbeat"):
                read.cancel()
                return records
            records.extend(event.batch.records)

    def _inputs(self) -> list[str]:
        answers = self._backend.channels.ListRecords(channels.ListRecordsRequest(channel=in_channel(self._name)))
        return [record.body.decode() for answer in answers for record in answer.records if not is_command(record)]

    def _await_input(self, text: str) -> None:
        poll(lambda: any(text in said for said in self._inputs()), f"{text} on .in")

    def _await_status(self, run_id: str, status: str) -> None:
        def looked_up() -> bool:
            return self._backend.runs.GetRun(runs.GetRunRequest(run_id=run_id)).run.status == status

        poll(looked_up, f"{run_id} to be {status}")


def words(chat: Program) -> list[str]:
    return [record["text"] for record in chat.all("record") if record["control"] is None]
