"""A relay that breaks connections at a chosen byte of the conversation, so that no test depends on when it cuts."""

import socket

from support.severable import Severable


class Proxy(Severable):
    def __init__(self, address: str):
        self._cuts: list[bytes] = []
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

    @property
    def has_work(self) -> bool:
        """Something was to be cut or lost and has not come by yet."""
        return bool(self._cuts) or self._loss is not None

    def _to_client(self, sink: socket.socket, before: bytes, data: bytes) -> None:
        if sink in self._muted:
            return
        with self._lock:
            at = (before + data).find(self._cuts[0]) if self._cuts else -1
            text = self._cuts.pop(0) if at >= 0 else b""
        if at < 0:
            return sink.sendall(data)
        sink.sendall(data[: max(0, at - len(before) + len(text) // 2)])
        self.sever()

    def _to_server(self, sink: socket.socket, before: bytes, data: bytes) -> None:
        with self._lock:
            loss = self._loss if self._loss and self._loss[0] in before + data else None
            if loss:
                self._loss = None
                self._muted = set(self._open)
        sink.sendall(data)
        if loss:
            loss[1]()
            self.sever()
