// What a task calls from inside its run, through the published SDK.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { apiClientManager } from "@trigger.dev/core/v3";
import { conditionallyImportAndParsePacket } from "@trigger.dev/core/v3/utils/ioSerialization";
import { Client, unique } from "../support/http.mjs";
import { insideNextRun, insideSession } from "../support/run-context.mjs";
import { as, auth, errorOf, idempotencyKeys, metadata, requestsOf, runs, sessions, tags, tasks, wait } from "../support/sdk.mjs";
import { startServer } from "../support/server.mjs";
import { Worker } from "../support/worker.mjs";

let server;
let client;
before(async () => {
  server = await startServer("serve");
  client = new Client(server);
});
after(() => server?.stop());

const inside = (fn, options) => insideSession(server, client, fn, options);
/** The options of a call that should be refused without more attempts. */
const ONCE = { retry: { maxAttempts: 1 } };

test("metadata of the run is set, changed and flushed", async () => {
  await inside(async ({ ctx }) => {
    metadata.set("user", { name: "Zoë" }).set("count", 1).set("gone", true).set("log", ["a"]);
    metadata.increment("count", 4).decrement("count", 2).append("log", "b").append("log", "c").remove("log", "a").del("gone");
    const wanted = { user: { name: "Zoë" }, count: 3, log: ["b", "c"] };
    assert.deepEqual(metadata.current(), wanted);
    assert.deepEqual(metadata.get("user"), { name: "Zoë" });
    await metadata.flush();
    assert.deepEqual((await runs.retrieve(ctx.run.id)).metadata, wanted);
    metadata.replace({ fresh: 1 });
    await metadata.flush();
    assert.deepEqual((await runs.retrieve(ctx.run.id)).metadata, { fresh: 1 });
    await client.call("PUT", `/api/v1/runs/${ctx.run.id}/metadata`, { json: { metadata: { outside: true } } });
    await metadata.refresh();
    assert.deepEqual(metadata.current(), { outside: true });
  });
});

test("tags.add adds one or many, each once", async () => {
  await inside(async ({ ctx }) => {
    await tags.add("one");
    await tags.add(["two", "one", "three"]);
    assert.deepEqual((await runs.retrieve(ctx.run.id)).tags.sort(), ["one", "three", "two"]);
    await tags.add(Array.from({ length: 10 }, (_, n) => `many-${n}`));
    assert.equal((await runs.retrieve(ctx.run.id)).tags.length, 3, "more than ten are refused, which the SDK only logs");
  });
});

test("a run looks at itself", async () => {
  const { assignment } = await inside(
    async ({ ctx, created }) => {
      const run = await runs.retrieve(ctx.run.id);
      assert.equal(run.id, created.runId);
      assert.deepEqual([run.status, run.isExecuting, run.isCompleted, run.attemptCount], ["EXECUTING", true, false, 1]);
      assert.equal(run.taskIdentifier, ctx.task.id);
      assert.ok(run.createdAt instanceof Date && run.startedAt instanceof Date);
      assert.equal(run.payload.hello, "world");
      return { done: true };
    },
    { body: { triggerConfig: { basePayload: { hello: "world" }, tags: ["boot"] } } },
  );
  const over = await runs.poll(assignment.run.id, { pollIntervalMs: 20 });
  assert.deepEqual([over.status, over.isSuccess, over.output, over.tags], ["COMPLETED", true, { done: true }, ["boot"]]);
  assert.ok(over.finishedAt instanceof Date);
});

test("a run that throws has failed, with its error", async () => {
  let id;
  const error = await errorOf(inside(({ ctx }) => ((id = ctx.run.id), Promise.reject(new TypeError("no good")))));
  assert.equal(error.message, "no good");
  const run = await runs.poll(id, { pollIntervalMs: 20 });
  assert.deepEqual([run.status, run.isFailed, run.error], ["FAILED", true, { name: "TypeError", message: "no good" }]);
});

test("tasks.trigger starts a run with its options, and the handle opens it", async () => {
  await inside(async () => {
    const task = unique("task");
    const handle = await tasks.trigger(task, { n: 1 }, {
      tags: ["x", "y"], metadata: { from: "test" }, maxAttempts: 3, maxDuration: 60, machine: "small-1x", priority: 5,
      queue: "slow", concurrencyKey: "user-1", ttl: "1h", region: "eu", version: "1.0",
    });
    const run = await runs.retrieve(handle);
    assert.equal(run.taskIdentifier, task);
    assert.deepEqual([run.status, run.payload, run.metadata], ["QUEUED", { n: 1 }, { from: "test" }]);
    assert.deepEqual(run.tags, ["x", "y"]);
    assert.equal(run.ttl, "1h");
    await as(server, handle.publicAccessToken, async () => {
      assert.equal((await runs.retrieve(handle.id)).id, handle.id);
      assert.equal((await errorOf(runs.cancel(handle.id))).status, 403);
    });
  });
});

test("a delayed run waits for its time", async () => {
  await inside(async () => {
    const at = new Date(Date.now() + 3_600_000);
    for (const delay of ["1h", at]) {
      const run = await runs.retrieve(await tasks.trigger(unique("task"), {}, { delay }));
      assert.equal(run.status, "DELAYED");
      assert.ok(Math.abs(run.delayedUntil - at) < 60_000, String(run.delayedUntil));
    }
  });
});

test("a trigger with a key that was used finds its run", async () => {
  await inside(async () => {
    const task = unique("task");
    const key = await idempotencyKeys.create(["order", 7]);
    const first = await tasks.trigger(task, { n: 1 }, { idempotencyKey: key, idempotencyKeyTTL: "1h" });
    const again = await tasks.trigger(task, { n: 2 }, { idempotencyKey: key, idempotencyKeyTTL: "1h" });
    assert.equal(again.id, first.id);
    assert.deepEqual([first.isCached, again.isCached], [false, true]);
    assert.deepEqual((await runs.retrieve(first)).payload, { n: 1 });
    const other = await tasks.trigger(unique("task"), {}, { idempotencyKey: key });
    assert.notEqual(other.id, first.id, "a key belongs to its task");
  });
});

test("every kind of payload arrives as it was", async () => {
  const worker = await Worker.start(server);
  const at = new Date("2026-01-02T03:04:05.678Z");
  const rich = { at, set: new Set([1]), big: 12345678901234567890n, "😀": true };
  // What the task gets, and what the run shows to those who look: plain JSON.
  const kinds = [["text"], [7], [null], [[1, "zwei"]], [undefined], [rich, rich, { ...rich, at: at.toJSON(), set: [1], big: "12345678901234567890" }]];
  try {
    for (const [payload, received = payload, shown = received] of kinds) {
      const handle = await as(server, server.key, () => tasks.trigger(worker.task, payload));
      await insideNextRun(server, worker, async ({ assignment: { run } }) => {
        assert.equal(run.id, handle.id);
        const packet = { data: run.payload, dataType: run.payload_type };
        assert.deepEqual(await conditionallyImportAndParsePacket(packet), received);
        assert.deepEqual((await runs.retrieve(handle)).payload, shown);
      });
    }
  } finally {
    await worker.stop();
  }
});

test("a large payload takes the way through the packet store", async () => {
  const worker = await Worker.start(server);
  const payload = { text: "ü😀".repeat(60_000) };
  try {
    const { result: handle, sent } = await requestsOf(() => as(server, server.key, () => tasks.trigger(worker.task, payload)));
    assert.equal(sent, 3, "a URL, the upload, the trigger");
    await insideNextRun(server, worker, async ({ assignment: { run } }) => {
      assert.equal(run.payload_type, "application/store");
      const packet = { data: run.payload, dataType: run.payload_type };
      assert.deepEqual(await conditionallyImportAndParsePacket(packet), payload);
      assert.deepEqual((await runs.retrieve(handle)).payload, payload);
    });
  } finally {
    await worker.stop();
  }
});

test("runs.cancel ends a run, also one that is over or waits", async () => {
  await inside(async () => {
    const handle = await tasks.trigger(unique("task"), {});
    assert.deepEqual(await runs.cancel(handle.id), { id: handle.id });
    const run = await runs.retrieve(handle);
    assert.deepEqual([run.status, run.isCancelled, run.isCompleted], ["CANCELED", true, true]);
    assert.deepEqual(await runs.cancel(handle.id), { id: handle.id });
    const { result: error, sent } = await requestsOf(() => errorOf(runs.cancel("run_none")));
    assert.deepEqual([error.status, sent], [404, 1]);
  });
});

test("a run that is not there is a 404 that a client may try again", async () => {
  await inside(async () => {
    const error = await errorOf(runs.retrieve("run_none", ONCE));
    assert.equal(error.status, 404);
    assert.equal(error.headers["x-should-retry"], "true");
  });
});

test("runs.list finds by task, tag and status, page by page", async () => {
  await inside(async () => {
    const [one, two] = [unique("task"), unique("task")];
    const made = {};
    for (const name of ["a", "b", "c"]) made[name] = (await tasks.trigger(one, {}, { tags: [name, "all"] })).id;
    made.d = (await tasks.trigger(two, {}, { tags: ["all"] })).id;
    await runs.cancel(made.b);
    const names = async (options) => {
      const found = [];
      for await (const run of runs.list({ limit: 2, ...options })) found.push(Object.keys(made).find((name) => made[name] === run.id));
      return found.join("");
    };
    assert.equal(await names({ taskIdentifier: one }), "cba");
    assert.equal(await names({ taskIdentifier: [one, two] }), "dcba");
    assert.equal(await names({ taskIdentifier: one, status: "CANCELED" }), "b");
    assert.equal(await names({ taskIdentifier: [one, two], status: ["QUEUED", "CANCELED"] }), "dcba");
    assert.equal(await names({ tag: ["a", "c"], taskIdentifier: one }), "ca");
  });
});

test("a session is served from inside its run: rows, records, snapshot, the next run", async () => {
  await inside(async ({ created, ctx }) => {
    const api = apiClientManager.clientOrThrow();
    assert.equal((await sessions.retrieve(created.id)).currentRunId, ctx.run.id);
    await client.append(created.id, "in", "first");
    await client.append(created.id, "in", '{"second":2}');
    const { records } = await api.readSessionStreamRecords(created.id, "in");
    assert.deepEqual(records.map(({ data, seqNum }) => [data, seqNum]), [["first", 0], ['{"second":2}', 1]]);
    const rest = await api.readSessionStreamRecords(created.id, "in", { afterEventId: "0" });
    assert.deepEqual(rest.records.map(({ seqNum }) => seqNum), [1]);
    assert.deepEqual((await api.readSessionStreamRecords(created.id, "out")).records, []);

    const read = async () => fetch((await api.getChatSnapshotUrl(created.id)).presignedUrl);
    assert.equal((await read()).status, 404, "nothing was stored yet");
    assert.deepEqual((await api.getSessionTranscript(created.id)).messages, []);
    const message = { id: "m1", role: "user", parts: [{ type: "text", text: "Grüße 😀" }] };
    const snapshot = { version: 1, savedAt: Date.now(), messages: [message], lastOutEventId: "4", lastInEventId: "1" };
    const { presignedUrl } = await api.createChatSnapshotUploadUrl(created.id);
    const put = await fetch(presignedUrl, { method: "PUT", body: JSON.stringify(snapshot), headers: { "content-type": "application/json" } });
    assert.ok(put.ok, String(put.status));
    assert.deepEqual(await (await read()).json(), snapshot);
    assert.deepEqual((await api.getSessionTranscript(created.id, { limit: 10 })).messages, [message]);

    const swap = { callingRunId: ctx.run.id, reason: "upgrade" };
    const swapped = await api.endAndContinueSession(created.id, swap);
    assert.equal(swapped.swapped, true);
    assert.notEqual(swapped.runId, ctx.run.id);
    assert.deepEqual(await api.endAndContinueSession(created.id, swap), { runId: swapped.runId, swapped: false });
    assert.equal((await sessions.retrieve(created.id)).currentRunId, swapped.runId);
  });
});

test("the token of a turn is made inside the run", async () => {
  const ways = { "run and key": "POST /api/v1/auth/public-tokens", key: "POST /api/v1/auth/jwt/claims" };
  for (const [credentials, way] of Object.entries(ways)) {
    const make = async ({ created, ctx }) => {
      const scopes = { read: { runs: ctx.run.id, sessions: created.id }, write: { sessions: created.id, inputStreams: ctx.run.id } };
      const { result: token, lines } = await requestsOf(() => auth.createPublicToken({ scopes, expirationTime: "1h" }));
      assert.deepEqual(lines, [way]);
      await as(server, token, async () => {
        assert.equal((await sessions.retrieve(created.id)).id, created.id);
        assert.equal((await runs.retrieve(ctx.run.id)).id, ctx.run.id);
        await sessions.open(created.id).in.send("from the page");
      });
      assert.equal((await client.records(created.id, "in")).at(-1).data, "from the page");
    };
    await inside(make, { credentials });
  }
});

test("TRIGGER_RUN_TOKEN comes before the key: the SDK writes as the run, and is fenced with it", async () => {
  const other = await client.createSession();
  await inside(async ({ created, ctx, assignment, worker }) => {
    const api = apiClientManager.clientOrThrow();
    assert.equal(api.getAccessToken("initializeSessionStream"), assignment.sdk_run_token);
    const { out } = sessions.open(created.id);
    await out.append("mine");
    await api.endAndContinueSession(created.id, { callingRunId: ctx.run.id, reason: "upgrade" });
    const { run } = await worker.take();
    assert.equal((await sessions.retrieve(created.id)).currentRunId, run.id);
    for (const late of [() => out.append("late"), () => sessions.open(created.id).out.append("late")]) {
      assert.match(String(await errorOf(late())), /fenc/i);
    }
    assert.deepEqual((await client.records(created.id, "out")).map(({ data }) => data), ["mine"]);

    await sessions.open(other.id).out.append("elsewhere it is as good as the key");
    assert.match((await tasks.trigger(unique("task"), {})).id, /^run_/);
    assert.equal((await client.records(other.id, "out")).length, 1);
  });
});

test("a run's own token is enough for all that is the run's own, and opens nothing else", async () => {
  const other = await client.createSession();
  const work = async ({ created, ctx }) => {
    const handle = sessions.open(created.id);
    const sending = client.whenRun(ctx.run.id, "WAITING").then(() => client.append(created.id, "in", '{"go":1}'));
    assert.deepEqual(await handle.in.wait().unwrap(), { go: 1 });
    await sending;
    await handle.out.append("written");
    await handle.out.writeControl("turn-complete");
    const token = await wait.createToken({ timeout: "1h" });
    await wait.completeToken(token, 7);
    assert.equal(await wait.forToken(token).unwrap(), 7);
    metadata.set("own", true);
    await metadata.flush();
    await tags.add("own");
    const run = await runs.retrieve(ctx.run.id);
    assert.deepEqual([run.metadata, run.tags, run.status], [{ own: true }, ["own"], "EXECUTING"]);
    const api = apiClientManager.clientOrThrow();
    assert.equal((await fetch((await api.getChatSnapshotUrl(created.id)).presignedUrl)).status, 404);
    assert.deepEqual((await api.readSessionStreamRecords(created.id, "in")).records.map(({ data }) => data), ['{"go":1}']);
    const foreign = [
      () => sessions.open(other.id).in.send("x"), () => sessions.open(other.id).out.append("x"),
      () => api.readSessionStreamRecords(other.id, "out"), () => api.getChatSnapshotUrl(other.id),
      () => runs.retrieve(other.runId, ONCE), () => runs.cancel(other.runId, ONCE), () => sessions.list(),
    ];
    for (const call of foreign) assert.equal((await errorOf(call())).status, 403, String(call));
  };
  await inside(work, { credentials: "run" });
  assert.deepEqual(await client.records(other.id, "in"), []);
});
