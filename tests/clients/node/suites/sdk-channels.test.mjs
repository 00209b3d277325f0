// A conversation with the demo agent through the published SDK.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Client, sessionBody, unique } from "../support/http.mjs";
import { as, readTurn, sessions, use } from "../support/sdk.mjs";
import { startServer } from "../support/server.mjs";

let server;
let client;
before(async () => {
  use((server = await startServer("dev")));
  client = new Client(server);
});
after(() => server?.stop());

const start = () => sessions.start(sessionBody({ externalId: unique("talk") }));
const say = (text) => ({ kind: "message", payload: { message: text, trigger: "submit-message" } });

/** Sends and gives back the number of the record. */
async function send(session, value) {
  await sessions.open(session).in.send(value);
  return (await client.records(session, "in")).at(-1).seqNum;
}

test("a record on .in is the text that was sent, with the SDK's part id", async () => {
  const { id } = await start();
  const handle = sessions.open(id);
  await handle.in.send("plain text");
  await handle.in.send({ kind: "stop" });
  const [first, second] = await client.records(id, "in");
  assert.equal(first.data, "plain text");
  assert.equal(second.data, '{"kind":"stop"}', "an object travels as its JSON text");
  assert.equal(first.seqNum, 0);
  assert.equal(second.seqNum, 1);
  assert.match(first.id, /^.{21}$/);
  assert.notEqual(first.id, second.id);
});

test("the agent answers, chunk by chunk, and says which message it answered", async () => {
  const { externalId } = await start();
  const sent = await send(externalId, say("hello there"));
  const turn = await readTurn(externalId, { inSeqNum: sent });
  assert.match(turn.text, /You said: “hello there”/);
  assert.equal(turn.chunks[0].type, "start");
  assert.equal(turn.chunks.at(-1).type, "finish");
});

test("reading resumes after the last id that was seen, without gap or repeat", async () => {
  const { id } = await start();
  const sent = await send(id, say("resume me"));
  const whole = await readTurn(id, { inSeqNum: sent });
  assert.ok(whole.ids.length > 10);
  for (const cut of [0, 1, Math.floor(whole.ids.length / 2), whole.ids.length - 2]) {
    const rest = await readTurn(id, { inSeqNum: sent, lastEventId: whole.ids[cut] });
    assert.deepEqual(rest.ids, whole.ids.slice(cut + 1), `after ${whole.ids[cut]}`);
    assert.deepEqual(rest.chunks, whole.chunks.slice(cut + 1));
  }
});

test("a reader that comes before the message sees the answer live", async () => {
  const { id } = await start();
  const reading = readTurn(id);
  await sessions.open(id).in.send(say("early bird"));
  assert.match((await reading).text, /early bird/);
});

test("one turn after the other, each to its own message", async () => {
  const { id } = await start();
  let lastEventId;
  for (const text of ["one", "two", "three"]) {
    const sent = await send(id, say(text));
    const turn = await readTurn(id, { inSeqNum: sent, lastEventId });
    assert.match(turn.text, new RegExp(`You said: “${text}”`));
    lastEventId = turn.control.seqNum;
  }
});

test("when the run was cancelled the next message is answered by a new one", async () => {
  const { id, runId } = await start();
  const first = await readTurn(id, { inSeqNum: await send(id, say("first")) });
  const canceled = await client.call("POST", `/api/v2/runs/${runId}/cancel`);
  assert.equal(canceled.status, 200, canceled.text);
  const sent = await send(id, say("second"));
  const second = await readTurn(id, { inSeqNum: sent, lastEventId: first.control.seqNum });
  assert.match(second.text, new RegExp(`took over from .*${runId}`));
  const { currentRunId } = await sessions.retrieve(id);
  assert.notEqual(currentRunId, runId);
  const audit = await client.call("GET", `/api/v1/sessions/${id}/runs`);
  assert.equal(audit.status, 200, audit.text);
  const runs = audit.body.data;
  assert.deepEqual(runs.map((run) => run.reason), ["initial", "continuation"]);
});

test("reading .out ends by itself after the time limit", async () => {
  const { id } = await start();
  const stream = await sessions.open(id).out.read({ timeoutInSeconds: 1 });
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  assert.deepEqual(chunks, []);
});

test("a settled turn ends at once when the client asks", async () => {
  const { id, publicAccessToken } = await start();
  await readTurn(id, { inSeqNum: await send(id, say("settle")) });
  const browser = new Client(server, publicAccessToken);
  const answer = await browser.fetch("GET", `/realtime/v1/sessions/${id}/out`, {
    headers: { "x-peek-settled": "1", "timeout-seconds": "600" },
    signal: AbortSignal.timeout(10_000),
  });
  assert.equal(answer.headers.get("x-session-settled"), "true");
  assert.match(await answer.text(), /turn-complete/);
});

test("a named channel carries records without waking the run", async () => {
  const { id } = await start();
  const before = await client.records(id, "in");
  await sessions.open(id).channel("tools").in.send({ tool: "search" });
  const [record] = await client.records(id, "in", { name: "tools" });
  assert.equal(record.data, '{"tool":"search"}');
  assert.deepEqual(await client.records(id, "in"), before, "the reserved pair is another");
});

test("the session's own token sends and reads, and nothing else", async () => {
  const { id, externalId, publicAccessToken } = await start();
  await as(server, publicAccessToken, async () => {
    await sessions.open(externalId).in.send(say("from the browser"));
    const turn = await readTurn(id);
    assert.match(turn.text, /from the browser/);
  });
});
