"""The programs, and how each language makes its stubs and starts them."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PROTO = ROOT / "proto"
PROGRAMS = ROOT / "tests/clients/languages"
# Where stubs and compiled programs go; nothing of it is committed.
OUT = Path(os.environ.get("CONTINUO_CLIENTS_DIR", ROOT / "target/tests/clients"))
PYTHON = Path(sys.executable)
BUF = PYTHON.parent / "buf"
PROTO_FILES = sorted(str(path.relative_to(PROTO)) for path in PROTO.rglob("*.proto"))


@dataclass(frozen=True)
class Language:
    name: str
    # Started with the session's name and the task.
    chat: list[str]
    # Started with the task.
    worker: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    # False where the worker is another language's.
    has_worker: bool = True
    # What makes it ready; shared by languages, done once.
    prepare: tuple = ()


def run(*command: str | Path, cwd: Path = ROOT, **environment: str) -> None:
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env={**os.environ, **environment}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
    )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}")


# Python


def prepare_python() -> None:
    stubs = OUT / "python"
    stubs.mkdir(parents=True, exist_ok=True)
    run(PYTHON, "-m", "grpc_tools.protoc", f"-I{PROTO}", f"--python_out={stubs}", f"--grpc_python_out={stubs}", *PROTO_FILES)


def python(name: str, folder: str) -> Language:
    return Language(
        name=name,
        chat=[str(PYTHON), str(PROGRAMS / folder / "chat.py")],
        worker=[str(PYTHON), str(PROGRAMS / folder / "worker.py")],
        environment={"PYTHONPATH": str(OUT / "python"), "PYTHONDONTWRITEBYTECODE": "1"},
        prepare=(prepare_python,),
    )


# TypeScript

TSX = ["node", "--import", str(PROGRAMS / "node_modules/tsx/dist/loader.mjs")]


def prepare_node() -> None:
    """The plugins are npm packages, so that nothing beside npm and buf is needed. Types are checked once for all programs."""
    modules = PROGRAMS / "node_modules/.bin"
    for folder in ("node-connect", "node-grpc", "browser"):
        for definitions in (PROTO, google_rpc()):
            run(BUF, "generate", definitions, cwd=PROGRAMS / folder, PATH=f"{modules}:{os.environ['PATH']}")
    run(modules / "tsc", "--project", PROGRAMS)


def google_rpc() -> Path:
    """The definitions of error details, for languages that have no package with them."""
    import google.rpc

    folder = OUT / "googleapis"
    (folder / "google/rpc").mkdir(parents=True, exist_ok=True)
    for name in ("status.proto", "error_details.proto"):
        shutil.copy(Path(google.rpc.__path__[0]) / name, folder / "google/rpc" / name)
    return folder


def node(name: str, folder: str) -> Language:
    return Language(
        name=name,
        chat=[*TSX, str(PROGRAMS / folder / "chat.ts")],
        worker=[*TSX, str(PROGRAMS / folder / "worker.ts")],
        prepare=(prepare_node,),
    )


def browser() -> Language:
    """gRPC-Web has no streams of the client, which a worker needs, so that Python's serves the page."""
    partner = python("", "python")
    return Language(
        name="Browser",
        chat=[*TSX, str(PROGRAMS / "browser/host.mjs")],
        worker=partner.worker,
        environment=partner.environment,
        has_worker=False,
        prepare=(prepare_node, *partner.prepare),
    )


# What is compiled, and Ruby


def prepare_go() -> None:
    """With Debian's libraries, which are sources under a GOPATH, so that no module is fetched."""
    folder = PROGRAMS / "go"
    run(BUF, "generate", PROTO, cwd=folder)
    (OUT / "go").mkdir(parents=True, exist_ok=True)
    path = f"{folder / 'gen'}:/usr/share/gocode"
    run("go", "build", "-o", f"{OUT / 'go'}/", "./chat", "./worker", cwd=folder, GO111MODULE="off", GOPATH=path, GOFLAGS="")


def go(program: str) -> list[str]:
    return [str(OUT / "go" / program)]


def prepare_ruby() -> None:
    stubs = PROGRAMS / "ruby/gen"
    stubs.mkdir(exist_ok=True)
    run("grpc_tools_ruby_protoc", f"-I{PROTO}", f"--ruby_out={stubs}", f"--grpc_out={stubs}", *PROTO_FILES)


def ruby(program: str) -> list[str]:
    return ["/usr/bin/ruby", "-I", str(PROGRAMS / "ruby/gen"), str(PROGRAMS / f"ruby/{program}.rb")]


def prepare_rust() -> None:
    """Together with the server, so that both are built with the same features and what they share is built once."""
    run("cargo", "build", "--quiet", "--package", "continuo", "--package", "continuo-client-programs", "--bins")


def rust(program: str) -> list[str]:
    return [str(Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug" / program)]


LANGUAGES = [
    python("Python", "python"),
    python("Python asyncio", "python-asyncio"),
    node("Node Connect", "node-connect"),
    node("Node grpc-js", "node-grpc"),
    browser(),
    Language(name="Go", chat=go("chat"), worker=go("worker"), prepare=(prepare_go,)),
    Language(name="Ruby", chat=ruby("chat"), worker=ruby("worker"), prepare=(prepare_ruby,)),
    Language(name="Rust", chat=rust("chat"), worker=rust("worker"), prepare=(prepare_rust,)),
]
