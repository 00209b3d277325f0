// The life of a session through the published SDK.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Client, sessionBody, unique } from "../support/http.mjs";
import { startProxy } from "../support/proxy.mjs";
import { as, errorOf, requestsOf, sessions, use } from "../support/sdk.mjs";
import { startServer } from "../support/server.mjs";

let server;
before(async () => use((server = await startServer("serve"))));
after(() => server?.stop());

const start = (more) => sessions.start(sessionBody(more));

/** A refusal that is final: an SDK that retries it takes about nine seconds to report it. */
async function refusal(call) {
  const { result: error, sent } = await requestsOf(() => errorOf(call()));
  assert.equal(error.name, "TriggerApiError", String(error));
  assert.equal(sent, 1, "the SDK retried");
  return error;
}

test("start makes a session and its run; a second start finds both", async () => {
  const externalId = unique("chat");
  const metadata = { user: { id: 7, name: "Zoë" } };
  const made = await start({ externalId, tags: ["a", "b"], metadata });
  assert.match(made.id, /^session_/);
  assert.match(made.runId, /^run_/);
  assert.equal(made.currentRunId, made.runId);
  assert.equal(made.isCached, false);
  assert.equal(made.externalId, externalId);
  assert.equal(made.type, "chat.agent");
  assert.equal(made.taskIdentifier, "demo-agent");
  assert.deepEqual(made.triggerConfig.basePayload, {});
  assert.deepEqual(made.tags, ["a", "b"]);
  assert.deepEqual(made.metadata, metadata);
  assert.equal(made.closedAt, null);
  assert.equal(made.publicAccessToken.split(".").length, 3);

  const found = await start({ externalId, tags: ["other"], triggerConfig: { basePayload: { model: "x" } } });
  assert.equal(found.isCached, true);
  assert.equal(found.id, made.id);
  assert.equal(found.runId, made.runId, "the live run is reused");
  assert.deepEqual(found.tags, ["a", "b"], "only the trigger config is refreshed");
  assert.deepEqual(found.triggerConfig.basePayload, { model: "x" });
});

test("start without a name makes a new session each time", async () => {
  const [one, two] = await Promise.all([start(), start()]);
  assert.notEqual(one.id, two.id);
  assert.equal(one.externalId, null);
});

test("of many first starts at once exactly one makes the session", async () => {
  const externalId = unique("race");
  const answers = await Promise.all(Array.from({ length: 12 }, () => start({ externalId })));
  assert.equal(answers.filter((answer) => !answer.isCached).length, 1);
  assert.equal(new Set(answers.map((answer) => answer.id)).size, 1);
  assert.equal(new Set(answers.map((answer) => answer.runId)).size, 1, "one run");
});

test("retrieve finds a session by its id and by its name", async () => {
  const made = await start({ externalId: unique("find") });
  const byId = await sessions.retrieve(made.id);
  const byName = await sessions.retrieve(made.externalId);
  assert.deepEqual(byId, byName);
  assert.equal(byId.id, made.id);
  assert.equal(byId.currentRunId, made.runId);
  assert.ok(byId.createdAt instanceof Date);
});

test("a name may hold anything that a person would write", async () => {
  for (const name of ["a/b", "a:b:c", "two words", "straße 😀", "100%", "a?b#c&d=e", "..", "a+b"]) {
    const externalId = `${name} ${unique("n")}`;
    const made = await start({ externalId });
    assert.equal((await sessions.retrieve(externalId)).id, made.id, externalId);
    await sessions.open(externalId).in.send("hello");
    await sessions.close(externalId);
  }
});

test("a session that is not there is a 404 without retries", async () => {
  for (const id of ["session_nowhere", unique("nowhere")]) {
    const error = await refusal(() => sessions.retrieve(id));
    assert.equal(error.status, 404);
    assert.equal(error.message, "Not found");
  }
});

test("update replaces tags and metadata and renames", async () => {
  const made = await start({ externalId: unique("old"), tags: ["x"], metadata: { a: 1 } });
  const renamed = unique("new");
  const updated = await sessions.update(made.id, { tags: ["y", "z"], metadata: { b: [2] }, externalId: renamed });
  assert.deepEqual(updated.tags, ["y", "z"]);
  assert.deepEqual(updated.metadata, { b: [2] });
  assert.equal(updated.externalId, renamed);
  assert.equal(updated.id, made.id);
  assert.equal((await sessions.retrieve(renamed)).id, made.id);
  assert.equal((await refusal(() => sessions.retrieve(made.externalId))).status, 404, "the old name is free");

  await sessions.open(renamed).in.send("after the new name");
  const reborn = await start({ externalId: made.externalId });
  assert.notEqual(reborn.id, made.id, "a name given up may be taken again");

  const cleared = await sessions.update(renamed, { metadata: null });
  assert.equal(cleared.metadata, null);
  assert.deepEqual(cleared.tags, ["y", "z"], "what is not named stays");
});

test("a name that is taken is a 409 without retries", async () => {
  const [one, two] = await Promise.all([start({ externalId: unique("a") }), start({ externalId: unique("b") })]);
  const error = await refusal(() => sessions.update(one.id, { externalId: two.externalId }));
  assert.equal(error.status, 409);
  assert.equal(error.message, "A session with this externalId already exists in this environment");
});

test("close keeps its first reason", async () => {
  const made = await start({ externalId: unique("close") });
  const closed = await sessions.close(made.externalId, { reason: "done" });
  assert.ok(closed.closedAt instanceof Date);
  assert.equal(closed.closedReason, "done");
  const again = await sessions.close(made.id, { reason: "other" });
  assert.deepEqual(again.closedAt, closed.closedAt);
  assert.equal(again.closedReason, "done");
  assert.equal(again.currentRunId, made.runId);
});

test("of two closes at once one wins and both say so", async () => {
  const made = await start();
  const answers = await Promise.all(["left", "right"].map((reason) => sessions.close(made.id, { reason })));
  assert.equal(answers[0].closedReason, answers[1].closedReason);
  assert.deepEqual(answers[0].closedAt, answers[1].closedAt);
});

test("close without a reason", async () => {
  const made = await start();
  assert.equal((await sessions.close(made.id)).closedReason, null);
});

test("a closed session is started no more, and the SDK hears it at once", async () => {
  const made = await start({ externalId: unique("over") });
  await sessions.close(made.id);
  const error = await refusal(() => start({ externalId: made.externalId }));
  assert.equal(error.status, 409);
  assert.equal(error.message, "Session is closed; use a different externalId to create a new session");
  const { body } = await new Client(server).call("GET", `/api/v1/sessions/${made.id}/runs`);
  assert.deepEqual(body.data.map((run) => run.runId), [made.runId], "nor was a run started for it");
});

test("nor is an expired one", async () => {
  const { externalId } = await new Client(server).expiredSession();
  const bornExpired = { externalId: unique("born"), expiresAt: new Date(Date.now() - 1_000) };
  for (const body of [{ externalId }, bornExpired]) {
    const error = await refusal(() => start(body));
    assert.equal(error.status, 409);
    assert.equal(error.message, "Session is expired; use a different externalId to create a new session");
  }
});

test("a closed session takes no input, and the SDK hears it at once", async () => {
  const made = await start();
  await sessions.close(made.id, { reason: "enough" });
  const error = await refusal(() => sessions.open(made.id).in.send("too late"));
  assert.equal(error.status, 409);
  assert.equal(error.code, "session_closed");
  assert.equal(error.body.closedReason, "enough");
});

test("a closed session may still be read and labelled", async () => {
  const made = await start();
  await sessions.close(made.id);
  assert.deepEqual((await sessions.update(made.id, { tags: ["archived"] })).tags, ["archived"]);
  assert.deepEqual((await sessions.retrieve(made.id)).tags, ["archived"]);
});

test("refusals carry the words and the shape that the SDK lifts onto its errors", async () => {
  const made = await start();
  const type = await refusal(() => start({ type: "t".repeat(65) }));
  assert.equal(type.status, 400);
  assert.match(type.message, /^Validation error: .*64 char.*"type"/);
  const reserved = await refusal(() => start({ externalId: "session_mine" }));
  assert.equal(reserved.status, 422);
  assert.match(reserved.message, /cannot start with 'session_'/);
  const tags = await refusal(() => sessions.update(made.id, { tags: Array.from({ length: 11 }, (_, i) => `t${i}`) }));
  assert.equal(tags.status, 400);
  assert.match(tags.message, /10 .*"tags"/);
  const reason = await refusal(() => sessions.close(made.id, { reason: "r".repeat(257) }));
  assert.equal(reason.status, 400);
  assert.match(reason.message, /256 .*"reason"/);
});

test("every option of start is kept and shown", async () => {
  const expiresAt = new Date(Date.now() + 3_600_000);
  const triggerConfig = {
    basePayload: { nested: { deep: [1, null, "ü😀"] } },
    machine: "small-2x", queue: "slow", concurrencyKey: "user-1", tags: ["run"], maxAttempts: 3, maxDuration: 600,
    lockToVersion: "20260101.1", region: "eu-central-1", idleTimeoutInSeconds: 30, ttl: "10m",
  };
  const made = await start({ externalId: unique("full"), type: "custom", expiresAt, triggerConfig, metadata: {}, tags: [] });
  assert.deepEqual(made.triggerConfig, triggerConfig);
  assert.deepEqual([made.type, made.metadata, made.tags, made.closedReason], ["custom", {}, [], null]);
  assert.deepEqual(made.expiresAt, expiresAt);
  const { id, ...found } = await sessions.retrieve(made.id);
  assert.equal(id, made.id);
  for (const [name, value] of Object.entries(found)) assert.deepEqual(made[name], value, name);
});

test("update changes one thing at a time, and names may be taken off and put on", async () => {
  const made = await start({ externalId: unique("keep"), tags: ["x"], metadata: { a: 1 } });
  const tagged = await sessions.update(made.id, { tags: [] });
  assert.deepEqual([tagged.tags, tagged.metadata, tagged.externalId], [[], { a: 1 }, made.externalId]);
  const same = await sessions.update(made.id, { externalId: made.externalId });
  assert.equal(same.externalId, made.externalId);
  const unnamed = await sessions.update(made.externalId, { externalId: null });
  assert.equal(unnamed.externalId, null);
  assert.equal((await refusal(() => sessions.retrieve(made.externalId))).status, 404);
  const named = await sessions.update(made.id, { externalId: `  ${made.externalId} ` });
  assert.equal(named.externalId, made.externalId, "trimmed");
  assert.deepEqual((await sessions.update(made.id, {})).metadata, { a: 1 }, "nothing to change is fine");
  assert.ok(named.updatedAt > made.updatedAt);
});

test("the errors are those that programs catch by their class", async () => {
  const made = await start({ externalId: unique("classes") });
  const other = await start({ externalId: unique("classes") });
  await sessions.close(other.id);
  const cases = [
    ["BadRequestError", 400, () => start({ type: "" })],
    ["AuthenticationError", 401, () => as(server, "tr_dev_wrong", () => sessions.retrieve(made.id))],
    ["PermissionDeniedError", 403, () => as(server, other.publicAccessToken, () => sessions.retrieve(made.id))],
    ["NotFoundError", 404, () => sessions.close("session_nowhere")],
    ["ConflictError", 409, () => start({ externalId: other.externalId })],
    ["UnprocessableEntityError", 422, () => sessions.update(made.id, { externalId: "session_mine" })],
  ];
  for (const [name, status, call] of cases) {
    const error = await refusal(call);
    assert.deepEqual([error.constructor.name, error.status], [name, status]);
    assert.equal(error.message, error.body.error, "the server's own words");
    assert.equal(typeof error.headers, "object");
  }
});

test("a failure on the way is tried again, and the session is made once", async () => {
  const proxy = await startProxy(server);
  const externalId = unique("lost");
  try {
    const lost = proxy.loseAnswerTo("POST /api/v1/sessions");
    const { result, sent } = await requestsOf(() => as(proxy, server.key, () => start({ externalId })));
    assert.deepEqual([lost(), sent], [1, 2]);
    assert.equal(result.isCached, true, "the first attempt had made it");
    const { body } = await new Client(server).call("GET", `/api/v1/sessions/${result.id}/runs`);
    assert.deepEqual(body.data.map(({ runId }) => runId), [result.runId], "one run");
  } finally {
    await proxy.stop();
  }
});

test("open asks for nothing", async () => {
  const { sent } = await requestsOf(async () => {
    const handle = sessions.open("any name");
    assert.equal(handle.id, "any name");
    assert.deepEqual(sessions.defineChannel("tools.v1"), { name: "tools.v1" });
    assert.equal(handle.channel("tools.v1").name, "tools.v1");
    for (const name of ["", "a/b", "ü", "x".repeat(129)]) {
      assert.throws(() => handle.channel(name), /Invalid session channel name/);
      assert.throws(() => sessions.defineChannel(name), /Invalid session channel name/);
    }
  });
  assert.equal(sent, 0);
});

test("a route that is not provided says which", async () => {
  const { status, body } = await new Client(server).call("POST", "/api/v1/projects/ref/branches", { json: {} });
  assert.equal(status, 404);
  assert.equal(body.error, "POST /api/v1/projects/ref/branches is not provided by this server");
});
