"""The channel service, rpc by rpc."""

import unittest
import uuid

import grpc

from support.chat import in_channel, out_channel, text_record, turn_complete
from support.client import Client, refusal
from support.duplex import Duplex
from support.server import Server
from support.stubs import channel_pb2 as ch
from support.stubs import channel_service_pb2 as pb
from support.stubs import session_service_pb2 as sessions


class Channels(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server("serve").start()
        cls.addClassCleanup(cls.server.remove)
        cls.client = Client(cls.server.address, cls.server.key)
        cls.addClassCleanup(cls.client.close)

    def setUp(self):
        request = sessions.CreateSessionRequest(type="test", task_identifier="nobody")
        request.trigger_config.base_payload_json = "{}"
        self.session = self.client.sessions.CreateSession(request).session.id
        self.channel = out_channel(self.session, "log")

    def append(self, *texts: str, channel=None, **options):
        records = [text_record(text) for text in texts]
        return self.client.channels.Append(
            pb.AppendRequest(channel=channel or self.channel, records=records, **options), timeout=30
        )

    def read(self, channel=None, **options):
        return self.client.channels.Read(pb.ReadRequest(channel=channel or self.channel, **options), timeout=30)

    def bodies(self, **options) -> list[bytes]:
        request = pb.ListRecordsRequest(channel=self.channel, **options)
        return [r.body for part in self.client.channels.ListRecords(request) for r in part.records]

    def test_appends_are_numbered_without_gaps(self):
        one = self.append("a")
        two = self.append("b", "c")
        self.assertEqual((one.start.seq_num, one.end.seq_num, one.tail.seq_num), (0, 1, 1))
        self.assertEqual((two.start.seq_num, two.end.seq_num, two.tail.seq_num), (1, 3, 3))
        self.assertLessEqual(one.start.timestamp_ms, two.start.timestamp_ms)
        self.assertEqual(self.bodies(), [b"a", b"b", b"c"])
        self.assertEqual(self.bodies(after_seq_num=1), [b"c"])
        self.assertEqual(self.bodies(after_seq_num=9), [])

    def test_a_record_is_kept_byte_for_byte(self):
        body = bytes(range(256)) * 3
        headers = [ch.Header(name=b"\xff\x00", value=b""), ch.Header(name=b"k", value=b"\x00v")]
        record = ch.NewRecord(headers=headers, body=body)
        self.client.channels.Append(pb.AppendRequest(channel=self.channel, records=[record]))
        batch = next(self.read()).batch
        self.assertEqual(batch.records[0].body, body)
        self.assertEqual(list(batch.records[0].headers), headers)

    def test_a_part_id_counts_once(self):
        first = self.append("once", part_id="p")
        again = self.append("once", part_id="p")
        self.assertFalse(first.repeated)
        self.assertTrue(again.repeated)
        self.assertEqual(again.start, first.start)
        other = refusal(self.append, "twice", part_id="p")
        self.assertEqual((other.code, other.reason), (grpc.StatusCode.ALREADY_EXISTS, "PART_ID_REUSED"))
        self.assertEqual(other.metadata["seq_num"], "0")
        self.assertEqual(other.metadata["side_effects"], "none")

    def test_match_seq_num(self):
        self.append("a", match_seq_num=0)
        late = refusal(self.append, "b", match_seq_num=0)
        self.assertEqual((late.code, late.reason), (grpc.StatusCode.ABORTED, "SEQ_NUM_MISMATCH"))
        self.assertEqual(late.metadata["tail_seq_num"], "1")
        self.append("b", match_seq_num=1)
        self.assertEqual(self.bodies(), [b"a", b"b"])

    def test_produce_acknowledges_in_order(self):
        with Duplex(self.client.channels.Produce, pb.ProduceRequest(open=pb.ProduceOpen(channel=self.channel))) as stream:
            for number in range(500):
                append = pb.ChannelAppend(records=[text_record(f"{number}")], part_id=f"part-{number}")
                stream.send(pb.ProduceRequest(append=append))
            numbers = [stream.receive().ack.start.seq_num for _ in range(500)]
            stream.finish()
        self.assertEqual(numbers, list(range(500)))
        self.assertEqual(self.bodies(), [b"%d" % number for number in range(500)])

    def test_a_refused_append_ends_produce(self):
        stream = Duplex(self.client.channels.Produce, pb.ProduceRequest(open=pb.ProduceOpen(channel=self.channel)))
        stream.send(pb.ProduceRequest(append=pb.ChannelAppend(records=[text_record("a")])))
        stream.send(pb.ProduceRequest(append=pb.ChannelAppend(records=[text_record("b")], match_seq_num=7)))
        stream.send(pb.ProduceRequest(append=pb.ChannelAppend(records=[text_record("c")])))
        self.assertEqual(stream.receive().ack.start.seq_num, 0)
        end = refusal(stream.receive)
        self.assertEqual(end.reason, "SEQ_NUM_MISMATCH")
        self.assertEqual(self.bodies(), [b"a"], "what came after it was not made")

    def test_read_replays_then_follows(self):
        self.append("old")
        stream = self.read(heartbeat_ms=1_000)
        self.assertEqual([r.body for r in next(stream).batch.records], [b"old"])
        beat = next(stream)
        self.assertEqual(beat.heartbeat.tail.seq_num, 1)
        self.append("new")
        batch = next(event.batch for event in stream if event.HasField("batch"))
        self.assertEqual([(r.seq_num, r.body) for r in batch.records], [(1, b"new")])
        stream.cancel()

    def test_heartbeats_come_on_the_clock(self):
        stream = self.read(heartbeat_ms=1_000)
        beats = [next(stream).heartbeat.timestamp_ms for _ in range(3)]
        self.assertGreaterEqual(beats[2] - beats[1], 900)
        stream.cancel()

    def test_read_ends_after_the_idle_time(self):
        self.append("a")
        events = list(self.read(idle_timeout_ms=500))
        self.assertEqual(events[0].batch.records[0].body, b"a")

    def test_where_a_read_begins(self):
        for number in range(5):
            self.append(f"{number}")
        first = lambda **start: next(self.read(start=ch.ReadStart(**start))).batch.records[0].seq_num  # noqa: E731
        self.assertEqual(first(seq_num=3), 3)
        self.assertEqual(first(tail_offset=2), 3)
        self.assertEqual(first(tail_offset=99), 0)
        self.assertEqual(first(timestamp_ms=0), 0)
        past = refusal(self.read, start=ch.ReadStart(seq_num=6))
        self.assertEqual((past.code, past.reason), (grpc.StatusCode.OUT_OF_RANGE, "PAST_TAIL"))
        self.assertEqual(past.metadata["tail_seq_num"], "5")
        clamped = self.read(start=ch.ReadStart(seq_num=99, clamp=True))
        self.assertEqual(next(clamped).heartbeat.tail.seq_num, 5)
        clamped.cancel()

    def test_a_trimmed_position_is_a_typed_gap(self):
        for number in range(5):
            self.append(f"{number}")
        trim = self.client.channels.Trim(pb.TrimRequest(channel=self.channel, before_seq_num=3))
        self.assertEqual(trim.position.seq_num, 5, "a command takes a number")
        tail = self.client.channels.CheckTail(pb.CheckTailRequest(channel=self.channel))
        self.assertEqual((tail.tail.seq_num, tail.earliest_seq_num), (6, 3))
        stream = self.read(start=ch.ReadStart(seq_num=1))
        gap = next(stream).gap
        self.assertEqual((gap.requested_seq_num, gap.earliest_seq_num), (1, 3))
        self.assertEqual([r.seq_num for r in next(stream).batch.records], [3, 4, 5])
        stream.cancel()
        self.client.channels.Trim(pb.TrimRequest(channel=self.channel, before_seq_num=1))
        tail = self.client.channels.CheckTail(pb.CheckTailRequest(channel=self.channel))
        self.assertEqual(tail.earliest_seq_num, 3, "never back")

    def test_a_session_names_its_channels(self):
        self.append("a", "b", channel=in_channel(self.session))
        self.append("c")
        self.client.channels.Trim(pb.TrimRequest(channel=self.channel, before_seq_num=1))
        listed, token = [], ""
        while True:
            request = pb.ListChannelsRequest(session=self.session, page_size=2, page_token=token)
            page = self.client.channels.ListChannels(request)
            listed += page.channels
            token = page.next_page_token
            if not token:
                break
        shown = [(c.name, c.direction, c.earliest_seq_num, c.tail.seq_num) for c in listed]
        # The session's run has fenced `.out`.
        expected = [("", ch.DIRECTION_IN, 0, 2), ("", ch.DIRECTION_OUT, 0, 1), ("log", ch.DIRECTION_OUT, 1, 2)]
        self.assertEqual(shown, expected)
        missing = refusal(self.client.channels.ListChannels, pb.ListChannelsRequest(session="session_missing"))
        self.assertEqual((missing.code, missing.reason), (grpc.StatusCode.NOT_FOUND, "SESSION_NOT_FOUND"))

    def test_settled(self):
        out = out_channel(self.session)
        self.append("word", channel=out)
        self.client.channels.Append(pb.AppendRequest(channel=out, records=[turn_complete(0)]))
        stream = self.read(channel=out, peek_settled=True)
        self.assertIn(("continuo-settled", "true"), [(k, v) for k, v in stream.initial_metadata()])
        events = list(stream)
        self.assertTrue(events[-1].HasField("settled"))
        self.append("next turn", channel=out)
        stream = self.read(channel=out, peek_settled=True, idle_timeout_ms=300)
        self.assertFalse(any(event.HasField("settled") for event in stream))

    def test_the_session_token_reads_out_and_writes_in(self):
        token = self.client.sessions.CreateSession(self._again()).public_access_token
        with Client(self.server.address, token) as browser:
            into = pb.AppendRequest(channel=in_channel(self.named), records=[text_record("hi")])
            self.assertEqual(browser.channels.Append(into).start.seq_num, 0)
            out = refusal(browser.channels.Append, pb.AppendRequest(channel=out_channel(self.named), records=[text_record("x")]))
            self.assertEqual((out.code, out.reason), (grpc.StatusCode.PERMISSION_DENIED, "OUT_NEEDS_SECRET_KEY"))
            read = refusal(browser.channels.Read, pb.ReadRequest(channel=in_channel(self.named)))
            self.assertEqual((read.code, read.reason), (grpc.StatusCode.PERMISSION_DENIED, "IN_NEEDS_SECRET_KEY"))
            other = refusal(browser.channels.Append, pb.AppendRequest(channel=in_channel(self.session), records=[text_record("x")]))
            self.assertEqual((other.code, other.reason), (grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED"))

    def _again(self) -> sessions.CreateSessionRequest:
        self.named = f"named-{uuid.uuid4()}"
        request = sessions.CreateSessionRequest(external_id=self.named, type="test", task_identifier="nobody")
        request.trigger_config.base_payload_json = "{}"
        return request
