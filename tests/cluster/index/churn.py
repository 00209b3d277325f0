"""Writers of sessions: transactions of plain SQL with many rows, and calls of the API. From a seed, until they are told to end."""

import asyncio
import json
import random
from collections import Counter

import grpc
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from harness.calls import Client, reason_of
from harness.psql import Lost, Psql
from support.stubs import session_pb2
from support.stubs import session_service_pb2 as sessions
from world import NOBODY, create_request, new_name

LIVE_MAX = 1_500
ROWS_MAX = 60
# Long enough to be kept apart from its row, so that an update of another column does not carry it in the log.
LONG = "(select string_agg(md5(cast(random() as text)), '') from generate_series(1, 150 + g % 50))"
NOW = "cast(extract(epoch from clock_timestamp()) * 1000 as bigint)"
# A session of each month of a quarter, so that several partitions take part.
DAY_MS = 86_400_000


def rows(prefix: str, template: str, first: int, last: int, more: str = "") -> str:
    """Inserts copies of a session that the API made, numbered from `first` to `last`, each with values of its own."""
    return f"""
insert into session select r.* from session t, generate_series({first}, {last}) g, jsonb_populate_record(t, jsonb_build_object(
    'id', 'session_{prefix}' || lpad(cast(g as text), 9, '0'),
    'external_id', case when g % 3 > 0 then '{prefix} ' || g end,
    'session_type', 'type-' || g % 3, 'task_identifier', 'task-' || g % 5, 'is_test', g % 13 = 0,
    'tags', case when g % 4 = 0 then '[]' else jsonb_build_array('tag-' || g % 7, 'tag ' || g % 11, E'ü, it''s \\t "said" \\\\') end,
    'metadata', case g % 5 when 0 then null when 1 then '{{"long": "' || {LONG} || '"}}'
        else '{{"n": ' || g || ', "at": "2026-01-02T10:00:00Z", "in": {{"ü": ["a", "b\\\\n"], "none": null}}, "yes": true}}' end,
    'expires_at_ms', case when g % 6 = 0 then {NOW} + g % 100000 end,
    'closed_at_ms', null, 'closed_reason', null, 'close_finished', false, 'current_run_id', null, 'current_run_version', 0,
    'created_at_ms', {NOW} - {DAY_MS} * cast(g % 80 as bigint), 'updated_at_ms', {NOW}) {more}) r
where t.id = '{template}';"""


class Churn:
    """Transactions over one connection. One that was lost with its outcome is looked up, and it goes on."""

    def __init__(self, url: str, template: str, dice: random.Random, name: str, pause_s: float = 0):
        self._psql, self._template, self._dice, self.pause_s = Psql(url), template, dice, pause_s
        self._prefix = f"{name}x{dice.getrandbits(32):08x}"
        self._next = 1
        self._live: list[str] = []
        self.did = Counter()
        self._job: asyncio.Task | None = None

    async def __aenter__(self) -> "Churn":
        self._job = asyncio.create_task(self._go_on())
        return self

    async def __aexit__(self, kind, error, trace) -> None:
        """Between two transactions; what went wrong in them comes out here."""
        job, self._job = self._job, None
        try:
            if kind is not None:
                job.cancel()
            await job
        except asyncio.CancelledError:
            if kind is None:
                raise
        finally:
            await self._psql.close()

    def check(self) -> None:
        if self._job is not None and self._job.done():
            self._job.result()

    async def _go_on(self) -> None:
        while self._job is not None:
            try:
                await self.one()
            except Lost:
                self.did["lost"] += 1
                await asyncio.sleep(0.1)
                await self._look_up()
            await asyncio.sleep(self.pause_s * self._dice.uniform(0.5, 1.5))

    async def _look_up(self) -> None:
        while True:
            try:
                self._live = await self._psql.do(f"select id from session where id like 'session_{self._prefix}%' order by id")
                return
            except Lost:
                await asyncio.sleep(0.1)

    async def one(self) -> None:
        """One transaction."""
        kinds = (self._insert, self._insert, self._update, self._touch, self._close, self._delete, self._mix, self._take_back)
        kind = self._dice.choice(kinds) if self._live else self._insert
        if len(self._live) > LIVE_MAX:
            kind = self._delete
        statements, live = kind()
        await self._psql.do(f"begin; {statements} commit")
        self._live = live
        self.did[kind.__name__.removeprefix("_")] += 1

    def _some(self, at_most: int = ROWS_MAX) -> list[str]:
        return self._dice.sample(self._live, min(len(self._live), self._dice.randint(1, at_most)))

    def _new(self, count: int) -> tuple[str, list[str]]:
        first, self._next = self._next, self._next + count
        ids = [f"session_{self._prefix}{number:09}" for number in range(first, self._next)]
        return rows(self._prefix, self._template, first, self._next - 1), ids

    def _insert(self):
        statement, ids = self._new(self._dice.randint(1, ROWS_MAX))
        return statement, self._live + ids

    def _update(self):
        changes = self._dice.choice((
            f"""tags = jsonb_build_array('changed-{self._dice.randrange(9)}', 'tag-1'), updated_at_ms = {NOW}""",
            f"""metadata = '{{"changed": {self._dice.randrange(99)}}}', updated_at_ms = {NOW}""",
            f"external_id = external_id || '-', updated_at_ms = {NOW}",
            f"expires_at_ms = {NOW} - 1, updated_at_ms = {NOW}",
            "metadata = null",
        ))
        return f"update session set {changes} where id in ({quoted(self._some())});", self._live

    def _touch(self):
        """What no list shows, and what leaves long values where they are."""
        ids = quoted(self._some())
        return (
            f"update session set boot_failures = boot_failures + 1 where id in ({ids}); "
            f"update session set session_type = session_type, updated_at_ms = updated_at_ms + 1 where id in ({ids});"
        ), self._live

    def _close(self):
        return (
            f"update session set closed_at_ms = {NOW}, closed_reason = 'it''s over', close_finished = true, updated_at_ms = {NOW} "
            f"where id in ({quoted(self._some())}) and closed_at_ms is null;"
        ), self._live

    def _delete(self):
        gone = set(self._some())
        return f"delete from session where id in ({quoted(gone)});", [one for one in self._live if one not in gone]

    def _mix(self):
        """The same session several times in one transaction, also one that does not outlive it."""
        statement, ids = self._new(self._dice.randint(2, 10))
        many, gone = quoted(ids), ids[: len(ids) // 2]
        return (
            f"{statement} update session set tags = '[\"mixed\"]' where id in ({many}); "
            f"update session set metadata = null, closed_at_ms = {NOW}, close_finished = true where id in ({many}); "
            f"delete from session where id in ({quoted(gone)});"
        ), self._live + ids[len(gone):]

    def _take_back(self):
        """A part of a transaction that did not happen."""
        statement, _ = self._new(self._dice.randint(1, 10))
        kept, ids = self._new(1)
        return f"savepoint part; {statement} delete from session where id in ({quoted(self._some())}); rollback to part; {kept}", self._live + ids


def quoted(ids) -> str:
    return ", ".join(f"'{one}'" for one in ids)


class ApiChurn:
    """Sessions made, changed, closed and deleted by calls. With `reads` each change is looked for in a list at once."""

    def __init__(self, writer: Client, reader: Client, dice: random.Random, reads: bool = True):
        self._writer, self._reader, self._dice, self._reads = writer, reader, dice, reads
        self._is_over = False
        self.did = Counter()

    async def __aenter__(self) -> "ApiChurn":
        self._job = asyncio.create_task(self._go_on())
        return self

    async def __aexit__(self, kind, error, trace) -> None:
        self._is_over = True
        if kind is not None:
            self._job.cancel()
        await asyncio.gather(self._job, return_exceptions=kind is not None)

    def check(self) -> None:
        if self._job.done():
            self._job.result()

    async def _go_on(self) -> None:
        while not self._is_over:
            await self.one()
            await asyncio.sleep(self._dice.uniform(0, 0.05))

    async def one(self) -> None:
        """The life of a session, or a part of it."""
        call, name, tag = self._writer.call, new_name("churn"), new_name("tag")
        request = create_request(name, NOBODY)
        request.tags.append("of-the-api")
        request.metadata_json = json.dumps({"name": name, "deep": {"list": [1, 2, 3]}})
        if self._dice.random() < 0.3:
            request.expires_at.CopyFrom(Timestamp(seconds=4_000_000_000))
        session = (await call(lambda c: c.sessions.CreateSession, request)).session.id
        await self._expect("create", session, True, external_id=name)
        if self._dice.random() < 0.7:
            value = session_pb2.Session(tags=[tag, "changed"], metadata_json='{"changed": true}')
            mask = FieldMask(paths=["tags", "metadata_json"])
            update = sessions.UpdateSessionRequest(session=session, value=value, update_mask=mask)
            await call(lambda c: c.sessions.UpdateSession, update)
            await self._expect("update", session, True, tags=[tag])
        if self._dice.random() < 0.5:
            await call(lambda c: c.sessions.CloseSession, sessions.CloseSessionRequest(session=session, reason="churned"))
            await self._expect("close", session, False, external_id=name, statuses=[session_pb2.SESSION_STATUS_ACTIVE])
        if self._dice.random() < 0.4:
            try:
                await call(lambda c: c.sessions.DeleteSession, sessions.DeleteSessionRequest(session=session), "SESSION_NOT_FOUND")
            except grpc.aio.AioRpcError as error:
                assert reason_of(error) == "SESSION_NOT_FOUND"
            await self._expect("delete", session, False, external_id=name)

    async def _expect(self, what: str, session: str, is_there: bool, **conditions) -> None:
        self.did[what] += 1
        if not self._reads:
            return
        request = sessions.ListSessionsRequest(filter=sessions.SessionFilter(**conditions))
        listed = [row.id for row in (await self._reader.call(lambda c: c.sessions.ListSessions, request)).sessions]
        assert listed == ([session] if is_there else []), f"after its {what} was acknowledged, {session} is listed as {listed}"
