"""Statements to ClickHouse over HTTP."""

from urllib.parse import quote

from . import rest


async def clickhouse_do(url: str, statement: str, within_s: float = 30) -> str:
    """What it answers, as tab separated text unless the statement says otherwise."""
    address = url.partition("://")[2].rstrip("/")
    answer = await rest.request(address, "POST", f"/?query={quote(statement)}", within_s=within_s)
    if answer.status != 200:
        raise rest.Refused(answer)
    return answer.body.decode().rstrip("\n")
