"""A bidirectional stream as a person thinks of it: send this, wait for that."""

import queue


WAIT_S_MAX = 30
_END = object()


class Duplex:
    def __init__(self, method, *first, wait_s: float = WAIT_S_MAX):
        self._outgoing: queue.Queue = queue.Queue()
        for message in first:
            self.send(message)
        # The deadline ends a test that would wait for ever.
        self._call = method(iter(self._outgoing.get, _END), timeout=wait_s)

    def send(self, message) -> None:
        self._outgoing.put(message)

    def receive(self):
        """The next message of the server."""
        return next(self._call)

    def receive_until(self, *kinds: str, field: str = "message"):
        """The next message of one of these kinds; what comes before is passed over."""
        for message in self._call:
            if message.WhichOneof(field) in kinds:
                return message
        raise AssertionError(f"the stream ended without {kinds}")

    def finish(self) -> None:
        """Nothing more will be sent; the server's end is awaited."""
        self._outgoing.put(_END)
        for _ in self._call:
            pass

    def cancel(self) -> None:
        self._outgoing.put(_END)
        self._call.cancel()

    def __enter__(self) -> "Duplex":
        return self

    def __exit__(self, *_) -> None:
        self.cancel()


