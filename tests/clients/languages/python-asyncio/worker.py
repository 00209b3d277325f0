"""A worker: serves the sessions of a task by repeating what is said, word by word.

    python worker.py my-task

With nothing to do for a second, a run waits without holding a place. `/hand-over` makes it hand the session to a new run, as
for an upgrade; `/close` makes it close the session. The loop in `work_loop.py` keeps the leases, comes back when the network
breaks or the server restarts, and asks again for what was left open.
"""

import asyncio
import json
import sys

import grpc
from continuo.v1 import channel_pb2, session_service_pb2
from work_loop import KEY, error_info, report, work


async def echo(run):
    """Called for a fresh run, and again whenever a run that waited goes on; its output, or nothing where it was suspended."""
    if run.is_resumed:
        report("resumed", run=run.id)
    else:
        report("took", run=run.id, continuation=json.loads(run.payload).get("continuation", False))
    next_seq_num = run.in_seq_num
    while True:
        record = await run.next()
        if record is None:
            # Nothing more is there: give the place back, and be called again when there is.
            if await run.wait_for_input(next_seq_num):
                report("suspended", run=run.id)
                return None
            continue
        next_seq_num = record.seq_num + 1
        for word in record.body.split():
            run.append(channel_pb2.NewRecord(body=word))
        run.turn_complete(record.seq_num)
        await run.flush()
        if record.body == b"/hand-over":
            report("handed over", run=run.id, next=await run.end_and_continue("upgrade"))
            return "handed over"
        if record.body == b"/close":
            await close(run)
            report("closed", run=run.id)
            return "closed"


async def close(run):
    """A run may not close its session, whoever holds the key may."""
    request = session_service_pb2.CloseSessionRequest(session=run.session, reason="said so", calling_run_id=run.id)
    await run.ask(run.sessions.CloseSession, request, token=KEY)


if __name__ == "__main__":
    try:
        asyncio.run(work(sys.argv[1], echo))
    except* grpc.RpcError as group:
        error = group.exceptions[0]
        info = error_info(error)
        report("refused", code=error.code().value[0], reason=info and info.reason, metadata=dict(info.metadata) if info else {})
        sys.exit(1)
