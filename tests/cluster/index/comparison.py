"""Postgres and ClickHouse, row by row and column by column. Both are read in the order of ids and never held in memory."""

import http.client
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

# Of each side: the name in the index, what Postgres says for it, what ClickHouse says for it.
COLUMNS = (
    ("session_id", "id", "session_id"),
    ("friendly_id", "id", "friendly_id"),
    ("environment_id", "environment_id", "environment_id"),
    ("organization_id", "organization_id", "organization_id"),
    ("project_id", "project_id", "project_id"),
    ("environment_type", "environment_type", "environment_type"),
    ("external_id", "coalesce(external_id, '')", "external_id"),
    ("type", "session_type", "type"),
    ("task_identifier", "task_identifier", "task_identifier"),
    ("tags", "tags", "tags"),
    ("metadata", "metadata", "toString(metadata)"),
    ("closed_at", "closed_at_ms", "toUnixTimestamp64Milli(closed_at)"),
    ("closed_reason", "coalesce(closed_reason, '')", "closed_reason"),
    ("expires_at", "expires_at_ms", "toUnixTimestamp64Milli(expires_at)"),
    ("created_at", "created_at_ms", "toUnixTimestamp64Milli(created_at)"),
    ("updated_at", "updated_at_ms", "toUnixTimestamp64Milli(updated_at)"),
    ("is_test", "cast(is_test as int)", "is_test"),
)
METADATA = [name for name, _, _ in COLUMNS].index("metadata")
EXAMPLES_MAX = 5
ANSWER_S_MAX = 120


@dataclass
class Comparison:
    """`rows` is how many ids there are on either side."""

    rows: int = 0
    differing: int = 0
    examples: list[str] = field(default_factory=list)

    def differ(self, text: str) -> None:
        self.differing += 1
        if len(self.examples) < EXAMPLES_MAX:
            self.examples.append(text)


def compare(postgres_url: str, clickhouse_url: str, database: str) -> Comparison:
    """Takes as long as it takes to read both; to be called in a thread."""
    found = Comparison()
    truth, index = _postgres(postgres_url), _clickhouse(clickhouse_url, database)
    try:
        _merge(found, _in_order(truth), _in_order(index))
    finally:
        truth.close()
        index.close()
    return found


def _merge(found: Comparison, truth: Iterator[list], index: Iterator[list]) -> None:
    """Both in the order of their ids, as bytes."""
    true, stored = next(truth, None), next(index, None)
    while true is not None or stored is not None:
        found.rows += 1
        if stored is None or true is not None and true[0].encode() < stored[0].encode():
            found.differ(f"{true[0]} is missing")
            true = next(truth, None)
        elif true is None or stored[0].encode() < true[0].encode():
            found.differ(f"{stored[0]} is too many")
            stored = next(index, None)
        else:
            if true != stored:
                columns = [(name, a, b) for (name, _, _), a, b in zip(COLUMNS, true, stored, strict=True) if a != b]
                found.differ(f"{true[0]}: " + "; ".join(f"{name} is {b!r:.200} and not {a!r:.200}" for name, a, b in columns))
            true, stored = next(truth, None), next(index, None)


def _in_order(rows: Iterator[list]) -> Iterator[list]:
    """Rows of a side that has an id twice still come one by one, so that the second is too many."""
    last = b""
    for row in rows:
        assert last <= (last := row[0].encode()), "rows do not come in the order of their ids"
        yield row


def _postgres(url: str) -> Iterator[list]:
    columns = ", ".join(truth for _, truth, _ in COLUMNS)
    query = f"copy (select json_build_array({columns}) from session order by id collate \"C\") to stdout"
    command = ["psql", "--no-psqlrc", "-q", "-v", "ON_ERROR_STOP=1", "-d", url, "-c", query]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe) as process:
        try:
            for line in process.stdout:
                # A row has no control characters, so that what COPY escapes is the backslash alone.
                row = json.loads(line.replace(b"\\\\", b"\\"))
                row[METADATA] = metadata(f'{{"data":{row[METADATA] or "null"}}}')
                yield row
            said = process.stderr.read()
        finally:
            process.kill()
    # 0, or the kill that came after its end.
    assert not said, said.decode(errors="replace")


def _clickhouse(url: str, database: str) -> Iterator[list]:
    columns = ", ".join(index for _, _, index in COLUMNS)
    query = f"SELECT {columns} FROM `{database}`.sessions_v1 FINAL ORDER BY session_id FORMAT JSONCompactEachRow"
    settings = "output_format_json_quote_64bit_integers=0&http_write_exception_in_output_format=0"
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=ANSWER_S_MAX)
    try:
        connection.request("POST", f"/?{settings}&query={quote(query)}")
        answer = connection.getresponse()
        if answer.status != 200:
            raise ConnectionError(answer.read(2_000).decode(errors="replace"))
        for line in answer:
            row = json.loads(line)
            row[METADATA] = metadata(row[METADATA])
            yield row
    except http.client.HTTPException as error:
        raise ConnectionError(f"ClickHouse broke off: {error}") from error
    finally:
        connection.close()


def metadata(text: str) -> dict:
    """As the type JSON of ClickHouse sees it: paths to values, of which the first counts; null is as good as nothing."""
    paths: dict[str, object] = {}
    _walk((), json.loads(text, object_pairs_hook=_Pairs), paths)
    return paths


class _Pairs(list):
    """An object with whatever names it has, also twice."""


def _walk(path: tuple[str, ...], value: object, paths: dict[str, object]) -> None:
    if isinstance(value, _Pairs):
        for name, inner in value:
            _walk((*path, name), inner, paths)
    elif value is not None:
        paths.setdefault(".".join(path), _plain(value))


def _plain(value: object) -> object:
    """Objects inside of arrays are objects by themselves."""
    if isinstance(value, _Pairs):
        paths: dict[str, object] = {}
        _walk((), value, paths)
        return paths
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value
