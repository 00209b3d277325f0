"""Generates the stubs as any user would: from the .proto files, with the released tools, into a temp directory.

Every generated module is an attribute of this one: `stubs.session_pb2`, `stubs.session_service_pb2_grpc` and so on.
"""

import atexit
import importlib
import shutil
import sys
import tempfile
from importlib import resources
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parents[4]
PROTO = ROOT / "proto"


def _generate() -> list[str]:
    out = tempfile.mkdtemp(prefix="continuo-stubs-")
    atexit.register(shutil.rmtree, out, ignore_errors=True)
    files = sorted(path.relative_to(PROTO) for path in PROTO.rglob("*.proto"))
    well_known = resources.files("grpc_tools") / "_proto"
    flags = [f"-I{PROTO}", f"-I{well_known}", f"--python_out={out}", f"--grpc_python_out={out}"]
    code = protoc.main(["protoc", *flags, *map(str, files)])
    if code != 0:
        raise RuntimeError(f"protoc ended with {code}")
    sys.path.insert(0, out)
    stems = [".".join(path.with_suffix("").parts) for path in files]
    return [f"{stem}{suffix}" for stem in stems for suffix in ("_pb2", "_pb2_grpc")]


MODULES = {name.rpartition(".")[2]: importlib.import_module(name) for name in _generate()}
globals().update(MODULES)

# Every service of the API.
SERVICES = [
    service
    for name, module in MODULES.items()
    if not name.endswith("_grpc")
    for service in module.DESCRIPTOR.services_by_name.values()
]
