"""A relay that breaks connections at a chosen byte of the conversation, so that no test depends on when it cuts."""

import socket
import threading

from support.severable import Severable

from program import WAIT_S_MAX


class Gate:
    """Something is held up here until it is let on."""

    def __init__(self):
        self._reached, self._open = threading.Event(), threading.Event()

    def reached(self) -> None:
        assert self._reached.wait(WAIT_S_MAX), "what was to be held up never came by"

    def let_on(self) -> None:
        self._open.set()

    def hold(self) -> None:
        self._reached.set()
        self._open.wait(WAIT_S_MAX)


class Proxy(Severable):
    def __init__(self, address: str):
        self._cuts: list[bytes] = []
        self._break: tuple[bytes, Gate | None] | None = None
        self._loss: tuple[bytes, object] | None = None
        self._muted: set[socket.socket] = set()
        super().__init__(address)
        self.url = f"http://{self.address}"

    def cut_in(self, *texts: str) -> None:
        """Every connection ends when the server sends the first of these, in the middle of it; then the second, and so on."""
        self._cuts = [text.encode() for text in texts]

    def lose_answer_to(self, text: str, until) -> None:
        """The next message to the server with this text arrives, and no client hears more; once `until()` returns, all
        connections end."""
        self._loss = (text.encode(), until)

    def cut_out(self, text: str) -> None:
        """Every connection ends when a client sends this, in the middle of it."""
        self._break = (text.encode(), None)

    def hold_up(self, text: str) -> Gate:
        """When a client sends this, the server gets half of it, and the rest when the gate is opened."""
        gate = Gate()
        self._break = (text.encode(), gate)
        return gate

    @property
    def has_work(self) -> bool:
        """Something was to be cut or lost and has not come by yet."""
        return bool(self._cuts) or self._break is not None or self._loss is not None

    def _to_client(self, sink: socket.socket, before: bytes, data: bytes) -> None:
        if sink in self._muted:
            return
        with self._lock:
            at = (before + data).find(self._cuts[0]) if self._cuts else -1
            text = self._cuts.pop(0) if at >= 0 else b""
        if at < 0:
            return sink.sendall(data)
        sink.sendall(data[: middle_of(text, before, data)])
        self.sever()

    def _to_server(self, sink: socket.socket, before: bytes, data: bytes) -> None:
        with self._lock:
            loss = self._loss if self._loss and self._loss[0] in before + data else None
            if loss:
                self._loss = None
                self._muted = set(self._open)
            broken = self._break if self._break and self._break[0] in before + data else None
            if broken:
                self._break = None
        if broken:
            return self._break_in(sink, before, data, *broken)
        sink.sendall(data)
        if loss:
            loss[1]()
            self.sever()

    def _break_in(self, sink: socket.socket, before: bytes, data: bytes, text: bytes, gate: Gate | None) -> None:
        middle = middle_of(text, before, data)
        sink.sendall(data[:middle])
        if gate is None:
            self.sever()
            return
        gate.hold()
        sink.sendall(data[middle:])


def middle_of(text: bytes, before: bytes, data: bytes) -> int:
    """In what has just come; its first half may have come before."""
    return max(0, (before + data).find(text) - len(before) + len(text) // 2)
