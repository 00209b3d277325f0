// `.in` as a task reads it from inside its run: handlers, single records, and waits that suspend the run.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Client } from "../support/http.mjs";
import { enterProcess, insideSession } from "../support/run-context.mjs";
import { errorOf, sessions } from "../support/sdk.mjs";
import { startServer } from "../support/server.mjs";

let server;
let client;
before(async () => {
  server = await startServer("serve");
  client = new Client(server);
});
after(() => server?.stop());

const inside = (fn, options) => insideSession(server, client, fn, options);
const message = (n) => ({ kind: "message", payload: { n } });

/** Sends from outside the run, one after the other. */
async function say(session, ...numbers) {
  for (const n of numbers) {
    const answer = await client.append(session, "in", JSON.stringify(message(n)));
    assert.equal(answer.status, 200, answer.text);
  }
}

/** Sends once the run is suspended. */
const sayToSleeper = async (run, session, ...numbers) => (await client.whenRun(run, "WAITING"), say(session, ...numbers));

/** What a handler was given, and when it was enough. */
function collector(wanted) {
  const seen = [];
  let enough;
  const done = new Promise((resolve) => (enough = resolve));
  const handler = (record) => void (seen.push(record), seen.length === wanted && enough());
  return { seen, done, handler };
}

test("on is given what was said before and what is said after, in order, until off", async () => {
  await inside(async ({ created }) => {
    const channel = sessions.open(created.id).in;
    await say(created.id, 1, 2);
    const { seen, done, handler } = collector(4);
    const subscription = channel.on(handler);
    await say(created.id, 3, 4);
    await done;
    assert.deepEqual(seen, [1, 2, 3, 4].map(message));
    subscription.off();
    const next = collector(5);
    channel.on(next.handler);
    await say(created.id, 5);
    await next.done;
    assert.equal(seen.length, 4, "a handler that is off sees nothing");
  });
});

test("a handler that says true consumes the record", async () => {
  await inside(async ({ created }) => {
    const channel = sessions.open(created.id).in;
    const taken = [];
    channel.on((record) => record.payload.n < 3 && taken.push(record.payload.n) > 0);
    await say(created.id, 1, 2, 3);
    assert.deepEqual(await channel.once({ timeoutMs: 10_000 }), { ok: true, output: message(3) });
    assert.deepEqual(taken, [1, 2]);
    assert.equal(channel.lastDispatchedSeqNum(), 2);
  });
});

test("once gives one record, at its time or too late", async () => {
  await inside(async ({ created }) => {
    const channel = sessions.open(created.externalId ?? created.id).in;
    const late = await channel.once({ timeoutMs: 100 });
    assert.equal(late.ok, false);
    assert.equal(late.error.name, "InputStreamTimeoutError");
    const first = channel.once({ timeoutMs: 10_000 });
    await say(created.id, 1, 2);
    assert.deepEqual(await first.unwrap(), message(1));
    assert.deepEqual(await channel.once({ timeoutMs: 10_000 }).unwrap(), message(2));
  });
});

test("text that is no JSON arrives as it is", async () => {
  await inside(async ({ created }) => {
    const channel = sessions.open(created.id).in;
    for (const text of ["plain text", "straße 😀", "{ not json"]) {
      await client.append(created.id, "in", text);
      assert.equal(await channel.once({ timeoutMs: 10_000 }).unwrap(), text);
    }
  });
});

test("peek looks at what has arrived and takes nothing", async () => {
  await inside(async ({ created }) => {
    const channel = sessions.open(created.id).in;
    assert.equal(channel.peek(), undefined);
    await say(created.id, 1, 2);
    const { done, handler } = collector(2);
    channel.on(handler).off();
    channel.on(handler);
    await done;
    assert.deepEqual(channel.peek(), message(1));
    assert.deepEqual(channel.peek(), message(1));
    assert.deepEqual(await channel.once({ timeoutMs: 0 }), { ok: true, output: message(1) });
    assert.deepEqual(channel.peek(), message(2));
  });
});

test("wait suspends the run until the next record and reads it", async () => {
  await inside(async ({ created, ctx }) => {
    const channel = sessions.open(created.id).in;
    for (const n of [1, 2, 3]) {
      const sending = sayToSleeper(ctx.run.id, created.id, n);
      assert.deepEqual(await channel.wait({ timeout: "1m" }), { ok: true, output: message(n) });
      await sending;
      assert.equal(channel.lastDispatchedSeqNum(), n - 1);
      await client.whenRun(ctx.run.id, "EXECUTING");
    }
  });
});

test("wait returns at once with a record that is there already", async () => {
  await inside(async ({ created }) => {
    await say(created.id, 1, 2);
    const channel = sessions.open(created.id).in;
    assert.deepEqual(await channel.wait().unwrap(), message(1));
    assert.deepEqual(await channel.wait().unwrap(), message(2));
  });
});

test("what is said while the run sleeps is read one by one, none lost", async () => {
  await inside(async ({ created, ctx }) => {
    const channel = sessions.open(created.id).in;
    const sending = sayToSleeper(ctx.run.id, created.id, 1, 2, 3);
    assert.deepEqual(await channel.wait().unwrap(), message(1));
    await sending;
    assert.deepEqual(await channel.wait().unwrap(), message(2));
    assert.deepEqual(await channel.once({ timeoutMs: 10_000 }).unwrap(), message(3));
  });
});

test("a wait that times out says so, and the run goes on", async () => {
  await inside(async ({ created }) => {
    const channel = sessions.open(created.id).in;
    const answer = await channel.wait({ timeout: "1s" });
    assert.equal(answer.ok, false);
    assert.equal(answer.error.name, "WaitpointTimeoutError");
    assert.match(answer.error.message, /^Waitpoint timed out at \d{4}-/);
    assert.equal((await errorOf(channel.wait({ timeout: "1s" }).unwrap())).name, "WaitpointTimeoutError");
    await say(created.id, 1);
    assert.deepEqual(await channel.wait().unwrap(), message(1));
  });
});

test("wait by the session's name", async () => {
  await inside(
    async ({ created, ctx }) => {
      const sending = sayToSleeper(ctx.run.id, created.id, 7);
      assert.deepEqual(await sessions.open(created.externalId).in.wait().unwrap(), message(7));
      await sending;
    },
    { body: { externalId: "wait by / name" } },
  );
});

test("the options of a wait: its tags and its key", async () => {
  await inside(async ({ created, ctx }) => {
    const sending = sayToSleeper(ctx.run.id, created.id, 1);
    const options = { timeout: "1h", tags: ["approval"], idempotencyKey: `key ${created.id}`, idempotencyKeyTTL: "1h" };
    await sessions.open(created.id).in.wait(options).unwrap();
    await sending;
    const { body } = await client.call("GET", "/api/v1/waitpoints/tokens");
    const [waitpoint] = body.data.filter((item) => item.idempotencyKey === options.idempotencyKey);
    assert.deepEqual(waitpoint.tags, ["approval"]);
    assert.equal(waitpoint.status, "COMPLETED");
  });
});

test("waitWithIdleTimeout stays awake first, then sleeps", async () => {
  await inside(async ({ created, ctx }) => {
    const channel = sessions.open(created.id).in;
    const calls = [];
    const options = {
      idleTimeoutInSeconds: 10,
      timeout: "1m",
      onSuspend: () => void calls.push("suspend"),
      onResume: () => void calls.push("resume"),
    };
    const warm = channel.waitWithIdleTimeout(options);
    await say(created.id, 1);
    assert.deepEqual(await warm, { ok: true, output: message(1) });
    assert.deepEqual(calls, []);

    const sending = sayToSleeper(ctx.run.id, created.id, 2);
    const cold = await channel.waitWithIdleTimeout({ ...options, idleTimeoutInSeconds: 1 });
    await sending;
    assert.deepEqual(cold, { ok: true, output: message(2) });
    assert.deepEqual(calls, ["suspend", "resume"]);

    const skipped = await channel.waitWithIdleTimeout({ ...options, idleTimeoutInSeconds: 1, skipSuspend: true });
    assert.equal(skipped.error.name, "WaitpointTimeoutError");
    assert.equal((await client.whenRun(ctx.run.id, "EXECUTING")).status, "EXECUTING");
  });
});

test("a named channel is read by a run, and waits on it are refused by the SDK", async () => {
  const tools = sessions.defineChannel("tools");
  await inside(async ({ created }) => {
    const channel = sessions.open(created.id).channel(tools).in;
    const first = channel.once({ timeoutMs: 10_000 });
    await channel.send({ tool: "search" });
    await say(created.id, 1);
    assert.deepEqual(await first.unwrap(), { tool: "search" });
    assert.deepEqual(await sessions.open(created.id).in.once({ timeoutMs: 10_000 }).unwrap(), message(1), "each its own");
    assert.match((await errorOf(channel.wait())).message, /is not supported: a named side channel does not wake a run/);
    const idle = channel.waitWithIdleTimeout({ idleTimeoutInSeconds: 1, timeout: "1m" });
    assert.match((await errorOf(idle)).message, /is not supported/);
  });
});

test("a handler goes on after the server was killed and came back, without gap or repeat", async () => {
  const created = await client.createSession();
  const { streams } = enterProcess(server);
  const { seen, done, handler } = collector(4);
  sessions.open(created.id).in.on(handler);
  await say(created.id, 1, 2);
  await server.restart("SIGKILL");
  await say(created.id, 3, 4);
  await done;
  streams.reset();
  assert.deepEqual(seen, [1, 2, 3, 4].map(message));
});

test("outside of a run there is no wait", async () => {
  const error = await errorOf(sessions.open("nowhere").in.wait());
  assert.match(error.message, /can only be used from inside a task/);
});
