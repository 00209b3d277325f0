// Direct writes with the published client of the stream API: over HTTP/2, as JSON and as protobuf.
import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { Client, assertHealthy } from "../support/http.mjs";
import { startServer } from "../support/server.mjs";
import { errorOf } from "../support/sdk.mjs";
import { AppendInput, AppendRecord, BatchTransform, FencingTokenMismatchError, SeqNumMismatchError, credentials, data, input, open, text } from "../support/stream.mjs";
import { scoped } from "../support/tokens.mjs";

const RECORD_BYTES_MAX = 1_048_576;
// What a record counts for beside its body.
const OWN_BYTES = 8;

let server;
let client;
before(async () => (client = new Client((server = await startServer("serve")))));
after(() => server?.stop());
afterEach(() => assertHealthy(server));

/** A new session's stream, and the next number of it. */
async function made(io = "out", more = {}) {
  const { id } = await client.createSession();
  const stream = open(await credentials(client, id, io, more), { retry: { maxAttempts: 1 } });
  return { id, stream, next: (await stream.checkTail()).tail.seqNum };
}

test("a session of appends: an acknowledgement for each, in order, then a clean end", async () => {
  const { id, stream, next } = await made();
  const session = await stream.appendSession();
  const tickets = [];
  for (let i = 0; i < 100; i++) tickets.push(await session.submit(input(`{"data":${i},"id":"p${i}"}`)));
  const acks = await Promise.all(tickets.map((ticket) => ticket.ack()));
  assert.deepEqual(acks.map((ack) => ack.start.seqNum), Array.from({ length: 100 }, (_, i) => next + i));
  assert.ok(acks.every((ack) => ack.end.seqNum === ack.start.seqNum + 1 && ack.tail.seqNum >= ack.end.seqNum));
  await session.close();
  assert.equal(session.lastAckedPosition().end.seqNum, next + 100);
  const records = await client.records(id, "out");
  assert.deepEqual(records.map((r) => [r.data, r.id]), Array.from({ length: 100 }, (_, i) => [i, `p${i}`]));
});

test("a control record as JSON, a trim as protobuf, as the SDK sends them", async () => {
  const { stream, next } = await made();
  await stream.append(input(["a", "b"]));
  const headers = [["trigger-control", "turn-complete"], ["public-access-token", "t"]];
  const control = await stream.append(AppendInput.create([text("", headers)]));
  assert.deepEqual([control.start.seqNum, control.end.seqNum], [next + 2, next + 3]);
  const trimmed = await stream.append(AppendInput.create([AppendRecord.trim(next + 1)]));
  assert.equal(trimmed.start.seqNum, next + 3);
  const { records } = await stream.read({ start: { from: { seqNum: 0 } } });
  assert.deepEqual(records.map((r) => r.seqNum), [next + 1, next + 2, next + 3]);
  assert.deepEqual(records[1].headers, headers);
});

test("1 000 records are one batch; one more is none", async () => {
  const { stream, next } = await made();
  const bodies = Array.from({ length: 1_000 }, (_, i) => `r${i}`);
  for (const append of [(batch) => stream.append(batch), async (batch) => {
    const session = await stream.appendSession();
    const ack = await (await session.submit(batch)).ack();
    await session.close();
    return ack;
  }]) {
    const { start, end } = await append(input(bodies));
    assert.equal(end.seqNum - start.seqNum, 1_000);
  }
  assert.deepEqual((await data(stream, next)).map((r) => r.body), [...bodies, ...bodies]);
  // The client refuses it by itself, so it is told to believe that there is less.
  const over = { ...input(bodies), records: [...bodies, "over"].map((body) => text(body)) };
  const error = await errorOf(stream.append(over));
  assert.deepEqual([error.status, error.code], [422, "invalid"]);
  assert.match(error.message, /1000/);
});

test("a record of 1 048 576 metered bytes is stored, one byte more is not", async () => {
  const { stream, next } = await made();
  const longest = "x".repeat(RECORD_BYTES_MAX - OWN_BYTES);
  const session = await stream.appendSession();
  assert.equal((await (await session.submit(input(longest))).ack()).start.seqNum, next);
  assert.equal((await stream.append(input(longest))).start.seqNum, next + 1);
  const over = { ...input("x"), records: [{ ...text("x"), body: `${longest}x` }] };
  for (const append of [() => stream.append(over), async () => (await session.submit(over)).ack()]) {
    const error = await errorOf(append());
    assert.deepEqual([error.status, error.code], [422, "invalid"], error.message);
    assert.match(error.message, /1048577/);
  }
  assert.equal((await stream.checkTail()).tail.seqNum, next + 2);
  assert.equal((await stream.read({ start: { from: { seqNum: next } } })).records[0].body.length, longest.length);
});

test("text of many bytes per letter survives every way there and back", async () => {
  const { stream, next } = await made();
  const long = "añ漢😀\u2028\u0000\"\\".repeat(60_000);
  const headers = [["kopfzeile-ü", "wert 😀"]];
  await stream.append(AppendInput.create([text(long.slice(0, 99_999), headers)]));
  const session = await stream.appendSession();
  await (await session.submit(input(long))).ack();
  await session.close();
  const read = await data(stream, next);
  // Half of a pair of surrogates cannot travel; what it becomes is the client's doing.
  assert.equal(read[0].body, long.slice(0, 99_999).toWellFormed?.() ?? Buffer.from(long.slice(0, 99_999)).toString());
  assert.deepEqual(read[0].headers, headers);
  assert.equal(read[1].body, long);
  const reading = await stream.readSession({ start: { from: { seqNum: next } }, stop: { limits: { count: 2 } } });
  const bodies = [];
  for await (const record of reading) bodies.push(record.body);
  assert.deepEqual(bodies, read.map((r) => r.body));
});

test("10 MB and more in flight arrive whole and in order", async () => {
  const { stream, next } = await made();
  const session = await stream.appendSession({ maxInflightBytes: 12 * 1_048_576 });
  const body = (i) => `${i}:`.padEnd(200_000, "x");
  const tickets = [];
  for (let i = 0; i < 80; i++) tickets.push(await session.submit(input(body(i))));
  const acks = await Promise.all(tickets.map((ticket) => ticket.ack()));
  assert.deepEqual(acks.map((ack) => ack.start.seqNum), Array.from({ length: 80 }, (_, i) => next + i));
  await session.close();
  assert.deepEqual((await data(stream, next)).map((r) => r.body), Array.from({ length: 80 }, (_, i) => body(i)));
});

test("a pipe through the client's own batches, as the SDK writes", async () => {
  const { stream, next } = await made();
  const session = await stream.appendSession({ maxInflightBytes: 10 * 1_048_576 });
  const chunks = Array.from({ length: 500 }, (_, i) => JSON.stringify({ data: { type: "text-delta", delta: `${i}` }, id: `c${i}` }));
  await ReadableStream.from(chunks.map((chunk) => text(chunk)))
    .pipeThrough(new BatchTransform({ lingerDurationMillis: 5 }))
    .pipeTo(session.writable);
  assert.equal(session.lastAckedPosition().end.seqNum, next + 500);
  assert.deepEqual((await data(stream, next)).map((r) => r.body), chunks);
});

test("compressed frames are read", async () => {
  const { id } = await client.createSession();
  const stream = open(await credentials(client, id, "out"), { compression: "gzip" });
  const session = await stream.appendSession();
  const long = "compressible ".repeat(20_000);
  await (await session.submit(input(long))).ack();
  await session.close();
  assert.equal((await data(stream)).at(-1).body, long);
});

test("conditions that fail say what holds", async () => {
  const { stream, next } = await made();
  await stream.append(input("a", { matchSeqNum: next }));
  const session = await stream.appendSession();
  for (const append of [(batch) => stream.append(batch), async (batch) => (await session.submit(batch)).ack()]) {
    const missed = await errorOf(append(input("b", { matchSeqNum: next })));
    assert.ok(missed instanceof SeqNumMismatchError, missed.message);
    assert.deepEqual([missed.status, missed.expectedSeqNum], [412, next + 1]);
  }
  const fenced = await errorOf(stream.append(input("b", { fencingToken: "somebody else" })));
  assert.ok(fenced instanceof FencingTokenMismatchError, fenced.message);
  assert.equal(typeof fenced.expectedFencingToken, "string");
  assert.equal((await stream.checkTail()).tail.seqNum, next + 1, "nothing was written");
});

test("fences are the server's own", async () => {
  const { stream } = await made();
  const error = await errorOf(stream.append(AppendInput.create([AppendRecord.fence("mine")])));
  assert.deepEqual([error.status, error.code], [422, "invalid"]);
  assert.match(error.message, /fence/);
});

test("a session of appends that is refused says why, and so does the next", async () => {
  const { id, stream } = await made();
  const closing = await credentials(client, id, "in");
  await client.call("POST", `/api/v1/sessions/${id}/close`, { json: { reason: "bye" } });
  const late = open({ ...closing, token: client.token }, { retry: { maxAttempts: 1 } });
  const session = await late.appendSession();
  for (const append of [async () => (await session.submit(input("late"))).ack(), () => late.append(input("late"))]) {
    const error = await errorOf(append());
    assert.deepEqual([error.status, error.code], [409, "session_closed"], error.message);
  }
  await stream.append(input("last words of the run"));
});

test("who may write what", async () => {
  const { id, stream } = await made();
  const own = await credentials(client, id, "out");
  const other = await credentials(client, (await client.createSession()).id, "out");
  const refusal = async (use) => {
    const error = await errorOf(open({ ...own, ...use }, { retry: { maxAttempts: 1 } }).append(input("x")));
    return [error.status, error.code];
  };
  assert.deepEqual(await refusal({ token: other.token }), [403, "permission_denied"]);
  assert.deepEqual(await refusal({ token: "tr_stream_nonsense" }), [401, "authn"]);
  assert.deepEqual(await refusal({ token: await scoped(client, `write:sessions:${id}`) }), [403, "permission_denied"]);
  assert.deepEqual(await refusal({ token: server.otherKey }), [404, "stream_not_found"]);
  assert.deepEqual(await refusal({ token: client.token, stream: "session_nowhere/out" }), [404, "stream_not_found"]);
  assert.deepEqual(await refusal({ token: client.token, stream: `${id}/both` }), [404, "stream_not_found"]);
  assert.deepEqual(await refusal({ basin: "another-basin" }), [404, "basin_not_found"]);
  const browser = new Client(server, await scoped(client, `write:sessions:${id}`));
  const input_ = open(await credentials(browser, id, "in"), { retry: { maxAttempts: 1 } });
  await input_.append(input('{"data":"hi","id":"b1"}'));
  assert.equal((await client.records(id, "in")).at(-1).data, "hi");
  const condition = await errorOf(input_.append(input("x", { matchSeqNum: 0 })));
  assert.deepEqual([condition.status, condition.code], [403, "permission_denied"]);
  await stream.append(input("still open"));
});

test("a named channel is a stream of its own", async () => {
  const { id, stream } = await made("out", { name: "tools.v1" });
  await stream.append(input('{"data":"named","id":"n1"}'));
  assert.deepEqual((await client.records(id, "out", { name: "tools.v1" })).map((r) => r.data), ["named"]);
  assert.ok((await client.records(id, "out")).every((r) => r.data !== "named"));
});
