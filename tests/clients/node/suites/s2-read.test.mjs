// Direct reads: with the published client of the stream API, and over plain HTTP.
import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { Client, assertHealthy } from "../support/http.mjs";
import { errorOf } from "../support/sdk.mjs";
import { startServer } from "../support/server.mjs";
import { subscribe } from "../support/sse.mjs";
import { AppendInput, AppendRecord, RangeNotSatisfiableError, credentials, input, open, recordsPath } from "../support/stream.mjs";
import { scoped } from "../support/tokens.mjs";

let server;
let client;
before(async () => (client = new Client((server = await startServer("serve")))));
after(() => server?.stop());
afterEach(() => assertHealthy(server));

/** A stream with these records; `first` is the number of the first. */
async function filled(...bodies) {
  const { id } = await client.createSession();
  const made = await credentials(client, id, "out");
  const stream = open(made, { retry: { maxAttempts: 1 } });
  const { start } = await stream.append(input(bodies));
  return { id, stream, first: start.seqNum, at: start.timestamp, path: recordsPath(made.stream) };
}

const from = (start, stop) => ({ start: { from: start }, stop });
const bodies = (batch) => batch.records.map((record) => record.body);

test("by number, by time, and from the end", async () => {
  const { stream, first, at } = await filled("a", "b", "c");
  assert.deepEqual(bodies(await stream.read(from({ seqNum: first + 1 }))), ["b", "c"]);
  assert.deepEqual(bodies(await stream.read(from({ timestamp: at }))), ["a", "b", "c"]);
  assert.deepEqual(bodies(await stream.read(from({ tailOffset: 1 }))), ["c"]);
  assert.deepEqual(bodies(await stream.read(from({ seqNum: first }, { limits: { count: 2 } }))), ["a", "b"]);
  assert.deepEqual(bodies(await stream.read(from({ seqNum: first }, { limits: { bytes: 18 } }))), ["a", "b"]);
  const until = { untilTimestamp: new Date(at.getTime() + 60_000) };
  assert.deepEqual(bodies(await stream.read(from({ seqNum: first }, until))), ["a", "b", "c"]);
  assert.deepEqual(bodies(await stream.read(from({ seqNum: first }, { untilTimestamp: at }))), []);
  const { tail } = await stream.checkTail();
  assert.deepEqual([tail.seqNum, tail.timestamp.getTime()], [first + 3, at.getTime()]);
});

test("bytes as base64 and as protobuf", async () => {
  const { stream, first, path } = await filled("a");
  const body = Uint8Array.from({ length: 256 }, (_, i) => i);
  await stream.append(AppendInput.create([AppendRecord.bytes({ body, headers: [["k", Uint8Array.of(0xff)]] })]));
  const { records } = await stream.read(from({ seqNum: first + 1 }), { as: "bytes" });
  assert.deepEqual([records[0].body, records[0].headers[0][1]], [body, Uint8Array.of(0xff)]);
  const { body: json } = await client.call("GET", `${path}?seq_num=${first + 1}`, { headers: { "s2-format": "base64" } });
  assert.equal(json.records[0].body, Buffer.from(body).toString("base64"));
});

test("past the tail is told with the tail; clamped and waiting it is none", async () => {
  const { stream, first, at } = await filled("a");
  for (const start of [{ seqNum: first + 1 }, { seqNum: first + 100 }, { tailOffset: 0 }, { timestamp: at.getTime() + 3_600_000 }]) {
    const error = await errorOf(stream.read(from(start)));
    assert.ok(error instanceof RangeNotSatisfiableError, error.message);
    assert.deepEqual([error.status, error.tail.seqNum, error.tail.timestamp.getTime()], [416, first + 1, at.getTime()]);
  }
  const clamped = await stream.read({ start: { from: { seqNum: first + 100 }, clamp: true }, stop: { waitSecs: 1 } });
  assert.deepEqual(clamped.records, []);
  const waiting = stream.read(from({ seqNum: first + 1 }, { waitSecs: 30 }));
  await stream.append(input("b"));
  assert.deepEqual(bodies(await waiting), ["b"]);
  const nothing = await stream.read({ start: { from: { tailOffset: 0 } }, stop: { waitSecs: 1 } });
  assert.deepEqual(nothing.records, []);
});

test("a stream that was never written is empty", async () => {
  const { id } = await client.createSession();
  const stream = open(await credentials(client, id, "in"));
  assert.equal((await stream.checkTail()).tail.seqNum, 0);
  const error = await errorOf(stream.read(from({ seqNum: 0 })));
  assert.deepEqual([error.status, error.tail.seqNum], [416, 0]);
});

test("a session of reads goes on as records come, commands and all", async () => {
  const { stream, first } = await filled("a", "b");
  const session = await stream.readSession(from({ seqNum: first }, { limits: { count: 5 }, waitSecs: 60 }));
  const seen = [];
  let more = true;
  for await (const record of session) {
    seen.push([record.seqNum, record.headers[0]?.[1] ?? record.body]);
    if (seen.length === 2 && more) {
      more = false;
      await stream.append(input(["c", AppendRecord.trim(first + 1), "d"]));
    }
  }
  assert.deepEqual(seen, ["a", "b", "c", "trim", "d"].map((body, i) => [first + i, body]));
  const error = await errorOf(stream.readSession(from({ seqNum: first + 100 })).then(async (session) => {
    for await (const _ of session);
  }));
  assert.equal(error.status, 416);
});

test("events over HTTP/1.1, resumed by their id", async () => {
  const { stream, first, path } = await filled("a", "b", "c");
  const reading = await subscribe(client, `${path}?seq_num=${first}`);
  assert.equal(reading.status, 200);
  assert.match(reading.headers.get("content-type"), /^text\/event-stream/);
  const batch = await reading.nextOf("batch");
  assert.equal(batch.id, `${first + 2},3,27`);
  assert.deepEqual(batch.json.records.map((r) => r.body), ["a", "b", "c"]);
  assert.equal((await reading.nextOf("ping")).json.tail.seq_num, first + 3);
  await stream.append(input("d"));
  const next = await reading.nextOf("batch");
  assert.deepEqual([next.id, next.json.records[0].body, next.json.tail.seq_num], [`${first + 3},4,36`, "d", first + 4]);
  reading.close();

  const headers = { "last-event-id": `${first + 1},2,18` };
  const resumed = await subscribe(client, `${path}?seq_num=${first}&count=3`, { headers });
  const frames = await resumed.rest();
  assert.deepEqual(frames.filter((f) => f.event === "batch").flatMap((f) => f.json.records.map((r) => r.body)), ["c"]);
  assert.equal(frames.at(-1).data, "[DONE]");
});

test("queries that cannot be meant", async () => {
  const { path } = await filled("a");
  for (const [query, status, code] of [
    ["seq_num=one", 400, "bad_query"],
    ["seq_num=-1", 400, "bad_query"],
    ["seq_num=0&count=1.5", 400, "bad_query"],
    ["seq_num=0&wait=soon", 400, "bad_query"],
    ["seq_num=0&clamp=1", 400, "bad_query"],
    ["seq_num=0&tail_offset=1", 422, "invalid"],
    ["timestamp=5&until=4", 422, "invalid"],
  ]) {
    const answer = await client.call("GET", `${path}?${query}`);
    assert.deepEqual([answer.status, answer.body.code], [status, code], query);
    assert.ok(answer.body.message.length > 10);
  }
});

test("who may read what", async () => {
  const { id, path } = await filled("a");
  const read = async (token, to = path) => {
    const answer = await client.call("GET", `${to}?seq_num=0`, { token });
    return [answer.status, answer.body.code];
  };
  assert.deepEqual(await read(await scoped(client, `read:sessions:${id}`)), [200, undefined]);
  assert.deepEqual(await read(await scoped(client, "read:sessions:another")), [403, "permission_denied"]);
  assert.deepEqual(await read(await scoped(client, `read:sessions:${id}`), recordsPath(`${id}/in`)), [403, "permission_denied"]);
  assert.deepEqual(await read(null), [401, "authn"]);
  assert.deepEqual(await read(server.otherKey), [404, "stream_not_found"]);
});

test("a browser of another origin may read the answers", async () => {
  const { path } = await filled("a");
  const headers = { origin: "https://app.example" };
  for (const to of [`${path}?seq_num=0`, `${path}/tail`, "/v1/streams", path.replace("out", "both")]) {
    const answer = await client.call("GET", to, { headers });
    assert.equal(answer.headers.get("access-control-allow-origin"), "https://app.example", `${to}: ${answer.status}`);
  }
  const preflight = await client.call("OPTIONS", path, { headers: { ...headers, "access-control-request-method": "POST" } });
  assert.equal(preflight.status, 200);
});
