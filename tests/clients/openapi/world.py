"""Things that requests can be about, and the document narrowed to them."""

import copy
import json
import time
import urllib.error
import urllib.request

# How many there are of what a request uses up.
SPARE = 20


class World:
    """Sessions, runs, waitpoints and signed URLs of one server."""

    def __init__(self, url: str, key: str):
        self.url, self.key = url, key
        chat = self.session("chat-1", "demo-agent")
        self.chat, self.run = chat["id"], chat["runId"]
        for channel in ("in", "out", "channels/tools/in", "channels/tools/out"):
            self.call("POST", f"/realtime/v1/sessions/chat-1/{channel}/append", "Hello")
        self.renamed = self.session("renamed", "nobody")["id"]
        self.closed = self.session("closed", "nobody")["id"]
        self.continued = self.session("continued", "nobody")
        self.deleted = [self.session(f"deleted-{n}", "nobody")["id"] for n in range(SPARE)]
        # The demo agent takes their runs, so they execute.
        self.executing = [self.session(f"waits-{n}", "demo-agent")["runId"] for n in range(SPARE)]
        self.queued = self.trigger({"payload": {"a": 1}})
        self.delayed = self.trigger({"options": {"delay": "1d"}})
        self.tagged = [self.trigger({}) for _ in range(SPARE)]
        self.cancelled = [self.trigger({}) for _ in range(3)]
        self.waitpoint = self.call("POST", "/api/v1/waitpoints/tokens", {"timeout": "1d"})["id"]
        called = self.call("POST", "/api/v1/waitpoints/tokens", {})
        self.called, self.callback = called["id"], called["url"].rsplit("/", 1)[1]
        snapshot = "/api/v1/sessions/renamed/snapshot-url"
        self.put_token, self.get_token = (self.call(m, snapshot)["presignedUrl"].rsplit("/", 1)[1] for m in ("PUT", "GET"))
        self.store("renamed")
        self.store("chat-1")
        self.stored = self.trigger({"payload": "a/b", "options": {"payloadType": "application/store"}})
        lists = {"listSessions": "sessions", "listRuns": "runs", "listWaitpoints": "waitpoints/tokens"}
        self.cursors = {name: self.call("GET", f"/api/v1/{path}?page[size]=1")["pagination"]["next"] for name, path in lists.items()}
        self.await_executing()

    def session(self, name: str, task: str) -> dict:
        config = {"basePayload": {"chatId": name}}
        return self.call("POST", "/api/v1/sessions", {"type": "t", "externalId": name, "taskIdentifier": task, "triggerConfig": config})

    def store(self, session: str) -> None:
        signed = self.call("PUT", f"/api/v1/sessions/{session}/snapshot-url")["presignedUrl"]
        self.call("PUT", signed.removeprefix(self.url), {"version": 1, "savedAt": 1, "messages": [{"id": "m1"}, {"id": "m2"}]})

    def trigger(self, body: dict) -> str:
        return self.call("POST", "/api/v1/tasks/nobody/trigger", body)["id"]

    def await_executing(self) -> None:
        deadline = time.monotonic() + 30
        for run in self.executing:
            while self.call("GET", f"/api/v3/runs/{run}")["status"] != "EXECUTING":
                if time.monotonic() > deadline:
                    raise RuntimeError(f"{run} does not execute")

    def call(self, method: str, path: str, body=None):
        data = None if body is None else body.encode() if isinstance(body, str) else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Authorization": f"Bearer {self.key}"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                text = answer.read()
        except urllib.error.HTTPError as refusal:
            raise RuntimeError(f"{method} {path}: {refusal.code} {refusal.read().decode()}") from refusal
        return json.loads(text) if text else None


def narrowed(document: dict, world: World, *, only_paths: bool) -> dict:
    """The document, with what there is in place of any name; `only_paths` leaves everything but the paths as it is."""
    document = copy.deepcopy(document)
    for item in document["paths"].values():
        shared = item.pop("parameters", [])
        for method, operation in list(item.items()):
            parameters = [resolved(document, p) for p in [*shared, *operation.get("parameters", [])]]
            for parameter in parameters:
                narrow_parameter(parameter, operation["operationId"], world, only_paths)
            operation["parameters"] = [parameter for parameter in parameters if parameter["schema"].get("enum") != []]
            if only_paths and not has_more_than_a_path(operation):
                del item[method]
    if not only_paths:
        narrow_bodies(document, world)
    return document


def for_tokens(document: dict, world: World) -> dict:
    """A narrowed document without the halves of channels that no scope opens, as the operations' descriptions say."""
    document = copy.deepcopy(document)
    for item in document["paths"].values():
        for operation in item.values():
            writes = operation["operationId"].startswith(("append", "initialize"))
            is_named = "NamedChannel" in operation["operationId"]
            sides = ["in"] if writes else ["in", "out"] if is_named else ["out"]
            stream = f"{world.chat}/{sides[0]}"
            values = {"io": sides, "stream": [stream, f"{world.chat}/channels/tools/in"]}
            for parameter in operation["parameters"]:
                if parameter["name"] in values:
                    parameter["schema"] = {"enum": values[parameter["name"]]}
    return document


def has_more_than_a_path(operation: dict) -> bool:
    """Is there anything else in a request that could be wrong?"""
    media = operation.get("requestBody", {}).get("content", {}).values()
    return any(one.get("schema") for one in media) or any(p["in"] != "path" for p in operation["parameters"])


def resolved(document: dict, thing: dict) -> dict:
    if "$ref" not in thing:
        return thing
    for name in thing["$ref"].removeprefix("#/").split("/"):
        document = document[name]
    return copy.deepcopy(document)


def narrow_parameter(parameter: dict, operation: str, world: World, only_paths: bool) -> None:
    values = of_every_path(world) | of_path(operation, world)
    if not only_paths:
        values |= elsewhere(operation, world)
    if parameter["name"] in values:
        parameter["schema"] = {"enum": values[parameter["name"]]}
        parameter.pop("example", None)


def elsewhere(operation: str, world: World) -> dict:
    """Of queries and headers: what has to be true beyond what a schema says, and what goes with the bodies that are sent. Those
    without a value are left out."""
    return {
        "page[after]": [world.cursors.get(operation)],
        "page[before]": [],
        "x-trigger-branch": ["default"],
        # Of three ways to say where to begin, one may be used.
        "timestamp": [],
        "tail_offset": [],
        "S2-Format": ["raw", "json"],
        "Content-Encoding": ["identity"],
    }


def of_every_path(world: World) -> dict:
    return {
        "session": ["chat-1", world.chat],
        "io": ["in", "out"],
        "run": [world.run, world.queued],
        "waitpoint": [world.waitpoint],
        "stream": [f"{world.chat}/out", f"{world.chat}/in", f"{world.chat}/channels/tools/out"],
        "packet": ["a/b", "a b/ü.json", "x"],
        "project": ["proj_dev"],
        "environment": ["dev"],
    }


def of_path(operation: str, world: World) -> dict:
    """Where an operation changes what others need, it has things of its own."""
    return {
        "updateSession": {"session": [world.renamed]},
        "closeSession": {"session": [world.closed]},
        "deleteSession": {"session": world.deleted},
        "endAndContinue": {"session": [world.continued["id"]]},
        "getRun": {"run": [world.run, world.queued, world.delayed, world.cancelled[0], world.stored]},
        "cancelRun": {"run": world.cancelled},
        "replayRun": {"run": [world.queued]},
        "addRunTags": {"run": world.tagged},
        "rescheduleRun": {"run": [world.delayed]},
        "presignRunPacket": {"run": [world.stored]},
        "waitOnChannel": {"run": [world.run]},
        "suspendOnWaitpoint": {"run": world.executing[: SPARE // 2], "waitpoint": [world.waitpoint]},
        "waitForDuration": {"run": world.executing[SPARE // 2 :]},
        "completeWaitpoint": {"waitpoint": [world.called]},
        "completeWaitpointByUrl": {"waitpoint": [world.called], "token": [world.callback]},
        "putBlob": {"token": [world.put_token]},
        "getBlob": {"token": [world.get_token]},
    }.get(operation, {})


def narrow_bodies(document: dict, world: World) -> None:
    """Texts that have to name something, or to say a time, in a way that a schema does not tell."""
    schemas = document["components"]["schemas"]
    duration = {"enum": ["30s", "1h30m", "7d"]}
    schemas["Duration"] = duration
    schemas["KeyTtl"] = {"enum": ["30s", "1h", "7d"]}
    schemas["Delay"] = {"enum": ["1h", "2090-01-01T00:00:00.000Z", 3786912000000]}
    schemas["ExpirationTime"] = {"enum": ["5m", "2 hours"]}
    schemas["NewPublicToken"]["properties"]["expirationTime"] = schemas["ExpirationTime"]
    schemas["EndAndContinue"]["properties"]["callingRunId"] = {"enum": [world.continued["runId"]]}
    schemas["Close"]["properties"]["callingRunId"] = {"enum": [world.run]}
    append = schemas["AppendInput"]["properties"]
    append |= {"match_seq_num": {"enum": [None, 0, 7]}, "fencing_token": {"enum": [None, "token"]}}
    append["records"]["items"]["properties"]["headers"] = {"enum": [[], [["h", "v"]]]}
    schemas["TriggerOptions"]["properties"] |= {
        "parentRunId": {"enum": [world.queued]},
        "resumeParentOnCompletion": {"const": False},
        "metadata": {"type": "object"},
    }
    schemas["WaitOnChannel"]["properties"]["session"] = {"enum": ["chat-1", world.chat, "nobody-yet"]}
