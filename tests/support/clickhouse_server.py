"""A ClickHouse server on a loopback port, for tests: the engine of the wheel `chdb-core`, with its own HTTP handler.

    PYTHONPATH=<where the wheel is> python3 clickhouse_server.py DATA PORT

The wheel is made for queries in process. Its inner entry runs the same program as `clickhouse-local`, which takes
`SYSTEM START LISTEN HTTP` and serves for as long as its last statement runs. That one reads a pipe which nobody writes; SIGTERM
closes the pipe, and the engine ends in order. The entry is not a documented one, so the version of the wheel is pinned.
"""

import os
import signal
import sys
import threading
from pathlib import Path

CONFIGURATION = """<clickhouse>
  <listen_host>127.0.0.1</listen_host>
  <http_port>{port}</http_port>
  <users_config>{users}</users_config>
  <max_server_memory_usage>3221225472</max_server_memory_usage>
  <mark_cache_size>67108864</mark_cache_size>
  <background_pool_size>2</background_pool_size>
  <background_schedule_pool_size>4</background_schedule_pool_size>
</clickhouse>
"""

USERS = """<clickhouse>
  <profiles><default/></profiles>
  <quotas><default/></quotas>
  <users><default>
    <password></password>
    <networks><ip>127.0.0.1</ip></networks>
    <profile>default</profile>
    <quota>default</quota>
    <access_management>1</access_management>
  </default></users>
</clickhouse>
"""


def configure(data: Path, port: int) -> None:
    """The engine looks for its settings below HOME, once, when it is loaded."""
    home = data / "home"
    settings = home / ".clickhouse-local"
    settings.mkdir(parents=True, exist_ok=True)
    users = settings / "users.xml"
    users.write_text(USERS)
    (settings / "config.xml").write_text(CONFIGURATION.format(port=port, users=users))
    os.environ["HOME"] = str(home)


def main() -> None:
    data, port = Path(sys.argv[1]).resolve(), int(sys.argv[2])
    configure(data, port)
    from chdb import _chdb

    # The engine's own handlers would make a crash report of a SIGTERM.
    _chdb.set_signal_handlers_enabled(0)
    pipe = data / "stop"
    pipe.unlink(missing_ok=True)
    os.mkfifo(pipe)
    held = os.open(pipe, os.O_RDWR)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())

    failures = []

    def serve() -> None:
        parked = f"SELECT count() FROM file('{pipe}', 'LineAsString', 'line String') FORMAT Null"
        result = _chdb.query(f"SYSTEM START LISTEN HTTP; {parked}", "TabSeparated", path=str(data / "store"))
        if result.has_error():
            failures.append(result.error_message())
        stop.set()

    engine = threading.Thread(target=serve, name="clickhouse")
    engine.start()
    stop.wait()
    os.close(held)
    engine.join(timeout=20)
    for failure in failures:
        print(failure, file=sys.stderr)
    sys.stderr.flush()
    # Without Python's own goodbye: threads of the engine may still be there.
    os._exit(1 if failures else 0)


main()
