"""Generates the stubs as any user would: from the .proto files, with the released tools, into a temp directory."""

import atexit
import shutil
import sys
import tempfile
from importlib import resources
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parents[4]
PROTO = ROOT / "proto"


def _generate() -> None:
    out = tempfile.mkdtemp(prefix="continuo-stubs-")
    atexit.register(shutil.rmtree, out, ignore_errors=True)
    files = sorted(str(path.relative_to(PROTO)) for path in PROTO.rglob("*.proto"))
    well_known = resources.files("grpc_tools") / "_proto"
    code = protoc.main(
        ["protoc", f"-I{PROTO}", f"-I{well_known}", f"--python_out={out}", f"--grpc_python_out={out}", *files]
    )
    if code != 0:
        raise RuntimeError(f"protoc ended with {code}")
    sys.path.insert(0, out)


_generate()

from continuo.v1 import (  # noqa: E402  (they exist only now)
    channel_pb2,
    channel_service_pb2,
    channel_service_pb2_grpc,
    error_reason_pb2,
    run_service_pb2,
    run_service_pb2_grpc,
    session_pb2,
    session_service_pb2,
    session_service_pb2_grpc,
    token_service_pb2,
    token_service_pb2_grpc,
    worker_service_pb2,
    worker_service_pb2_grpc,
)

__all__ = [name for name in dir() if "_pb2" in name]
