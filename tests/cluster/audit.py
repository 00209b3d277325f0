"""Compares what the cluster has now with what it promised: over two replicas, and in the database itself."""

import asyncio
import json
from collections import defaultdict
from dataclasses import dataclass

import grpc
from harness.calls import Client, reason_of
from harness.cluster import Cluster
from ledger import OWNED, Channel, ChannelLedger, Ledger, Mark, into, mark, out, reference
from support.stubs import channel_pb2 as ch
from support.stubs import channel_service_pb2 as pb
from support.stubs import session_service_pb2 as sessions

# What a sweeper has to do, it does every second; a fault may have left it more than one round of work.
SETTLED_WITHIN_S = 60
OVER = "('COMPLETED_SUCCESSFULLY','COMPLETED_WITH_ERRORS','CANCELED','CRASHED','SYSTEM_FAILURE','EXPIRED','TIMED_OUT')"


@dataclass(frozen=True, slots=True)
class Stored:
    """A record as it lies in the channel."""

    seq: int
    timestamp: int
    mark: Mark
    is_command: bool
    is_wake: bool
    owner: tuple[str, int] | None  # run and lease that say they wrote it

    @classmethod
    def of(cls, record: ch.Record) -> "Stored":
        is_command = len(record.headers) == 1 and record.headers[0].name == b""
        body = record.body
        is_wake = b"closedReason" in body or b'trigger\\":\\"close' in body
        return cls(record.seq_num, record.timestamp_ms, mark(body), is_command, is_wake, owner_of(body))


def owner_of(body: bytes) -> tuple[str, int] | None:
    if not body.startswith(OWNED):
        return None
    said = json.loads(body)
    return said["run"], said["lease"]


async def audit(cluster: Cluster, ledger: Ledger) -> int:
    """Raises on the first broken promise. How many records were looked at."""
    one, two = (cluster.client_of(replica) for replica in (cluster.replicas[0], cluster.replicas[-1]))
    rows = await cluster.services.sql("select run_id, version from session_run")
    versions = {row["run_id"]: row["version"] for row in rows}
    records = 0
    for channel, own in list(ledger.channels.items()):
        stored, again = await asyncio.gather(read_all(one, channel), read_all(two, channel))
        assert stored == again, f"{channel}: two replicas tell different stories"
        records += check_channel(channel, own, stored, versions)
    await check_sessions(one, two, ledger)
    await check_rows(cluster, ledger)
    await check_audits(cluster, (one, two), ledger)
    await until_nothing_is_owed(cluster, one, ledger)
    return records


async def read_all(client: Client, channel: Channel, start: int = 0) -> list[Stored]:
    """Everything up to the tail, commands too."""
    tail = (await client.call(lambda c: c.channels.CheckTail, pb.CheckTailRequest(channel=reference(channel)))).tail.seq_num
    records: list[Stored] = []
    request = pb.ReadRequest(channel=reference(channel), start=ch.ReadStart(seq_num=start, clamp=True))
    if tail > start:
        call = client.channels.Read(request, metadata=client.metadata, timeout=120)
        async for event in call:
            records.extend(map(Stored.of, event.batch.records))
            if records and records[-1].seq + 1 >= tail:
                break
        call.cancel()
    return records


def check_channel(channel: Channel, own: ChannelLedger, records: list[Stored], versions: dict[str, int]) -> int:
    numbers = [record.seq for record in records]
    assert numbers == list(range(len(numbers))), f"{channel}: the numbers have gaps"
    times = [record.timestamp for record in records]
    assert times == sorted(times), f"{channel}: a time fell"

    for seq, promise in own.acknowledged.items():
        assert seq < len(records), f"{channel}: {promise.part_id} was acknowledged as {seq}; the tail is {len(records)}"
        assert records[seq].mark == promise.mark, f"{channel}: {promise.part_id} was acknowledged as {seq}, where another is"
    for seq, shown in own.seen.items():
        assert seq < len(records), f"{channel}: a reader has seen record {seq}, which is lost"
        assert (records[seq].mark, records[seq].timestamp) == shown, f"{channel}: a reader has seen another record {seq}"

    places: dict[Mark, int] = {}
    for record in records:
        if record.is_command:
            continue
        assert record.mark not in places, f"{channel}: {places[record.mark]} and {record.seq} are the same record"
        places[record.mark] = record.seq
        assert record.mark in own.attempted or record.is_wake, f"{channel}: nobody wrote record {record.seq}"
    refused = own.refused & places.keys()
    assert not refused, f"{channel}: {len(refused)} records were refused and are there"

    by_writer: dict[str, list[int]] = defaultdict(list)
    for given, writer in own.attempted.items():
        if given in places:
            by_writer[writer].append(places[given])
    for writer, seqs in by_writer.items():
        assert seqs == sorted(seqs), f"{channel}: the records of {writer} are out of order"
    owners = [(versions[record.owner[0]], record.owner[1]) for record in records if record.owner is not None]
    assert owners == sorted(owners), f"{channel}: a run wrote after the one that came later: {owners}"
    return len(records)


async def check_sessions(one: Client, two: Client, ledger: Ledger) -> None:
    for external_id, session_id in ledger.created.items():
        row = (await two.call(lambda c: c.sessions.GetSession, sessions.GetSessionRequest(session=external_id))).session
        assert row.id == session_id, f"{external_id} was {session_id} and is {row.id}"
    for session_id, promised in ledger.closed.items():
        for client in (one, two):
            row = (await client.call(lambda c: c.sessions.GetSession, sessions.GetSessionRequest(session=session_id))).session
            assert (row.closed_at.ToNanoseconds(), row.closed_reason) == promised, f"{session_id}: the close changed"
            append = pb.AppendRequest(channel=reference(into(session_id)), records=[ch.NewRecord(body=b"too late")])
            try:
                await client.call(lambda c: c.channels.Append, append, "SESSION_CLOSED")
            except grpc.aio.AioRpcError as error:
                assert reason_of(error) == "SESSION_CLOSED"
            else:
                raise AssertionError(f"{session_id} is closed and took a record")


async def check_rows(cluster: Cluster, ledger: Ledger) -> None:
    """What must hold at every moment, for every session there is."""
    none_of = {
        "two live runs": f"select session_id from run where session_id is not null and status not in {OVER} "
        "group by session_id having count(*) > 1",
        "a run that is alive and not the current one": f"select r.id, r.session_id, r.status from run r join session s on s.id = r.session_id "
        f"where r.status not in {OVER} and r.id is distinct from s.current_run_id and r.stop_by_ms is null",
        "versions with a hole": "select s.id, s.current_run_version, count(a.version), min(a.version), max(a.version) from session s "
        "left join session_run a on a.session_id = s.id group by s.id "
        "having count(a.version) <> s.current_run_version or coalesce(max(a.version), 0) <> s.current_run_version "
        "or coalesce(min(a.version), 1) <> 1",
        "a current run without the newest row of the audit": "select s.id from session s where s.current_run_version > 0 and not exists "
        "(select 1 from session_run a where a.session_id = s.id and a.version = s.current_run_version and a.run_id = s.current_run_id)",
        "a run without a row of the audit": "select id, session_id from run r where session_id is not null "
        "and not exists (select 1 from session_run a where a.run_id = r.id)",
        "a row of the audit without its run": "select run_id from session_run a where not exists (select 1 from run r where r.id = a.run_id)",
        "a name with two sessions": "select environment_id, external_id from session where external_id is not null "
        "group by environment_id, external_id having count(*) > 1",
        "a part id twice": "select session_id, channel, seq_num from append_claim where seq_num is not null "
        "group by session_id, channel, seq_num having count(*) > 1",
    }
    for what, query in none_of.items():
        found = await cluster.services.sql(query)
        assert not found, f"{what}: {found[:3]}"
    rows = await cluster.services.sql("select run_id from session_run")
    known = {row["run_id"] for row in rows}
    offered = {run for run, _ in ledger.assigned} - known
    assert not offered, f"workers were offered runs that no session has: {offered}"


async def check_audits(cluster: Cluster, clients: tuple[Client, Client], ledger: Ledger) -> None:
    """What replicas tell of the runs of a session is what the rows say."""
    rows = await cluster.services.sql("select session_id, run_id, version from session_run order by session_id, version")
    by_session: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for row in rows:
        by_session[row["session_id"]].append((row["run_id"], row["version"]))
    for session_id in ledger.created.values():
        for client in clients:
            request = sessions.ListSessionRunsRequest(session=session_id)
            told = (await client.call(lambda c: c.sessions.ListSessionRuns, request)).session_runs
            assert [(row.run_id, row.version) for row in told] == by_session[session_id], f"{session_id}: the audit differs"


async def until_nothing_is_owed(cluster: Cluster, client: Client, ledger: Ledger) -> None:
    """What the sweepers make good: nobody waits for what is there, no debt is open, no accepted input is unread."""
    deadline = asyncio.get_running_loop().time() + SETTLED_WITHIN_S
    while owed := await what_is_owed(cluster, client, ledger):
        assert asyncio.get_running_loop().time() < deadline, f"after {SETTLED_WITHIN_S} s: {owed}"
        await asyncio.sleep(0.25)


# A run whose wait is over stays WAITING_TO_RESUME until a worker takes it; it is available then.
async def what_is_owed(cluster: Cluster, client: Client, ledger: Ledger) -> str | None:
    if closing := await cluster.services.sql("select id from session where closed_at_ms is not null and not close_finished"):
        return f"closes are not finished: {closing[:3]}"
    waiting = await cluster.services.sql(
        "select r.id as run_id, w.session_id, w.direction, w.from_seq_num, w.completed_at_ms from run r "
        "join waitpoint w on w.id = r.waiting_on where r.status = 'WAITING_TO_RESUME' and r.available_at_ms is null "
        "and w.kind <> 'DATETIME'"
    )
    for row in waiting:
        if row["completed_at_ms"] is not None:
            return f"{row['run_id']} waits for what is complete"
        if row["session_id"] is not None:
            channel = out(row["session_id"]) if row["direction"] == "out" else into(row["session_id"])
            if any(not record.is_command for record in await read_all(client, channel, row["from_seq_num"])):
                return f"{row['run_id']} waits for a record of {channel} that is there"
    for session, read in list(ledger.read.items()):
        unread = ledger.channels[into(session)].acknowledged.keys() - read
        if unread and session not in ledger.closed:
            return f"{session}: no run was given the records {sorted(unread)[:5]} of .in"
    if debts := await cluster.services.sql("select session_id, channel, part_id from append_claim where seq_num is null"):
        return f"{len(debts)} appends are not settled: {debts[:3]}"
    return None
