"""The stubs of every service with one credential."""

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from . import stubs


class Client:
    def __init__(self, address: str, token: str | None, **options):
        self.channel = grpc.insecure_channel(address, options=[(k.replace("_", "."), v) for k, v in options.items()])
        with_token = _Bearer(token)
        channel = grpc.intercept_channel(self.channel, with_token) if token else self.channel
        self.sessions = stubs.session_service_pb2_grpc.SessionServiceStub(channel)
        self.channels = stubs.channel_service_pb2_grpc.ChannelServiceStub(channel)
        self.runs = stubs.run_service_pb2_grpc.RunServiceStub(channel)
        self.tokens = stubs.token_service_pb2_grpc.TokenServiceStub(channel)
        self.workers = stubs.worker_service_pb2_grpc.WorkerServiceStub(channel)

    def close(self) -> None:
        self.channel.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_) -> None:
        self.close()


class _Bearer(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    def __init__(self, token: str | None):
        self._pair = ("authorization", f"Bearer {token}")

    def _call(self, continuation, details, request):
        metadata = [*(details.metadata or ()), self._pair]
        return continuation(details._replace(metadata=metadata), request)

    intercept_unary_unary = _call
    intercept_unary_stream = _call
    intercept_stream_unary = _call
    intercept_stream_stream = _call


class Refusal:
    """What an error says: the code, the reason from the proto, and the details."""

    def __init__(self, error: grpc.RpcError):
        self.code = error.code()
        self.text = error.details()
        self.reason = None
        self.metadata: dict[str, str] = {}
        self.fields: dict[str, str] = {}
        self.may_retry = False
        status = rpc_status.from_call(error)
        for detail in status.details if status else ():
            for kind in (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.RetryInfo):
                if detail.Is(kind.DESCRIPTOR):
                    self._take(detail, kind())

    def _take(self, detail, message) -> None:
        detail.Unpack(message)
        if isinstance(message, error_details_pb2.ErrorInfo):
            self.domain, self.reason, self.metadata = message.domain, message.reason, dict(message.metadata)
        elif isinstance(message, error_details_pb2.BadRequest):
            self.fields = {v.field: v.description for v in message.field_violations}
        else:
            self.may_retry = True


def refusal(call, *args, **kwargs) -> Refusal:
    """Makes a call that must be refused."""
    try:
        answer = call(*args, **kwargs)
        if hasattr(answer, "__next__"):
            answer = list(answer)
    except grpc.RpcError as error:
        return Refusal(error)
    raise AssertionError(f"the call should have been refused and answered {answer!r}")
