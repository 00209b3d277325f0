"""A chat on a session: says each line of standard input and prints what happens, one JSON object a line.

    python chat.py my-chat my-task

What a broken network leaves open is asked for again: the read goes on after the last number seen, and an append that was not
acknowledged is repeated with its part id, so that it counts once.
"""

import asyncio
import json
import os
import sys
import uuid

import grpc
from continuo.v1 import channel_pb2, channel_service_pb2, channel_service_pb2_grpc
from continuo.v1 import session_pb2, session_service_pb2, session_service_pb2_grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status


def report(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)


def bearer(token):
    return [("authorization", f"Bearer {token}")]


def error_info(error):
    """The reason that the server gave; without one it was the network."""
    status = rpc_status.from_call(error)
    info = error_details_pb2.ErrorInfo()
    return next((info for detail in (status.details if status else ()) if detail.Unpack(info)), None)


def may_retry(error):
    return error.code() is grpc.StatusCode.UNAVAILABLE or error_info(error) is None


async def create(channel, session, task):
    """Makes the session, or finds it; a token for it alone."""
    request = session_service_pb2.CreateSessionRequest(
        external_id=session,
        type="chat",
        task_identifier=task,
        trigger_config=session_pb2.TriggerConfig(base_payload_json="{}"),
    )
    sessions = session_service_pb2_grpc.SessionServiceStub(channel)
    created = await sessions.CreateSession(request, metadata=bearer(os.environ["CONTINUO_SECRET_KEY"]))
    report("created", session=created.session.id, run=created.run_id, cached=created.is_cached)
    return created.public_access_token


class Chat:
    def __init__(self, channel, session, token):
        self.channels = channel_service_pb2_grpc.ChannelServiceStub(channel)
        self.session, self.token = session, token
        self.next_seq_num = 0
        self.stream = None

    async def attach(self):
        report("attached", start=self.next_seq_num)
        start = channel_pb2.ReadStart(seq_num=self.next_seq_num)
        self.stream = self.channels.Attach(metadata=bearer(self.token))
        await self.send(open=channel_service_pb2.AttachOpen(session=self.session, start=start))

    async def send(self, **message):
        await self.stream.write(channel_service_pb2.AttachRequest(**message))

    async def ask(self, text):
        """Says it, and reads on until the turn that answers it is complete."""
        record = channel_pb2.NewRecord(body=text.encode())
        append = channel_service_pb2.ChannelAppend(records=[record], part_id=str(uuid.uuid4()))
        asked, answered = None, -1
        while asked is None or answered < asked:
            try:
                if self.stream is None:
                    await self.attach()
                if asked is None:
                    await self.send(append=append)
                async for message in self.stream:
                    if message.HasField("ack"):
                        asked = message.ack.start.seq_num
                        report("acknowledged", seq=asked, repeated=message.ack.repeated)
                    for record in message.batch.records:
                        answered = max(answered, self.read(record))
                    if asked is not None and answered >= asked:
                        break
            except grpc.RpcError as error:
                self.stream = None
                if not may_retry(error):
                    raise
                report("lost", code=error.code().value[0])
                await asyncio.sleep(0.1)
        report("answered")

    def read(self, record):
        """The number of the message that the turn answered, if the record completes a turn."""
        self.next_seq_num = record.seq_num + 1
        headers = {header.name: header.value.decode() for header in record.headers}
        # A control record says what happened, and a record with one header without a name is a command of the log itself.
        control = headers.get(b"trigger-control", headers.get(b""))
        report("record", seq=record.seq_num, text=record.body.decode(), control=control)
        return int(headers.get(b"session-in-event-id", -1))


async def main(session, task):
    address = os.environ["CONTINUO_URL"].removeprefix("http://")
    async with grpc.aio.insecure_channel(address) as channel:
        chat = Chat(channel, session, await create(channel, session, task))
        while line := await asyncio.to_thread(sys.stdin.readline):
            await chat.ask(line.rstrip("\n"))


if __name__ == "__main__":
    try:
        asyncio.run(main(*sys.argv[1:]))
    except grpc.RpcError as error:
        info = error_info(error)
        report("refused", code=error.code().value[0], reason=info and info.reason, metadata=dict(info.metadata) if info else {})
        sys.exit(1)
