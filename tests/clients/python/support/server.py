"""Starts the server under test: the debug binary on a free loopback port."""

import atexit
import os
import re
import secrets
import signal
import string
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import deque
from pathlib import Path

ROOT = Path(__file__).resolve().parents[4]
BINARY = os.environ.get("CONTINUO_BIN", str(ROOT / "target/debug/continuo"))
START_S_MAX = 60
STOP_S_MAX = 30
LETTERS = string.ascii_letters + string.digits


def new_key() -> str:
    return "tr_dev_" + "".join(secrets.choice(LETTERS) for _ in range(24))


class Server:
    """One process on one data directory. `start` after `kill` goes on where the directory stands."""

    def __init__(self, profile: str = "serve", *flags: str):
        self._command = [BINARY, profile, *flags]
        self.key = new_key()
        self.other_key = new_key()
        self._directory = tempfile.TemporaryDirectory(prefix="continuo-python-")
        self._process: subprocess.Popen | None = None
        self.said: deque[str] = deque(maxlen=400)
        # A test process that ends must not leave its server behind; a plain SIGTERM would skip `atexit`.
        atexit.register(self.remove)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))

    def spawn(self) -> None:
        """Begins to start, and does not wait."""
        environment = {
            "PATH": os.environ["PATH"],
            "CONTINUO_LISTEN": "127.0.0.1:0",
            "CONTINUO_DATA_DIR": self._directory.name,
            "CONTINUO_DEV_SECRET_KEY": self.key,
            "CONTINUO_DEV_SECRET_KEY_2": self.other_key,
            "CONTINUO_DEMO_TOKEN_MS": "0",
            "CONTINUO_DEMO_IDLE_MS": "0",
        }
        self._listening = threading.Event()
        self._url: str | None = None
        self._process = subprocess.Popen(
            self._command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        threading.Thread(target=self._listen, args=(self._process, self._listening), daemon=True).start()

    def _listen(self, process: subprocess.Popen, listening: threading.Event) -> None:
        for line in process.stdout:
            self.said.append(line.rstrip())
            found = re.search(r"listening on (http://\S+)", line)
            if found and process is self._process and not listening.is_set():
                self._url = found.group(1).rstrip("/")
                listening.set()
        listening.set()

    def wait_ready(self) -> "Server":
        if not self._listening.wait(START_S_MAX) or self._url is None:
            raise RuntimeError("the server did not say where it listens:\n" + "\n".join(self.said))
        deadline = time.monotonic() + START_S_MAX
        while time.monotonic() < deadline and self._process.poll() is None:
            if self.is_ready():
                return self
            time.sleep(0.01)
        raise RuntimeError("the server did not become ready:\n" + "\n".join(self.said))

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._url}/readyz", timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False

    def start(self) -> "Server":
        self.spawn()
        return self.wait_ready()

    @property
    def url(self) -> str:
        return self._url

    @property
    def admin_key(self) -> str:
        """The server's own, as it lies in its directory."""
        return (Path(self._directory.name) / "admin.key").read_text().strip()

    @property
    def address(self) -> str:
        """Host and port, as gRPC wants it."""
        return self._url.removeprefix("http://")

    def kill(self) -> None:
        """As a power cut does to a process: at once and without a last word."""
        self._process.kill()
        self._process.wait()

    def ask_to_stop(self) -> None:
        """As an operator does, and does not wait."""
        self._process.terminate()

    def stop(self) -> int:
        """As an operator does. The exit code."""
        self.ask_to_stop()
        return self.wait_stopped()

    def wait_stopped(self) -> int:
        """The exit code."""
        try:
            return self._process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise RuntimeError("the server did not stop on SIGTERM:\n" + "\n".join(self.said))

    def remove(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()
        self._directory.cleanup()
