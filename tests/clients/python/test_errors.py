"""What a refused call says: the canonical code, the reason from the proto, the fields."""

import unittest
import uuid

import grpc

from support import stubs
from support.chat import in_channel, text_record
from support.client import Client, Refusal, refusal
from support.server import Server
from support.stubs import channel_service_pb2 as channels
from support.stubs import error_reason_pb2
from support.stubs import run_service_pb2 as runs
from support.stubs import session_service_pb2 as sessions

Code = grpc.StatusCode
RECORD_BYTES_MAX = 1_048_576
# Closed by the server's own listener or admin key, with rules of its own.
ADMIN = "AdminService"


def create_request(**fields) -> sessions.CreateSessionRequest:
    request = sessions.CreateSessionRequest(**{"type": "test", "task_identifier": "nobody", **fields})
    request.trigger_config.base_payload_json = "{}"
    return request


class Errors(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server("serve").start()
        cls.addClassCleanup(cls.server.remove)
        cls.client = Client(cls.server.address, cls.server.key)
        cls.addClassCleanup(cls.client.close)
        cls.session = cls.client.sessions.CreateSession(create_request()).session.id

    def assert_refused(self, refused: Refusal, code: Code, reason: str) -> Refusal:
        self.assertEqual((refused.code, refused.reason), (code, reason), refused.text)
        self.assertEqual(refused.domain, "continuo")
        error_reason_pb2.ErrorReason.Value(f"ERROR_REASON_{refused.reason}")
        self.assertTrue(refused.text)
        return refused

    def test_a_missing_session_or_run(self):
        for name in ("session_nowhere", f"nowhere-{uuid.uuid4()}"):
            missing = refusal(self.client.sessions.GetSession, sessions.GetSessionRequest(session=name))
            self.assert_refused(missing, Code.NOT_FOUND, "SESSION_NOT_FOUND")
        missing = refusal(self.client.runs.GetRun, runs.GetRunRequest(run_id="run_nowhere"))
        self.assert_refused(missing, Code.NOT_FOUND, "RUN_NOT_FOUND")

    def test_fields_are_named(self):
        bad = create_request(type="", tags=["ok", "t" * 129], external_id="a\x00b")
        bad.trigger_config.max_attempts = 99
        bad.trigger_config.base_payload_json = "[]"
        refused = refusal(self.client.sessions.CreateSession, bad)
        self.assert_refused(refused, Code.INVALID_ARGUMENT, "INVALID_ARGUMENT")
        for field in ("type", "tags[1]", "external_id", "trigger_config.max_attempts", "trigger_config.base_payload_json"):
            self.assertIn(field, refused.fields)
            self.assertTrue(refused.fields[field])
        self.assertFalse(refused.may_retry)

    def test_no_session_named_at_all(self):
        refused = refusal(self.client.sessions.GetSession, sessions.GetSessionRequest())
        self.assert_refused(refused, Code.INVALID_ARGUMENT, "INVALID_ARGUMENT")
        self.assertIn("session", refused.fields)

    def test_enums_that_mean_nothing(self):
        for direction in (0, 99):
            channel = in_channel(self.session)
            channel.direction = direction
            append = channels.AppendRequest(channel=channel, records=[text_record("x")])
            refused = refusal(self.client.channels.Append, append)
            self.assert_refused(refused, Code.INVALID_ARGUMENT, "INVALID_ARGUMENT")
            self.assertIn("channel.direction", refused.fields)

    def test_page_tokens_and_masks(self):
        refused = refusal(self.client.sessions.ListSessions, sessions.ListSessionsRequest(page_token="nonsense"))
        self.assert_refused(refused, Code.INVALID_ARGUMENT, "INVALID_ARGUMENT")
        self.assertIn("page_token", refused.fields)
        update = sessions.UpdateSessionRequest(session=self.session)
        update.update_mask.paths.append("closed_at")
        refused = refusal(self.client.sessions.UpdateSession, update)
        self.assert_refused(refused, Code.INVALID_ARGUMENT, "INVALID_ARGUMENT")
        self.assertTrue(any(field.startswith("update_mask") for field in refused.fields), refused.fields)

    def test_names(self):
        for name in ("session_mine", "a:channels:b", "a:in", "a:out"):
            refused = refusal(self.client.sessions.CreateSession, create_request(external_id=name))
            self.assert_refused(refused, Code.INVALID_ARGUMENT, "EXTERNAL_ID_RESERVED")
        taken = f"taken-{uuid.uuid4()}"
        self.client.sessions.CreateSession(create_request(external_id=taken))
        update = sessions.UpdateSessionRequest(session=self.session)
        update.value.external_id = taken
        update.update_mask.paths.append("external_id")
        refused = refusal(self.client.sessions.UpdateSession, update)
        self.assert_refused(refused, Code.ALREADY_EXISTS, "EXTERNAL_ID_TAKEN")

    def test_a_closed_session(self):
        name = f"closed-{uuid.uuid4()}"
        self.client.sessions.CreateSession(create_request(external_id=name))
        self.client.sessions.CloseSession(sessions.CloseSessionRequest(session=name, reason="why"))
        refused = refusal(self.client.sessions.CreateSession, create_request(external_id=name))
        self.assert_refused(refused, Code.ALREADY_EXISTS, "SESSION_ALREADY_CLOSED")
        append = channels.AppendRequest(channel=in_channel(name), records=[text_record("x")])
        refused = refusal(self.client.channels.Append, append)
        self.assert_refused(refused, Code.FAILED_PRECONDITION, "SESSION_CLOSED")
        self.assertEqual(refused.metadata["closed_reason"], "why")

    def test_a_record_at_the_limit_and_one_byte_over(self):
        def append(size):
            record = text_record("x" * (size - 8))
            return self.client.channels.Append(channels.AppendRequest(channel=in_channel(self.session, "big"), records=[record]))

        self.assertEqual(append(RECORD_BYTES_MAX).start.seq_num, 0)
        refused = self.assert_refused(refusal(append, RECORD_BYTES_MAX + 1), Code.INVALID_ARGUMENT, "RECORD_TOO_LARGE")
        self.assertEqual(refused.metadata["metered_bytes"], str(RECORD_BYTES_MAX + 1))

    def test_a_message_over_the_limit(self):
        record = text_record("x" * (40 * 1_048_576))
        append = channels.AppendRequest(channel=in_channel(self.session), records=[record])
        refused = refusal(self.client.channels.Append, append, timeout=30)
        self.assertIn(refused.code, (Code.OUT_OF_RANGE, Code.RESOURCE_EXHAUSTED, Code.INVALID_ARGUMENT))
        self.client.sessions.GetSession(sessions.GetSessionRequest(session=self.session), timeout=2)

    def test_a_deadline_ends_the_call(self):
        read = self.client.channels.Read(channels.ReadRequest(channel=in_channel(self.session)), timeout=0.5)
        self.assertEqual(refusal(lambda: read).code, Code.DEADLINE_EXCEEDED)

    def test_a_token_without_the_scope(self):
        token = self.client.tokens.CreatePublicToken(
            stubs.token_service_pb2.CreatePublicTokenRequest(scopes=["read:sessions:somebody-else"])
        ).token
        with Client(self.server.address, token) as browser:
            for name in (self.session, "session_nowhere"):
                refused = refusal(browser.sessions.GetSession, sessions.GetSessionRequest(session=name))
                self.assert_refused(refused, Code.PERMISSION_DENIED, "PERMISSION_DENIED")

    def test_another_environment(self):
        with Client(self.server.address, self.server.other_key) as other:
            refused = refusal(other.sessions.GetSession, sessions.GetSessionRequest(session=self.session))
            self.assert_refused(refused, Code.NOT_FOUND, "SESSION_NOT_FOUND")

    def test_every_rpc_asks_who_is_there(self):
        """Also those that somebody adds later: the list is made from the descriptors."""
        channel = grpc.insecure_channel(self.server.address)
        self.addCleanup(channel.close)
        asked = 0
        for service in stubs.SERVICES:
            for method in service.methods if service.name != ADMIN else ():
                for token in (None, "Bearer nonsense", "Bearer tr_dev_AAAAAAAAAAAAAAAAAAAAAAAA", "Basic eDp5"):
                    with self.subTest(rpc=method.full_name, token=token):
                        refused = self.call_bare(channel, service, method, token)
                        self.assert_refused(refused, Code.UNAUTHENTICATED, "UNAUTHENTICATED")
                asked += 1
        self.assertGreater(asked, 30)

    @staticmethod
    def call_bare(channel, service, method, token) -> Refusal:
        kinds = {
            (False, False): channel.unary_unary,
            (False, True): channel.unary_stream,
            (True, False): channel.stream_unary,
            (True, True): channel.stream_stream,
        }
        make = kinds[method.client_streaming, method.server_streaming]
        call = make(
            f"/{service.full_name}/{method.name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=lambda data: data,
        )
        message = sessions.GetSessionRequest()
        request = iter([message]) if method.client_streaming else message
        return refusal(call, request, metadata=[("authorization", token)] if token else [], timeout=10)
