// A conversation with the demo agent through the published SDK.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Client, sessionBody, unique } from "../support/http.mjs";
import { startProxy } from "../support/proxy.mjs";
import { as, errorOf, readTurn, requestsOf, sessions, use } from "../support/sdk.mjs";
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

test("in.send of every kind of value", async () => {
  const { id } = await sessions.start(sessionBody({ taskIdentifier: "nobody" }));
  const values = ["", "text", "\u0000 ü 😀\r\n", { a: [1, null] }, { half: "\ud83d" }, [1], 7, null, true];
  for (const value of values) await sessions.open(id).in.send(value);
  const got = (await client.records(id, "in")).map(({ data }) => data);
  assert.deepEqual(got, values.map((value) => (typeof value === "string" ? value : JSON.stringify(value))));
});

test("an answer that is lost on the way makes no second record", async () => {
  const proxy = await startProxy(server);
  const { id } = await start();
  try {
    for (const channel of [undefined, "tools"]) {
      const handle = channel === undefined ? sessions.open(id) : sessions.open(id).channel(channel);
      const lost = proxy.loseAnswerTo("/in/append");
      const { sent } = await requestsOf(() => as(proxy, server.key, () => handle.in.send({ once: channel ?? "reserved" })));
      assert.deepEqual([lost(), sent], [1, 2], "it was tried again");
      assert.equal((await client.records(id, "in", { name: channel })).length, 1);
      await as(proxy, server.key, () => handle.in.send({ once: channel ?? "reserved" }));
      assert.equal((await client.records(id, "in", { name: channel })).length, 2, "another call is another record");
    }
  } finally {
    await proxy.stop();
  }
});

test("a message that can never be taken is refused at once", async () => {
  const { id } = await start();
  const closed = await start();
  await sessions.close(closed.id);
  const cases = [
    [413, /Request body too large|exceeds/, () => sessions.open(id).in.send("x".repeat(1_100_000))],
    [400, /Cannot append to a closed session/, () => sessions.open(closed.id).channel("tools").in.send("x")],
    [404, /Resource not found/, () => sessions.open("session_nowhere").in.send("x")],
  ];
  for (const [status, message, call] of cases) {
    const { result: error, sent } = await requestsOf(() => errorOf(call()));
    assert.deepEqual([error.status, sent], [status, 1], String(error));
    assert.match(error.message, message);
  }
});

test("out.read tells chunks and control records apart, and stops when it is told", async () => {
  const { id } = await start();
  await readTurn(id, { inSeqNum: await send(id, say("control me")) });
  const parts = [];
  const controls = [];
  const abort = new AbortController();
  const options = { signal: abort.signal, onPart: (part) => parts.push(part), onControl: (event) => (controls.push(event), abort.abort()) };
  const chunks = [];
  for await (const chunk of await sessions.open(id).out.read(options)) chunks.push(chunk);
  assert.deepEqual(controls.map(({ subtype }) => subtype), ["turn-complete"]);
  const [{ seqNum, headers }] = controls;
  assert.equal(headers[0].join(), "trigger-control,turn-complete");
  assert.equal(String(seqNum), parts.at(-1).id);
  assert.equal(chunks.at(-1).type, "finish");

  const after = Number(parts.at(-3).id);
  const rest = [];
  const again = new AbortController();
  for await (const chunk of await sessions.open(id).out.read({ lastEventId: after, signal: again.signal, onControl: () => again.abort() })) rest.push(chunk);
  assert.deepEqual(rest, chunks.slice(-1), "a number resumes as its text does");
});

test("out.read ends by itself when nothing comes, and says so", async () => {
  const { id } = await start();
  let completed = 0;
  const stream = await sessions.open(id).channel("quiet").out.read({ timeoutInSeconds: 1, onComplete: () => (completed += 1) });
  for await (const chunk of stream) assert.fail(JSON.stringify(chunk));
  assert.equal(completed, 1);
});

test("out.read of what one may not read fails at once", async () => {
  const [mine, other] = await Promise.all([start(), start()]);
  for (const [status, id, token] of [[403, mine.id, other.publicAccessToken], [401, mine.id, "tr_dev_wrong"], [404, "session_nowhere", server.key]]) {
    const { result: error, sent } = await requestsOf(() => errorOf(as(server, token, () => firstChunk(sessions.open(id).out))));
    assert.deepEqual([error.status, sent], [status, 1], String(error));
  }
});

test("both sides of a named channel are read by who may", async () => {
  const { id, externalId, publicAccessToken } = await start();
  const tools = sessions.defineChannel("tools");
  await sessions.open(id).channel(tools).in.send({ ask: 1 });
  await client.append(id, "out", "told", { name: tools.name });
  assert.equal(await firstChunk(sessions.open(externalId).channel(tools).out), "told");
  const side = await as(server, publicAccessToken, () => firstChunk(sessions.open(id).channel(tools).out));
  assert.equal(side, "told", "the session's own token opens its channels");
});

async function firstChunk(channel) {
  const abort = new AbortController();
  for await (const chunk of await channel.read({ signal: abort.signal })) {
    abort.abort();
    return chunk;
  }
}
