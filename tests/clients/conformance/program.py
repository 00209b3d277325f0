"""A client program as a process: lines go in, and what it reports comes out, one JSON object a line."""

import json
import os
import queue
import subprocess
import threading
import time
from collections import deque

WAIT_S_MAX = 60
ENDED = object()


class Program:
    def __init__(self, command: list[str], environment: dict[str, str]):
        self.name = " ".join(command)
        self.events: list[dict] = []
        self._given: set[int] = set()
        self._arriving: queue.Queue = queue.Queue()
        self._said: deque[str] = deque(maxlen=40)
        self._process = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            # What it starts itself, a browser for example, ends with it.
            start_new_session=True,
        )
        threading.Thread(target=self._listen, daemon=True).start()

    def say(self, line: str) -> None:
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def until(self, event: str, **fields) -> dict:
        """The first report of this kind with these fields that was not given yet. Others may come before it: what a program does
        at once has no order."""
        while True:
            for at, found in enumerate(self.events):
                if at not in self._given and found["event"] == event and fields.items() <= found.items():
                    self._given.add(at)
                    return found
            self._take(f"waited in vain for {event} {fields or ''}")

    def all(self, event: str) -> list[dict]:
        return [found for found in self.events if found["event"] == event]

    def end(self) -> int:
        """No more lines; how it ended by itself."""
        self._process.stdin.close()
        while self._take("did not end"):
            pass
        return self._process.wait(WAIT_S_MAX)

    def stop(self) -> None:
        """As an operator does."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, 15)
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, 9)
                self._process.wait()

    def _take(self, trouble: str) -> bool:
        try:
            arrived = self._arriving.get(timeout=WAIT_S_MAX)
        except queue.Empty:
            raise AssertionError(f"{self.name}: {trouble}; it said last:\n" + "\n".join(self._said)) from None
        if arrived is ENDED:
            self._arriving.put(ENDED)
            if trouble != "did not end":
                raise AssertionError(f"{self.name}: ended; {trouble}; it said last:\n" + "\n".join(self._said))
            return False
        self.events.append(arrived)
        return True

    def _listen(self) -> None:
        for line in self._process.stdout:
            self._said.append(line.rstrip())
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict) and "event" in event:
                self._arriving.put(event)
        self._arriving.put(ENDED)


def poll(is_there, what: str) -> None:
    deadline = time.monotonic() + WAIT_S_MAX
    while not is_there():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)
