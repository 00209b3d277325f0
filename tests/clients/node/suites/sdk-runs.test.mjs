// Runs, metadata, tags and waitpoint tokens as the SDK uses them.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Client, unique } from "../support/http.mjs";
import { as, auth, errorOf, idempotencyKeys, insideRun, metadata, requestsOf, runs, tags, tasks, use, wait } from "../support/sdk.mjs";
import { startServer } from "../support/server.mjs";

let server;
before(async () => use((server = await startServer("serve"))));
after(() => server?.stop());

/** The ids of every item of a list, page by page. */
async function ids(pages) {
  const found = [];
  for await (const item of await pages) found.push(item.id);
  return found;
}

test("a run is triggered, seen and canceled", async () => {
  const handle = await tasks.trigger("task-a", { at: new Date(0), n: 1 }, { tags: ["t1"], ttl: "10m", maxAttempts: 3, metadata: { m: 1 } });
  const run = await runs.retrieve(handle.id);
  assert.equal(run.status, "QUEUED");
  assert.deepEqual([run.taskIdentifier, run.tags, run.ttl, run.metadata], ["task-a", ["t1"], "10m", { m: 1 }]);
  assert.deepEqual([run.isQueued, run.isCompleted, run.attemptCount, run.depth], [true, false, 0, 0]);
  assert.equal(run.payload.n, 1);
  await as(server, handle.publicAccessToken, async () => assert.equal((await runs.retrieve(handle.id)).id, handle.id));
  await runs.cancel(handle.id);
  const canceled = await runs.poll(handle.id);
  assert.deepEqual([canceled.status, canceled.isCancelled, canceled.isCompleted], ["CANCELED", true, true]);
  assert.ok(canceled.finishedAt instanceof Date);
  assert.ok(canceled.error.message.length > 0);
  await runs.cancel(handle.id);
});

test("a run that is not there is asked for again, as the SDK is told to", async () => {
  const answer = await new Client(server).call("GET", "/api/v3/runs/run_nowhere");
  assert.deepEqual([answer.status, answer.headers.get("x-should-retry")], [404, "true"]);
});

test("an idempotency key makes one run, and is shown as the caller wrote it", async () => {
  const key = await idempotencyKeys.create("mine", { scope: "global" });
  const first = await tasks.trigger("task-key", {}, { idempotencyKey: key, idempotencyKeyTTL: "1h" });
  const again = await tasks.trigger("task-key", {}, { idempotencyKey: key });
  assert.equal(again.id, first.id);
  assert.equal((await runs.retrieve(first.id)).idempotencyKey, "mine");
});

test("debounced triggers are one run: the first one leads, or the last one trails", async () => {
  const debounce = { key: unique("k"), delay: "1h" };
  const first = await tasks.trigger("task-debounce", { n: 1 }, { debounce });
  assert.equal((await tasks.trigger("task-debounce", { n: 2 }, { debounce })).id, first.id);
  const leading = await runs.retrieve(first.id);
  assert.deepEqual([leading.status, leading.payload], ["DELAYED", { n: 1 }]);
  const trailing = { ...debounce, mode: "trailing" };
  assert.equal((await tasks.trigger("task-debounce", { n: 3 }, { debounce: trailing, tags: ["last"] })).id, first.id);
  const run = await runs.retrieve(first.id);
  assert.deepEqual([run.payload, run.tags], [{ n: 3 }, ["last"]]);
  assert.ok(run.delayedUntil >= leading.delayedUntil);
  const full = { ...debounce, maxDelay: "10m" };
  assert.notEqual((await tasks.trigger("task-debounce", { n: 4 }, { debounce: full })).id, first.id, "beyond its longest delay");
});

test("a delayed run is rescheduled, and a run is replayed", async () => {
  const delayed = await tasks.trigger("task-delay", { n: 1 }, { delay: "1h" });
  const later = new Date(Date.now() + 7_200_000);
  const rescheduled = await runs.reschedule(delayed.id, { delay: later });
  assert.deepEqual([rescheduled.status, rescheduled.delayedUntil], ["DELAYED", later]);
  const again = await runs.replay(delayed.id, { tags: ["again"] });
  const replayed = await runs.retrieve(again.id);
  assert.deepEqual([replayed.status, replayed.payload, replayed.tags], ["QUEUED", { n: 1 }, ["again"]]);
  const refused = await errorOf(runs.reschedule(again.id, { delay: "1h" }));
  assert.equal(refused.status, 422, "it is not delayed");
});

test("a limit that nobody declared bounds nothing", async () => {
  const { result, sent } = await requestsOf(() => tasks.trigger("task-limit", {}, { concurrency: ["paid", "b"] }));
  assert.equal(sent, 1);
  assert.equal((await runs.retrieve(result.id)).status, "QUEUED");
});

test("a payload that is too long for the request travels as a packet", async () => {
  const long = { text: "x".repeat(600_000) };
  const handle = await tasks.trigger("task-long", long);
  const answer = await new Client(server).call("GET", `/api/v3/runs/${handle.id}`);
  assert.ok(answer.body.payloadPresignedUrl, answer.text.slice(0, 300));
  assert.equal(answer.body.payload, undefined);
  assert.deepEqual((await runs.retrieve(handle.id)).payload, long);
});

test("runs are listed by what they were triggered with, forward and back", async () => {
  const task = unique("task-list");
  const made = [];
  for (let i = 0; i < 5; i += 1) {
    const options = i % 2 ? { tags: ["odd"], machine: "micro", region: "eu", version: "v1" } : { queue: "q" };
    made.unshift((await tasks.trigger(task, {}, options)).id);
  }
  const list = (filter) => ids(runs.list({ taskIdentifier: task, limit: 2, ...filter }));
  const [odd, even] = [[made[1], made[3]], [made[0], made[2], made[4]]];
  assert.deepEqual(await list({}), made);
  for (const [filter, expected] of [
    [{ tag: ["odd", "other"] }, odd],
    [{ version: "v1" }, odd],
    [{ machine: "micro" }, odd],
    [{ region: ["eu", "us"] }, odd],
    [{ queue: { type: "custom", name: "q" } }, even],
    [{ queue: { type: "task", name: task } }, odd],
    [{ status: ["QUEUED", "EXECUTING"] }, made],
    [{ status: "COMPLETED" }, []],
    [{ isTest: true }, []],
    [{ isTest: false }, made],
    [{ period: "1h" }, made],
    [{ from: new Date(Date.now() + 3_600_000) }, []],
    [{ to: new Date(Date.now() + 3_600_000) }, made],
    [{ batch: "batch_none" }, []],
    [{ bulkAction: "bulk_none" }, []],
    [{ schedule: "sched_none" }, []],
  ]) {
    assert.deepEqual(await list(filter), expected, JSON.stringify(filter));
  }
  const first = await runs.list({ taskIdentifier: task, limit: 2 });
  const second = await first.getNextPage();
  assert.deepEqual(second.data.map((run) => run.id), made.slice(2, 4));
  const back = await second.getPreviousPage();
  assert.deepEqual(back.data.map((run) => run.id), made.slice(0, 2));
  assert.deepEqual([first.hasPreviousPage(), back.hasPreviousPage(), back.hasNextPage()], [false, false, true]);
});

test("a child knows its relatives, and is canceled with its parent", async () => {
  const parent = await tasks.trigger("task-parent", {});
  const child = await insideRun(parent.id, () => tasks.trigger("task-child", {}));
  const low = await insideRun(child.id, () => tasks.trigger("task-low", {}));
  const run = await runs.retrieve(low.id);
  assert.deepEqual([run.relatedRuns.parent.id, run.relatedRuns.root.id, run.depth], [child.id, parent.id, 2]);
  assert.deepEqual((await runs.retrieve(parent.id)).relatedRuns.children.map((one) => one.id), [child.id]);
  await runs.cancel(parent.id);
  for (const { id } of [child, low]) assert.equal((await runs.retrieve(id)).status, "CANCELED");
  const late = await errorOf(insideRun(parent.id, () => tasks.trigger("task-child", {})));
  assert.equal(late.status, 422, "a run that is over triggers nothing");
});

test("metadata is changed inside a run, also that of its parent and root", async () => {
  const parent = await tasks.trigger("task-parent", {}, { metadata: { kept: true } });
  const child = await insideRun(parent.id, () => tasks.trigger("task-child", {}));
  await insideRun(child.id, async ({ parent: above, root }) => {
    metadata.set("status", "begun").append("log", "a").append("log", "b").increment("n", 2).decrement("n", 1).set("gone", 1).del("gone");
    above.increment("children", 1);
    root.append("seen", child.id);
    await metadata.flush();
    assert.deepEqual(metadata.current(), { status: "begun", log: ["a", "b"], n: 1 });
  });
  assert.deepEqual((await runs.retrieve(child.id)).metadata, { status: "begun", log: ["a", "b"], n: 1 });
  assert.deepEqual((await runs.retrieve(parent.id)).metadata, { kept: true, children: 1, seen: [child.id] });
});

test("tags are added inside a run", async () => {
  const { id } = await tasks.trigger("task-tags", {}, { tags: ["one"] });
  await insideRun(id, () => tags.add(["two", "one"]));
  assert.deepEqual((await runs.retrieve(id)).tags, ["one", "two"]);
});

test("a waitpoint token is made once, seen, completed and listed", async () => {
  const key = unique("token");
  const token = await wait.createToken({ timeout: "10m", idempotencyKey: key, idempotencyKeyTTL: "1h", tags: [key] });
  const again = await wait.createToken({ idempotencyKey: key });
  assert.deepEqual([again.id, again.isCached, token.isCached], [token.id, true, false]);
  const waiting = await wait.retrieveToken(token);
  assert.deepEqual([waiting.status, waiting.tags, waiting.idempotencyKey], ["WAITING", [key], key]);
  assert.ok(waiting.timeoutAt instanceof Date);
  const data = { approved: true, at: "now" };
  const foreign = await wait.createToken({});
  await as(server, token.publicAccessToken, async () => {
    assert.deepEqual(await wait.completeToken(token.id, data), { success: true });
    assert.deepEqual(await wait.completeToken(token.id, { other: true }), { success: true }, "a second time, without effect");
    assert.equal((await errorOf(wait.completeToken(foreign.id, data))).status, 403);
  });
  const done = await wait.retrieveToken(token.id);
  assert.deepEqual([done.status, done.output], ["COMPLETED", data]);
  const listed = async (filter) => ids(wait.listTokens({ tags: [key], limit: 1, ...filter }));
  assert.deepEqual(await listed({}), [token.id]);
  assert.deepEqual(await listed({ status: "COMPLETED", idempotencyKey: key, period: "1h" }), [token.id]);
  assert.deepEqual(await listed({ status: ["WAITING", "TIMED_OUT"] }), []);
  assert.deepEqual(await listed({ from: new Date(Date.now() + 3_600_000) }), []);
});

test("tokens are listed forward and back", async () => {
  const tag = unique("page");
  const made = [];
  for (let i = 0; i < 3; i += 1) made.unshift((await wait.createToken({ tags: [tag] })).id);
  assert.deepEqual(await ids(wait.listTokens({ tags: [tag], limit: 2 })), made);
  const second = await (await wait.listTokens({ tags: [tag], limit: 2 })).getNextPage();
  assert.deepEqual((await second.getPreviousPage()).data.map((token) => token.id), made.slice(0, 2));
});

test("another service completes a token by its URL alone", async () => {
  const token = await wait.createToken({});
  const answer = await fetch(token.url, { method: "POST", body: '{"prediction":1}', headers: { "content-type": "application/json" } });
  assert.deepEqual([answer.status, await answer.json()], [200, { success: true }]);
  const done = await wait.retrieveToken(token);
  assert.deepEqual([done.status, done.output], ["COMPLETED", { prediction: 1 }]);
  const forged = await fetch(token.url.slice(0, -2), { method: "POST", body: "{}" });
  assert.equal(forged.status, 401);
  const other = await wait.createToken({});
  const moved = token.url.replace(token.id, other.id);
  assert.equal((await fetch(moved, { method: "POST", body: "{}" })).status, 403, "it completes one token and no other");
});

test("a token for one trigger triggers once, and reads as often as it may", async () => {
  for (const make of [
    () => auth.createTriggerPublicToken("task-once"),
    async () => (await new Client(server).call("POST", "/api/v1/auth/public-tokens", { json: { scopes: ["trigger:tasks:task-once"], oneTimeUse: true } })).body.token,
  ]) {
    const once = await make();
    const trigger = () => new Client(server, once).call("POST", "/api/v1/tasks/task-once/trigger", { json: {} });
    assert.equal((await new Client(server, once).call("GET", "/api/v1/sessions")).status, 403, "another route spends nothing");
    const answers = await Promise.all([trigger(), trigger(), trigger()]);
    assert.deepEqual(answers.map((answer) => answer.status).sort(), [200, 401, 401]);
    assert.deepEqual((await trigger()).body, { error: "Public Access Token is invalid" });
  }
  const many = await auth.createTriggerPublicToken("task-many", { multipleUse: true });
  await as(server, many, async () => {
    await tasks.trigger("task-many", {});
    await tasks.trigger("task-many", {});
    assert.equal((await errorOf(tasks.trigger("task-once", {}))).status, 403);
  });
});

test("a token carries its realtime options", async () => {
  const json = { scopes: ["read:runs"], realtime: { skipColumns: ["payload"] } };
  const made = await new Client(server).call("POST", "/api/v1/auth/public-tokens", { json });
  const claims = JSON.parse(Buffer.from(made.body.token.split(".")[1], "base64url"));
  assert.deepEqual(claims.realtime, json.realtime);
  assert.equal((await new Client(server, made.body.token).call("GET", "/api/v3/runs/run_nowhere")).status, 404);
});

test("a branch that is not there is not mistaken for the environment", async () => {
  const call = (branch) => new Client(server).call("GET", "/api/v1/runs", { headers: { "x-trigger-branch": branch } });
  assert.equal((await call("default")).status, 200);
  const refused = await call("feature");
  assert.deepEqual([refused.status, refused.body], [401, { error: "No matching branch env" }]);
});
