// `wait` of a task: for a time, on a token, and the tokens themselves, through the published SDK inside a run.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Client, unique } from "../support/http.mjs";
import { insideNextRun, insideSession } from "../support/run-context.mjs";
import { as, errorOf, requestsOf, runs, tasks, use, wait } from "../support/sdk.mjs";
import { startServer } from "../support/server.mjs";
import { within } from "../support/wait.mjs";
import { Worker } from "../support/worker.mjs";

let server;
let client;
before(async () => {
  server = await startServer("serve");
  client = new Client(server);
});
after(() => server?.stop());

const inside = (fn, options) => insideSession(server, client, fn, options);

test("wait.for suspends the run for a time; with the same key the wait is over already", async () => {
  await inside(async ({ ctx }) => {
    const options = { idempotencyKey: unique("nap"), idempotencyKeyTTL: "1h" };
    const before = Date.now();
    const waking = wait.for({ seconds: 6, ...options });
    await client.whenRun(ctx.run.id, "WAITING");
    await waking;
    assert.ok(Date.now() - before >= 6_000, "not too early");
    await client.whenRun(ctx.run.id, "EXECUTING");
    await within(wait.for({ hours: 1, ...options }), "the end of a wait that is over");
    await within(wait.until({ ...options, date: new Date(Date.now() + 3_600_000) }), "the end of a wait that is over");
  });
});

test("wait.createToken makes a token that whoever holds it may complete", async () => {
  await inside(async () => {
    const options = { timeout: "1h", idempotencyKey: unique("approval"), idempotencyKeyTTL: "10m", tags: ["a", "b"] };
    const token = await wait.createToken(options);
    assert.match(token.id, /^waitpoint_/);
    assert.equal(token.isCached, false);
    assert.ok(token.url.startsWith(server.url), token.url);
    const again = await wait.createToken(options);
    assert.deepEqual([again.id, again.isCached], [token.id, true]);

    const waiting = await wait.retrieveToken(token);
    assert.equal(waiting.status, "WAITING");
    assert.deepEqual(waiting.tags, ["a", "b"]);
    assert.equal(waiting.idempotencyKey, options.idempotencyKey);
    assert.ok(waiting.idempotencyKeyExpiresAt instanceof Date && waiting.timeoutAt instanceof Date);

    const other = await wait.createToken();
    await as(server, token.publicAccessToken, async () => {
      assert.equal((await errorOf(wait.completeToken(other, {}))).status, 403, "its own only");
      assert.deepEqual(await wait.completeToken(token, { yes: true }), { success: true });
    });
    const done = await wait.retrieveToken(token.id);
    assert.equal(done.status, "COMPLETED");
    assert.deepEqual(done.output, { yes: true });
    assert.ok(done.completedAt instanceof Date);
  });
});

test("wait.forToken sleeps until the token is completed, and has its data", async () => {
  await inside(async ({ ctx }) => {
    for (const data of [{ status: "approved", emoji: "😀" }, "text", [1, null], null]) {
      const token = await wait.createToken({ timeout: "1h" });
      const completing = client.whenRun(ctx.run.id, "WAITING").then(() => wait.completeToken(token, data));
      assert.deepEqual(await wait.forToken(token), { ok: true, output: data });
      await completing;
      await client.whenRun(ctx.run.id, "EXECUTING");
    }
  });
});

test("wait.forToken of a token that is complete goes on at once; the first completion counts", async () => {
  await inside(async () => {
    const token = await wait.createToken();
    await wait.completeToken(token, { n: 1 });
    assert.deepEqual(await wait.completeToken(token.id, { n: 2 }), { success: true });
    assert.deepEqual(await wait.forToken(token.id).unwrap(), { n: 1 });
    assert.deepEqual(await wait.forToken(token.id).unwrap(), { n: 1 }, "as often as one likes");
  });
});

test("a token that nobody completes times out with an error", async () => {
  await inside(async () => {
    const token = await wait.createToken({ timeout: "1s" });
    const answer = await wait.forToken(token);
    assert.equal(answer.ok, false);
    assert.equal(answer.error.name, "WaitpointTimeoutError");
    const seen = await wait.retrieveToken(token);
    assert.equal(seen.status, "TIMED_OUT");
    assert.match(seen.error.message, /^Waitpoint timed out at /);
    assert.equal(seen.output, undefined);
  });
});

test("a token that is not there is a 404", async () => {
  await inside(async () => {
    const calls = [() => wait.retrieveToken("waitpoint_none"), () => wait.completeToken("waitpoint_none", {}), () => wait.forToken("waitpoint_none")];
    for (const call of calls) {
      const { result: error, sent } = await requestsOf(() => errorOf(call()));
      assert.deepEqual([error.status, sent], [404, 1], String(call));
    }
  });
});

test("wait.listTokens walks the pages, newest first", async () => {
  await inside(async () => {
    const made = [];
    for (let n = 0; n < 5; n += 1) made.unshift((await wait.createToken({ tags: [`n${n}`] })).id);
    const listed = [];
    for await (const token of wait.listTokens({ limit: 2 })) listed.push(token);
    assert.deepEqual(listed.slice(0, 5).map(({ id }) => id), made);
    assert.deepEqual(listed[0].tags, ["n4"]);
    assert.equal(listed[0].status, "WAITING");
    assert.ok(listed[0].createdAt instanceof Date);
  });
});

test("tasks.triggerAndWait suspends the run until its child is over, and tells how it ended", async () => {
  use(server);
  const [parentTask, childTask] = [unique("parent"), unique("child")];
  const worker = await Worker.start(server, [parentTask, childTask]);
  try {
    const { id } = await tasks.trigger(parentTask, {});
    await insideNextRun(server, worker, async () => {
      const waiting = tasks.triggerAndWait(childTask, { n: 20 }, { tags: ["child"] });
      const child = await worker.take();
      await client.whenRun(id, "WAITING");
      const seen = await runs.retrieve(child.run.id);
      assert.deepEqual([seen.triggerFunction, seen.relatedRuns.parent.id, seen.tags], ["triggerAndWait", id, ["child"]]);
      worker.complete(child, { doubled: 40 });
      const result = await within(waiting, "the child's result");
      assert.deepEqual([result.ok, result.id, result.output], [true, child.run.id, { doubled: 40 }]);
      await client.whenRun(id, "EXECUTING");

      const failing = tasks.triggerAndWait(childTask, {});
      worker.fail(await worker.take(), { name: "TypeError", message: "boom" });
      const failed = await within(failing, "the child's failure");
      assert.deepEqual([failed.ok, failed.error.name, failed.error.message], [false, "TypeError", "boom"]);
    });
  } finally {
    await worker.stop();
  }
});
