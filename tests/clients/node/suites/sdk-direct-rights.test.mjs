// Who may write to a channel directly, how long, and where: keys, runs, browsers, through the SDK and its stream client.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { apiClientManager } from "@trigger.dev/core/v3";
import { Client, sessionBody, unique } from "../support/http.mjs";
import { as, errorOf, requestsOf, sessions, use } from "../support/sdk.mjs";
import { startServer } from "../support/server.mjs";
import { source } from "../support/source.mjs";
import { credentials, input, open, S2Error } from "../support/stream.mjs";
import { until } from "../support/wait.mjs";
import { Worker } from "../support/worker.mjs";

let server;
let client;
before(async () => {
  use((server = await startServer("serve")));
  client = new Client(server);
});
after(() => server?.stop());

/** A session that nobody serves. */
const start = () => sessions.start(sessionBody({ externalId: unique("direct"), taskIdentifier: "nobody" }));
const values = async (session) => (await client.records(session, "out")).map(({ data }) => data);

test("nothing begins on a closed session, and what has begun may finish", async () => {
  const { id } = await start();
  const channel = sessions.open(id).out;
  await channel.append("in time");
  await sessions.close(id);
  await channel.append("the last words");
  assert.deepEqual(await values(id), ["in time", "the last words"]);
  const fresh = sessions.open(id).out;
  for (const call of [() => fresh.append("too late"), () => fresh.writeControl("turn-complete"), () => fresh.trimTo(1)]) {
    const { result: error, sent } = await requestsOf(() => errorOf(call()));
    assert.deepEqual([error.status, sent], [400, 1], String(error));
  }
});

test("who may not write .out is told so at once", async () => {
  const { id, publicAccessToken } = await start();
  const cases = [[403, id, publicAccessToken], [401, id, "tr_dev_wrong"], [404, "session_nowhere", server.key], [404, unique("nowhere"), server.key]];
  for (const [status, session, token] of cases) {
    const { result: error, sent } = await requestsOf(() => errorOf(as(server, token, () => sessions.open(session).out.append("x"))));
    assert.deepEqual([error.status, sent], [status, 1], String(error));
  }
  assert.deepEqual(await values(id), []);
});

test("a credential opens its one stream", async () => {
  const [mine, other] = await Promise.all([start(), start()]);
  const api = apiClientManager.clientOrThrow();
  const { version, headers } = await api.initializeSessionStream(mine.id, "out");
  assert.equal(version, "v2");
  assert.match(headers["x-s2-basin"], /^[a-z0-9][a-z0-9-]{6,46}[a-z0-9]$/);
  assert.ok(Number(headers["x-s2-flush-interval-ms"]) > 0 && Number(headers["x-s2-max-retries"]) > 0);
  const own = await credentials(client, mine.id, "out");
  const foreign = await credentials(client, other.id, "out");
  const side = await credentials(client, mine.id, "out", { name: "tools" });
  await open(own).append(input(["mine"]));
  for (const { stream } of [foreign, side, await credentials(client, mine.id, "in")]) {
    const error = await errorOf(open({ ...own, stream }).append(input(["not mine"])));
    assert.ok(error instanceof S2Error && error.status === 403, String(error));
  }
  const { status } = await client.call("GET", `/api/v1/sessions/${mine.id}`, { token: own.token });
  assert.equal(status, 403, "nor any route");
});

test("a browser's credential for .in appends as in.send does, and no more", async () => {
  const worker = await Worker.start(server);
  const { id, runId, publicAccessToken } = await client.createSession({ taskIdentifier: worker.task });
  assert.equal((await worker.take()).run.id, runId);
  await client.call("POST", `/api/v2/runs/${runId}/cancel`);
  const stream = open(await credentials(new Client(server, publicAccessToken), id, "in"));
  const body = JSON.stringify({ data: '{"kind":"message","payload":{"actionSource":"webhook","n":1}}', id: "part" });
  await stream.append(input([body]));
  const [{ data }] = await client.records(id, "in");
  assert.deepEqual(JSON.parse(data), { kind: "message", payload: { n: 1 } }, "the mark of a trusted sender is taken off");
  assert.notEqual((await worker.take()).run.id, runId, "it woke the session");
  await worker.stop();
  await sessions.close(id);
  const error = await errorOf(stream.append(input([body])));
  assert.ok(error instanceof S2Error && error.status === 409, String(error));
});

test("a run that was superseded writes no more, its last control record aside", async () => {
  const worker = await Worker.start(server);
  const { id } = await client.createSession({ taskIdentifier: worker.task });
  const first = await worker.take();
  const channel = sessions.open(id).out;
  const { stream, write, close } = source();
  const writing = await as(server, first.run_token, async () => channel.pipe(stream));
  write("while it was mine");
  await until(async () => (await values(id)).length === 1, "the first chunk");

  const swap = { callingRunId: first.run.id, reason: "upgrade" };
  const { runId } = await apiClientManager.clientOrThrow().endAndContinueSession(id, swap);
  const second = await worker.take();
  assert.equal(second.run.id, runId);
  write("no longer");
  close();
  const error = await errorOf(writing.waitUntilComplete());
  assert.match(String(error), /fenc/i);
  assert.deepEqual(await values(id), ["while it was mine"]);
  await as(server, first.run_token, () => channel.writeControl("upgrade-required"));
  await as(server, second.run_token, () => sessions.open(id).out.append("mine now"));
  assert.deepEqual(await values(id), ["while it was mine", "", "mine now"]);
  const late = await errorOf(as(server, first.run_token, () => sessions.open(id).out.append("me again")));
  assert.ok(late instanceof Error);
  assert.deepEqual(await values(id), ["while it was mine", "", "mine now"]);
  await worker.stop();
});

test("a run's own token writes its own session and no other", async () => {
  const worker = await Worker.start(server);
  const mine = await client.createSession({ taskIdentifier: worker.task });
  const { run_token: token } = await worker.take();
  const other = await start();
  await as(server, token, async () => {
    const { out } = sessions.open(mine.id);
    await out.append("hello");
    await out.writeControl("turn-complete");
    await out.trimTo(0);
    await sessions.open(mine.id).channel("tools").out.append("hello");
    assert.equal((await errorOf(sessions.open(other.id).out.append("x"))).status, 403);
  });
  assert.deepEqual(await values(mine.id), ["hello", ""]);
  assert.deepEqual(await values(other.id), []);
  await worker.stop();
});
