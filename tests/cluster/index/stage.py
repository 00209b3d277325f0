"""A cluster whose lists are on ClickHouse, and how the two sides of it stand."""

import asyncio
import time
from contextlib import AsyncExitStack, asynccontextmanager

from harness import rest
from harness.calls import Client
from harness.clickhouse import clickhouse_do
from harness.metrics import Metrics, metrics_of
from harness.replicas import Replica
from harness.services import run
from index.churn import ApiChurn, Churn
from index.comparison import Comparison, compare
from support.server import BINARY
from support.stubs import session_pb2
from support.stubs import session_service_pb2 as sessions
from world import World, create_request, new_name, poll, say

SLOT = "sessions_to_clickhouse_v1"
INDEX = "trigger_dev"
# Small, so that a few thousand rows are many batches.
BATCH_ROWS = 400
FLIGHTS = 2
EQUAL_WITHIN_S = 120
COMPARISONS_MAX = 3
LEADER_WITHIN_S = 45
PAGE_SIZE = 100


class Stage:
    def __init__(self, world: World):
        self.world, self.cluster, self.services = world, world.cluster, world.cluster.services
        self._template = ""

    async def template(self) -> str:
        """A session of the API, of which writers of SQL make copies. Made again where it was lost."""
        name = "the template"
        request = create_request(name)
        client = self.cluster.client()
        self._template = (await client.call(lambda c: c.sessions.CreateSession, request)).session.id
        return self._template

    def churn(self, name: str, pause_s: float = 0.02) -> Churn:
        assert self._template, "there is no template yet"
        return Churn(self.services.database_url(), self._template, self.world.dice(), name, pause_s)

    def api_churn(self, reads: bool = True) -> ApiChurn:
        return ApiChurn(self.cluster.client(), self.cluster.client(), self.world.dice(), reads)

    @asynccontextmanager
    async def writers(self, count: int = 2, pause_s: float = 0.02, reads: bool = True):
        """Some by SQL and one by the API, until the block ends; whatever went wrong with them comes out there."""
        await self.template()
        async with AsyncExitStack() as stack:
            writers = [await stack.enter_async_context(self.churn(f"w{number}", pause_s)) for number in range(count)]
            writers.append(await stack.enter_async_context(self.api_churn(reads)))
            yield writers

    # How the sides stand.

    async def ask(self, statement: str) -> str:
        return await clickhouse_do(self.services.clickhouse_url, statement)

    async def metrics(self, replica: Replica) -> Metrics:
        return await metrics_of(replica, self.cluster.keys.admin)

    async def leaders(self) -> list[Replica]:
        """Those who say that they lead. A replica that does not answer does not."""
        async def leads(replica: Replica) -> bool:
            try:
                return replica.is_running and (await self.metrics(replica)).value("sessions_replication_leader") == 1
            except (OSError, TimeoutError, rest.Refused):
                return False

        replicas = self.cluster.replicas
        said = await asyncio.gather(*map(leads, replicas))
        return [replica for replica, is_leader in zip(replicas, said, strict=True) if is_leader]

    async def leader(self) -> Replica:
        """The one, as soon as there is one whose connection has the slot."""
        async def one() -> Replica | None:
            leaders = await self.leaders()
            return leaders[0] if len(leaders) == 1 and await self.is_streaming() else None

        return await poll(one, "one replica leads and streams", LEADER_WITHIN_S, 0.05)

    async def is_streaming(self) -> bool:
        rows = await self.services.sql(f"select 1 from pg_replication_slots where slot_name = '{SLOT}' and active")
        return bool(rows)

    async def slot(self) -> dict:
        """Bytes of the log that are not acknowledged, and that were not even sent; what the slot still has."""
        rows = await self.services.sql(
            "select wal_status, pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn) as unconfirmed, "
            "pg_wal_lsn_diff(pg_current_wal_lsn(), r.sent_lsn) as unsent, confirmed_flush_lsn, pg_current_wal_lsn() as tip "
            f"from pg_replication_slots s left join pg_stat_replication r on r.pid = s.active_pid where slot_name = '{SLOT}'"
        )
        return rows[0] if rows else {}

    async def state(self) -> dict:
        rows = await self.services.sql(f"select * from session_replication where slot_name = '{SLOT}'")
        return rows[0] if rows else {}

    async def parked(self) -> list[dict]:
        return await self.services.sql(f"select session_id, version, error, attempts from session_parked where slot_name = '{SLOT}'")

    async def epoch(self) -> int:
        return int(await self.ask(f"SELECT bitShiftRight(max(_version), 56) FROM {INDEX}.sessions_v1"))

    async def until_equal(self, what: str, within_s: float = EQUAL_WITHIN_S) -> None:
        """With nobody writing: the index has every row as it is, nothing is owed any more, and lists say so."""
        began = time.monotonic()
        tip = (await self.services.sql("select pg_current_wal_lsn() as lsn"))[0]["lsn"]

        async def nothing_is_owed() -> bool:
            owed = await self.services.sql(
                f"select (select count(*) from session_change) + (select count(*) from session_parked where slot_name = '{SLOT}') as n, "
                f"(select is_complete from session_replication where slot_name = '{SLOT}') as is_complete, "
                f"(select confirmed_flush_lsn >= '{tip}' from pg_replication_slots where slot_name = '{SLOT}') as is_up"
            )
            self._owed = owed[0]
            return self._owed["n"] == 0 and bool(self._owed["is_complete"]) and bool(self._owed["is_up"])

        self._owed = {}
        try:
            await poll(nothing_is_owed, "the index is up with the database", within_s, 0.1)
        except AssertionError as error:
            found = await self.compare()
            raise AssertionError(
                f"{error}: {self._owed}, slot {await self.slot()}, {found.differing} of {found.rows} rows differ: {found.examples}"
            ) from None
        took = time.monotonic() - began
        for _ in range(COMPARISONS_MAX):
            found = await self.compare()
            if not found.differing:
                break
            # The two sides are not read at one moment, and replicas touch sessions of their own accord. What differs stays so.
            await poll(nothing_is_owed, "the index is up with the database", within_s, 0.1)
        assert not found.differing, f"{what}: {found.differing} of {found.rows} rows differ: {found.examples}"
        began = time.monotonic()
        await self.lists_are_right()
        say(f"{what}: {found.rows} rows, 0 differing, up after {took:.1f} s; lists are right, read in {time.monotonic() - began:.1f} s")

    async def compare(self, database: str = INDEX) -> Comparison:
        return await asyncio.to_thread(compare, self.services.database_url(), self.services.clickhouse_url, database)

    async def command(self, *arguments: str) -> str:
        """What a command of the program says, with the settings of a replica."""
        return await run(BINARY, *arguments, env=self.cluster.environment)

    # What lists say.

    async def lists_are_right(self) -> None:
        """Page by page over some replica, for filters of each kind, equal to what the database says now."""
        client = self.cluster.client_of(self.world.rng.choice([one for one in self.cluster.replicas if one.is_running]))
        for conditions, truth, pages_max in FILTERS:
            listed = await some_pages(client, conditions, pages_max)
            where = f"environment_id = (select environment_id from session where id = '{self._template}') and {truth}"
            rows = await self.services.sql(
                f"select id from session where {where} order by created_at_ms desc, id collate \"C\" desc limit {pages_max * PAGE_SIZE}"
            )
            true = [row["id"] for row in rows]
            wrong = sorted(set(listed) ^ set(true))[:5]
            assert listed == true, f"a list by {conditions} has {len(listed)} of {len(true)} rows; wrong: {wrong or 'their order'}"

    async def appears_at_once(self) -> None:
        """A session made through one replica, in the list of every other, while nothing may be written to the index."""
        name = new_name("at-once")
        clients = [self.cluster.client_of(replica) for replica in self.cluster.replicas if replica.is_running]
        made = await self.world.rng.choice(clients).call(lambda c: c.sessions.CreateSession, create_request(name))
        for client in clients:
            request = sessions.ListSessionsRequest(page_size=5)
            listed = (await client.call(lambda c: c.sessions.ListSessions, request)).sessions
            assert made.session.id in [row.id for row in listed], f"{name} is not in the first page"


# What a list is asked for, what that is in SQL, and how many pages are looked at.
FILTERS = (
    ({}, "true", 12),
    ({"tags": ["tag-3", "changed-1"]}, "(tags ? 'tag-3' or tags ? 'changed-1')", 4),
    ({"types": ["type-1"]}, "session_type = 'type-1'", 2),
    ({"task_identifiers": ["task-2"], "types": ["type-0", "type-2"]}, "task_identifier = 'task-2' and session_type in ('type-0', 'type-2')", 4),
    ({"statuses": [session_pb2.SESSION_STATUS_CLOSED]}, "closed_at_ms is not null", 4),
)


async def some_pages(client: Client, conditions: dict, pages_max: int) -> list[str]:
    """From the newest on. Only the last page may be short."""
    token, listed = "", []
    for _ in range(pages_max):
        wanted = sessions.SessionFilter(**conditions)
        request = sessions.ListSessionsRequest(filter=wanted, page_size=PAGE_SIZE, page_token=token)
        page = await client.call(lambda c: c.sessions.ListSessions, request)
        listed += [row.id for row in page.sessions]
        if not (token := page.next_page_token):
            break
        assert len(page.sessions) == PAGE_SIZE, f"a list by {conditions} has a page of {len(page.sessions)} that is not the last"
    return listed
