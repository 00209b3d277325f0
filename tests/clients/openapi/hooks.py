"""What the tool is told about each request: who calls, and what would take for ever. Notes how every operation was answered."""

import functools
import json
import os
import re
import urllib.parse
import urllib.request

import schemathesis
from schemathesis.core.parameters import ParameterLocation

NOTES = os.environ["CONTINUO_OPENAPI_NOTES"]
CALLER = json.loads(os.environ["CONTINUO_OPENAPI_CALLER"])
# A subscription would go on for its default of a minute, and so would a read that waits.
SUBSCRIPTION_S = "1"


@schemathesis.hook
def filter_case(context, case):
    """A path that names nothing is a 404 of its own, and is asked for elsewhere by the hundred."""
    component = case.meta.components.get(ParameterLocation.PATH) if case.meta else None
    return component is None or component.mode.is_positive


@schemathesis.hook
def before_call(context, case, kwargs):
    headers = dict(case.headers or {})
    token = bearer(case)
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    if operation_id(case).startswith("subscribe"):
        headers.setdefault("Timeout-Seconds", SUBSCRIPTION_S)
        if headers["Timeout-Seconds"].strip().isdigit():
            headers["Timeout-Seconds"] = SUBSCRIPTION_S
    case.headers = headers
    if operation_id(case) == "readRecords" and str((case.query or {}).get("wait", "")).isdigit():
        case.query["wait"] = "0"


@schemathesis.hook
def after_call(context, case, response):
    with open(NOTES, "a") as notes:
        notes.write(json.dumps([operation_id(case), response.status_code]) + "\n")


def operation_id(case) -> str:
    return case.operation.definition.raw["operationId"]


def path_parameters(case) -> dict[str, str]:
    return {name: urllib.parse.unquote(str(value)) for name, value in (case.path_parameters or {}).items()}


def bearer(case) -> str | None:
    """The credential of whoever calls in this run, if the operation asks for one at all."""
    asked = {}
    for requirement in case.operation.definition.raw.get("security", []):
        asked |= requirement
    if not asked or CALLER["kind"] == "nobody":
        return None
    if CALLER["kind"] == "bystander":
        return minted("read:sessions:nothing")
    if CALLER["kind"] == "scopes":
        # Where no scopes are named, all of them together have to be too little.
        return minted(*(filled(scope, case) for scope in asked.get("publicToken", ["admin"])))
    return CALLER["admin_key"] if "personalToken" in asked else CALLER["key"]


def filled(scope: str, case) -> str:
    things = path_parameters(case)
    things.setdefault("session", things.get("stream", "").split("/")[0])
    body = case.body if isinstance(case.body, dict) else {}
    things["taskIdentifier"] = body.get("taskIdentifier", "nobody")
    return re.sub(r"{(\w+)}", lambda name: things[name.group(1)], scope)


@functools.cache
def minted(*scopes: str) -> str:
    """A public token with exactly these scopes."""
    url = CALLER["url"] + "/api/v1/auth/public-tokens"
    headers = {"Authorization": f"Bearer {CALLER['key']}", "Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps({"scopes": scopes}).encode(), headers)
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)["token"]
