"""A TCP relay whose connections can be cut, so that a test can break the network and not just close a call politely."""

import socket
import struct
import threading

# Linger for zero seconds: the close is a reset.
_RESET = struct.pack("ii", 1, 0)
BEFORE_BYTES = 1024


class Severable:
    def __init__(self, address: str):
        self.lead_to(address)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def lead_to(self, address: str | None) -> None:
        """Where new connections go from now on; nowhere, if there is nobody."""
        host, _, port = (address or "").rpartition(":")
        self._target = (host, int(port)) if address else None

    def sever(self) -> int:
        """Resets every connection; new ones are accepted. How many ends were cut."""
        with self._lock:
            victims, self._open = self._open, set()
        for end in victims:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            # Wakes the thread that reads it; the close then sends the reset.
            try:
                end.shutdown(socket.SHUT_RD)
            except OSError:
                pass
            end.close()
        return len(victims)

    def close(self) -> None:
        self._listener.close()
        self.sever()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(self._target) if self._target else None
            except OSError:
                far = None
            if far is None:
                near.close()
                continue
            with self._lock:
                self._open |= {near, far}
            for source, sink, pass_on in ((near, far, self._to_server), (far, near, self._to_client)):
                threading.Thread(target=self._relay, args=(source, sink, pass_on), daemon=True).start()

    def _to_server(self, sink: socket.socket, before: bytes, data: bytes) -> None:
        sink.sendall(data)

    def _to_client(self, sink: socket.socket, before: bytes, data: bytes) -> None:
        sink.sendall(data)

    def _relay(self, source: socket.socket, sink: socket.socket, pass_on) -> None:
        """`pass_on` gets a little of what came before too, since what it looks for may arrive in two pieces."""
        before = b""
        try:
            while data := source.recv(65_536):
                pass_on(sink, before, data)
                before = (before + data)[-BEFORE_BYTES:]
        except OSError:
            pass
        # Whoever listens at the other end hears of it, however it ended.
        try:
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass
