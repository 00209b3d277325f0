"""What a replica says of itself: at `/metrics`, and in its process."""

import re
from pathlib import Path

from . import rest
from .replicas import Replica

LINE = re.compile(r"(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(?P<labels>.*)\})? (?P<value>\S+)(?: \S+)?$")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')


class Metrics:
    """One reading. A name that is not there is an error and never a zero."""

    def __init__(self, text: str):
        self._samples: list[tuple[str, dict[str, str], float]] = []
        for line in text.splitlines():
            if found := LINE.match(line):
                labels = dict(LABEL.findall(found["labels"] or ""))
                self._samples.append((found["name"], labels, float(found["value"])))

    def value(self, name: str, **labels: str) -> float:
        """The sum of all that have these labels. A counter may end in `_total`."""
        found = [
            value
            for sample, own, value in self._samples
            if sample in (name, f"{name}_total") and labels.items() <= own.items()
        ]
        if not found:
            # A counter with labels is there from its first event on.
            assert labels, f"no metric {name} among {sorted({sample for sample, _, _ in self._samples})}"
            return 0
        return sum(found)


async def metrics_of(replica: Replica, admin_key: str) -> Metrics:
    answer = await rest.request(replica.address, "GET", "/metrics", {"Authorization": f"Bearer {admin_key}"}, within_s=5)
    if answer.status != 200:
        raise rest.Refused(answer)
    return Metrics(answer.body.decode())


def rss_mib(replica: Replica) -> float:
    """Memory that the process holds now."""
    status = Path(f"/proc/{replica.pid}/status").read_text()
    kib = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(kib) / 1024
