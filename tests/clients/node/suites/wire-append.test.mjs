// The append endpoint and the drain of records, byte by byte.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Client, channelPath, unique } from "../support/http.mjs";
import { startServer } from "../support/server.mjs";
import { scoped } from "../support/tokens.mjs";

const RECORD_BYTES_MAX = 1_048_576;
// `{"data":"","id":"p"}` and the record's own 8 bytes.
const ENVELOPE_BYTES = 28;

let server;
let client;
before(async () => (client = new Client((server = await startServer("serve")))));
after(() => server?.stop());

const session = async (more) => (await client.createSession(more)).id;
const cancelRun = async (id) => {
  const { body } = await client.call("GET", `/api/v1/sessions/${id}`);
  const canceled = await client.call("POST", `/api/v2/runs/${body.currentRunId}/cancel`);
  assert.equal(canceled.status, 200, canceled.text);
  return body.currentRunId;
};
const runsOf = async (id) => {
  const { body } = await client.call("GET", `/api/v1/sessions/${id}/runs`);
  return body.data;
};

test("an append answers with its number and the record is there", async () => {
  const id = await session();
  for (const [seq, text] of ["one", "two", '{"three":3}'].entries()) {
    const { status, body } = await client.append(id, "in", text);
    assert.equal(status, 200);
    assert.deepEqual(body, { ok: true, seq });
  }
  const records = await client.records(id, "in");
  assert.deepEqual(records.map((r) => [r.seqNum, r.data]), [[0, "one"], [1, "two"], [2, '{"three":3}']]);
  assert.deepEqual((await client.records(id, "in", { after: 1 })).map((r) => r.seqNum), [2]);
  assert.deepEqual(await client.records(id, "in", { after: 2 }), []);
  assert.deepEqual(await client.records(id, "in", { after: 1_000 }), []);
});

test("text comes back as it went in", async () => {
  const id = await session();
  const texts = ['"quoted" \\ back', "line\nbreak\r\n\ttab", "straße 😀 \u2028 \u0007", "\u0000", " ", "null", "0", "{}", "[DONE]\n\nevent: x"];
  for (const text of texts) assert.equal((await client.append(id, "in", text)).status, 200, JSON.stringify(text));
  assert.deepEqual((await client.records(id, "in")).map((r) => r.data), texts);
});

test("a part id is kept in the record; without one the server makes it", async () => {
  const id = await session();
  await client.append(id, "in", "a", { partId: "part:with:colons/and more" });
  await client.append(id, "in", "b");
  const [first, second] = await client.records(id, "in");
  assert.equal(first.id, "part:with:colons/and more");
  assert.ok(second.id.length > 0);
});

test("the same part id again is the same record", async () => {
  const id = await session();
  const partId = unique("part");
  const first = await client.append(id, "in", "once", { partId });
  await client.append(id, "in", "between");
  const again = await client.append(id, "in", "once", { partId });
  assert.deepEqual(again.body, first.body);
  assert.equal((await client.records(id, "in")).length, 2);
});

test("the same part id many times at once is one record", async () => {
  const id = await session();
  const partId = unique("part");
  const answers = await Promise.all(Array.from({ length: 20 }, () => client.append(id, "in", "once", { partId })));
  assert.deepEqual(new Set(answers.map((a) => a.status)), new Set([200]));
  assert.deepEqual(new Set(answers.map((a) => a.body.seq)), new Set([0]));
  assert.equal((await client.records(id, "in")).length, 1);
});

test("a part id belongs to one channel of one session", async () => {
  const [one, two] = await Promise.all([session(), session()]);
  const partId = unique("part");
  for (const [id, io, name] of [[one, "in"], [one, "out"], [one, "in", "tools"], [one, "in", "tools.b"], [two, "in"]]) {
    const answer = await client.append(id, io, "same", { partId, name });
    assert.equal(answer.status, 200, answer.text);
    const own = (await client.records(id, io, { name })).filter((r) => r.id === partId);
    assert.equal(own.length, 1, `${id} ${io} ${name}`);
  }
});

test("a part id with another body is refused for good", async () => {
  const id = await session();
  const partId = unique("part");
  await client.append(id, "in", "first", { partId });
  const { status, body, headers } = await client.append(id, "in", "second", { partId });
  assert.equal(status, 409);
  assert.equal(body.ok, false);
  assert.equal(body.code, "part_id_reused");
  assert.equal(headers.get("x-should-retry"), "false");
  assert.deepEqual((await client.records(id, "in")).map((r) => r.data), ["first"]);
});

test("a repeat is answered after the close, a new record is not", async () => {
  const id = await session();
  const partId = unique("part");
  const first = await client.append(id, "in", "kept", { partId });
  await client.call("POST", `/api/v1/sessions/${id}/close`, { json: { reason: "bye" } });
  const again = await client.append(id, "in", "kept", { partId });
  assert.deepEqual([again.status, again.body], [200, first.body]);

  const { status, body, headers } = await client.append(id, "in", "late");
  assert.equal(status, 409);
  assert.deepEqual(body, { ok: false, error: "Cannot append to a closed session", code: "session_closed", closedReason: "bye" });
  assert.equal(headers.get("x-should-retry"), "false");
});

test("closed .out and named channels answer 400, an expired session too", async () => {
  const closed = await session();
  await client.call("POST", `/api/v1/sessions/${closed}/close`);
  for (const [io, name] of [["out"], ["in", "tools"], ["out", "tools"]]) {
    const { status, body } = await client.append(closed, io, "late", { name });
    assert.equal(status, 400, `${io} ${name}`);
    assert.deepEqual(body, { ok: false, error: "Cannot append to a closed session" });
  }
  const { id: expired } = await client.expiredSession();
  const { status, body } = await client.append(expired, "in", "late");
  assert.equal(status, 400);
  assert.deepEqual(body, { ok: false, error: "Cannot append to an expired session" });
});

test("closing leaves the wake record for the live run as the last one", async () => {
  const { id, externalId } = await client.createSession({ externalId: unique("wake") });
  await client.append(id, "in", "before");
  await client.call("POST", `/api/v1/sessions/${id}/close`, { json: { reason: "tired" } });
  const records = await client.records(id, "in");
  assert.deepEqual(JSON.parse(records.at(-1).data), {
    kind: "message",
    payload: { chatId: externalId, trigger: "close", closedReason: "tired" },
  });
  await client.call("POST", `/api/v1/sessions/${id}/close`, { json: { reason: "again" } });
  assert.equal((await client.records(id, "in")).length, records.length, "a second close writes nothing");
});

test("appends that race a close are in the stream, or refused, never half", async () => {
  const id = await session();
  const appends = Array.from({ length: 40 }, (_, i) => client.append(id, "in", `m${i}`));
  const close = client.call("POST", `/api/v1/sessions/${id}/close`);
  const answers = await Promise.all(appends);
  await close;
  const stored = new Map((await client.records(id, "in")).map((r) => [r.data, r.seqNum]));
  for (const [i, { status, body }] of answers.entries()) {
    assert.ok([200, 409].includes(status), `${status}`);
    assert.equal(stored.get(`m${i}`), status === 200 ? body.seq : undefined, `m${i}`);
  }
});

test("append never makes a session", async () => {
  for (const id of ["session_nowhere", unique("nowhere")]) {
    const { status, body } = await client.append(id, "in", "x");
    assert.equal(status, 404);
    assert.deepEqual(body, { error: "Resource not found" });
  }
});

test("a record at the limit is stored, one byte more is not", async () => {
  const id = await session();
  const longest = "x".repeat(RECORD_BYTES_MAX - ENVELOPE_BYTES);
  assert.equal((await client.append(id, "in", longest, { partId: "p" })).status, 200);
  assert.equal((await client.records(id, "in"))[0].data.length, longest.length);

  const over = await client.append(id, "in", `${longest}x`, { partId: "q", headers: { origin: "https://app.example" } });
  assert.equal(over.status, 413);
  assert.equal(over.body.ok, false);
  assert.equal(
    over.body.error,
    "Record metered size 1048577 bytes exceeds the S2 per-record limit of 1048576 bytes. Reduce tool-output size or split into smaller parts.",
  );
  assert.equal(over.headers.get("access-control-allow-origin"), "https://app.example");
  assert.equal((await client.records(id, "in")).length, 1);

  const escaped = '"'.repeat(Math.floor((RECORD_BYTES_MAX - ENVELOPE_BYTES) / 2) + 1);
  assert.equal((await client.append(id, "in", escaped, { partId: "r" })).status, 413, "what counts is the stored form");
});

test("a body over the cap is refused with and without its length", async () => {
  const id = await session();
  const body = "x".repeat(RECORD_BYTES_MAX + 1);
  const declared = await client.append(id, "in", body);
  assert.equal(declared.status, 413);
  assert.deepEqual(declared.body, { error: "Request body too large" });
  const chunked = await client.append(id, "in", new Blob([body]).stream());
  assert.equal(chunked.status, 413);
  assert.deepEqual(await client.records(id, "in"), []);
});

test("a body without its length is read", async () => {
  const id = await session();
  const { status } = await client.append(id, "in", new Blob(["in ", "pieces"]).stream());
  assert.equal(status, 200);
  assert.equal((await client.records(id, "in"))[0].data, "in pieces");
});

test("only the key may mark an action as a webhook's", async () => {
  const id = await session();
  const text = JSON.stringify({ kind: "message", payload: { trigger: "action", actionSource: "webhook", action: { a: 1 } } });
  const browser = new Client(server, await scoped(client, `write:sessions:${id}`));
  await browser.append(id, "in", text);
  await client.append(id, "in", text);
  const [forged, trusted] = (await client.records(id, "in")).map((r) => JSON.parse(r.data).payload);
  assert.deepEqual(forged, { trigger: "action", action: { a: 1 } });
  assert.equal(trusted.actionSource, "webhook");
});

test("input for a session whose run is over starts exactly one run", async () => {
  const id = await session();
  const old = await cancelRun(id);
  const answers = await Promise.all(Array.from({ length: 10 }, (_, i) => client.append(id, "in", `m${i}`)));
  assert.ok(answers.every((a) => a.status === 200));
  const runs = await runsOf(id);
  assert.deepEqual(runs.map((r) => r.reason), ["initial", "continuation"]);
  const { body } = await client.call("GET", `/api/v1/sessions/${id}`);
  assert.notEqual(body.currentRunId, old);
});

test("stop, .out and named channels start none", async () => {
  const id = await session();
  const old = await cancelRun(id);
  await client.append(id, "in", '{"kind":"stop"}');
  await client.append(id, "in", '{"kind":"handover-skip"}');
  await client.append(id, "out", "text");
  await client.append(id, "in", "text", { name: "tools" });
  assert.equal((await runsOf(id)).length, 1);
  assert.equal((await client.call("GET", `/api/v1/sessions/${id}`)).body.currentRunId, old);
});

test("the drain knows its cursor", async () => {
  const id = await session();
  for (const bad of ["x", "-1", "1.5", ""]) {
    const { status, body } = await client.call("GET", `${channelPath(id, "in")}/records?afterEventId=${bad}`);
    assert.equal(status, 400, `afterEventId=${bad}`);
    assert.equal(body.error, "Query Error");
    assert.deepEqual(body.details[0].path, ["afterEventId"]);
  }
});

test("PUT checks who may write what, and names a stream and a credential for it", async () => {
  const id = await session();
  const { status, headers, text } = await client.call("PUT", channelPath(id, "out"));
  assert.deepEqual([status, text], [202, '{"version":"v2"}']);
  assert.equal(headers.get("x-s2-stream-name"), `${id}/out`);
  assert.equal(headers.get("x-s2-basin"), "continuo");
  assert.equal(headers.get("x-s2-endpoint"), `${server.url}/v1`);
  assert.match(headers.get("x-s2-access-token"), /^tr_stream_/);
  assert.match(headers.get("x-s2-flush-interval-ms"), /^\d+$/);
  assert.match(headers.get("x-s2-max-retries"), /^\d+$/);
  const named = await client.call("PUT", channelPath(id, "out", "tools"));
  assert.equal(named.headers.get("x-s2-stream-name"), `${id}/channels/tools/out`);
  assert.equal((await client.call("PUT", channelPath("session_nowhere", "out"))).status, 404);
  assert.equal((await client.call("PUT", channelPath(unique("nowhere"), "in"))).status, 404, "the row comes first");
  await client.call("POST", `/api/v1/sessions/${id}/close`);
  const closed = await client.call("PUT", channelPath(id, "out"));
  assert.deepEqual([closed.status, closed.text], [400, "Cannot initialize a channel on a closed session"]);
});
