// Server-sent events as they stand on the wire.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Client, channelPath, unique } from "../support/http.mjs";
import { startServer } from "../support/server.mjs";
import { subscribe } from "../support/sse.mjs";

let server;
let client;
before(async () => (client = new Client((server = await startServer("dev")))));
after(() => server?.stop());

// A task that nobody serves, so that only the test writes.
const quiet = async (more) => (await client.createSession({ taskIdentifier: "nobody", ...more })).id;
const tools = (id) => channelPath(id, "out", "tools");
const open = (path, headers) => subscribe(client, path, { headers });
const write = async (id, text, more = { name: "tools" }) => {
  const { status, body, text: answer } = await client.append(id, "out", text, more);
  assert.equal(status, 200, answer);
  return body.seq;
};
const fill = async (id, count) => {
  for (let i = 0; i < count; i++) assert.equal(await write(id, `r${i}`), i);
};
const dataOf = (record) => JSON.parse(record.body).data;

/** A session in which the demo agent has answered one message. */
async function answered() {
  const { id } = await client.createSession();
  await client.append(id, "in", "hello");
  const stream = await open(channelPath(id, "out"));
  const records = [];
  while (!records.some((r) => r.headers?.[0]?.[1] === "turn-complete")) records.push(...(await stream.records(1)));
  stream.close();
  return { id, records };
}

test("headers", async () => {
  const stream = await open(tools(await quiet()), { origin: "https://app.example", "accept-encoding": "gzip, deflate, br" });
  assert.equal(stream.status, 200);
  const { headers } = stream;
  assert.match(headers.get("content-type"), /^text\/event-stream/);
  assert.equal(headers.get("x-stream-version"), "v2");
  assert.equal(headers.get("access-control-expose-headers"), "*");
  assert.equal(headers.get("access-control-allow-origin"), "https://app.example");
  assert.equal(headers.get("cache-control"), "no-cache, no-transform");
  assert.equal(headers.get("x-accel-buffering"), "no");
  assert.equal(headers.get("content-encoding"), null, "never compressed");
  assert.equal(headers.get("x-session-settled"), null);
  stream.close();
});

test("the headers come before any record, and a ping once the reader has caught up", async () => {
  const stream = await open(tools(await quiet()));
  const ping = await stream.nextOf("ping");
  assert.equal(ping.json.tail.seq_num, 0);
  assert.ok(Math.abs(ping.json.timestamp - Date.now()) < 60_000);
  stream.close();
});

test("a batch: numbers, times, envelope, tail and id line", async () => {
  const id = await quiet();
  const began = Date.now();
  await write(id, "first", { name: "tools", partId: "p1" });
  await write(id, '{"a":1}', { name: "tools", partId: "p2" });
  const stream = await open(tools(id));
  const batch = await stream.nextOf("batch");
  const [one, two] = batch.json.records;
  assert.deepEqual([one.seq_num, two.seq_num], [0, 1]);
  assert.deepEqual(JSON.parse(one.body), { data: "first", id: "p1" });
  assert.deepEqual(JSON.parse(two.body), { data: '{"a":1}', id: "p2" }, "text stays text");
  assert.ok(!("headers" in one), "left out when empty");
  assert.ok(one.timestamp >= began - 1_000 && one.timestamp <= two.timestamp);
  assert.equal(batch.json.tail.seq_num, 2);
  assert.match(batch.id, /^1,2,\d+$/);
  stream.close();
});

test("a control record has headers and no body", async () => {
  const { records } = await answered();
  const control = records.find((r) => r.headers?.[0]?.[0] === "trigger-control");
  assert.deepEqual(control.headers[0], ["trigger-control", "turn-complete"]);
  assert.equal(control.headers.find(([name]) => name === "session-in-event-id")[1], "0");
  assert.ok(!("body" in control));
  assert.ok(control.headers.flat().every((text) => typeof text === "string"));
});

test("records arrive live, in order and without gaps, at every reader", async () => {
  const id = await quiet();
  const readers = await Promise.all([1, 2, 3].map(() => open(tools(id))));
  const writing = Promise.all(Array.from({ length: 200 }, (_, i) => write(id, `m${i}`)));
  for (const reader of readers) {
    const records = await reader.records(200);
    assert.deepEqual(records.map((r) => r.seq_num), Array.from({ length: 200 }, (_, i) => i));
    assert.equal(new Set(records.map(dataOf)).size, 200);
    reader.close();
  }
  await writing;
});

test("Last-Event-ID: the next record, whatever form the number has", async () => {
  const id = await quiet();
  await fill(id, 5);
  for (const [value, first] of [["0", 1], ["2", 3], ["2,3,400", 3], ["2-0", 3], ["abc", 0], ["-1", 0], ["3.9", 4]]) {
    const stream = await open(tools(id), { "last-event-id": value });
    const [record] = await stream.records(1);
    assert.equal(record.seq_num, first, `Last-Event-ID: ${value}`);
    stream.close();
  }
});

test("Last-Event-ID past the tail waits at the tail", async () => {
  const id = await quiet();
  await fill(id, 2);
  for (const value of ["1", "99", "18446744073709551615", "99999999999999999999999"]) {
    const stream = await open(tools(id), { "last-event-id": value });
    await stream.nextOf("ping");
    const seq = await write(id, `after ${value}`);
    const [record] = await stream.records(1);
    assert.equal(record.seq_num, seq, `Last-Event-ID: ${value}`);
    stream.close();
  }
});

test("X-Trigger-Stream-Start: latest begins with the newest record", async () => {
  const id = await quiet();
  await fill(id, 4);
  const first = async (headers) => {
    const stream = await open(tools(id), headers);
    const [record] = await stream.records(1);
    stream.close();
    return record.seq_num;
  };
  assert.equal(await first({ "x-trigger-stream-start": "latest" }), 3);
  assert.equal(await first({ "x-trigger-stream-start": "LATEST" }), 3);
  assert.equal(await first({ "x-trigger-stream-start": "oldest" }), 0);
  assert.equal(await first({ "x-trigger-stream-start": "latest", "last-event-id": "0" }), 1, "a cursor goes first");
});

test("the stream ends with [DONE] after the time limit without a record", async () => {
  const id = await quiet();
  await fill(id, 1);
  const began = Date.now();
  const stream = await open(tools(id), { "timeout-seconds": "1" });
  const frames = await stream.rest();
  assert.equal(frames[0].event, "batch");
  assert.equal(frames.at(-1).data, "[DONE]");
  assert.ok(Date.now() - began >= 900, "not before the second is over");
});

test("a record restarts the clock", async () => {
  const id = await quiet();
  const stream = await open(tools(id), { "timeout-seconds": "3" });
  await stream.nextOf("ping");
  for (let i = 0; i < 4; i++) {
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    await write(id, `still here ${i}`);
    assert.equal((await stream.records(1))[0].seq_num, i);
  }
  stream.close();
});

test("Timeout-Seconds is a whole number from 1 to 600", async () => {
  const id = await quiet();
  for (const [value, text] of [
    ["10abc", "Invalid timeout seconds"],
    ["1.5", "Invalid timeout seconds"],
    ["soon", "Invalid timeout seconds"],
    ["0", "Timeout seconds must be greater than 0"],
    ["-3", "Timeout seconds must be greater than 0"],
    ["601", "Timeout seconds must be less than 600"],
  ]) {
    const answer = await client.call("GET", tools(id), { headers: { "timeout-seconds": value } });
    assert.equal(answer.status, 400, value);
    assert.equal(answer.text, text, value);
  }
  for (const value of ["1", "600"]) {
    const stream = await open(tools(id), { "timeout-seconds": value });
    assert.equal(stream.status, 200, value);
    stream.close();
  }
});

test("a settled turn: the header, the rest, and the end at once", async () => {
  const { id, records } = await answered();
  const settled = { "x-peek-settled": "1", "timeout-seconds": "600" };
  const whole = await open(channelPath(id, "out"), settled);
  assert.equal(whole.headers.get("x-session-settled"), "true");
  const seen = (await whole.rest()).filter((f) => f.event === "batch").flatMap((f) => f.json.records);
  assert.deepEqual(seen.map((r) => r.seq_num).slice(0, records.length), records.map((r) => r.seq_num));

  const behind = await open(channelPath(id, "out"), { ...settled, "last-event-id": String(records.at(-2).seq_num) });
  assert.equal(behind.headers.get("x-session-settled"), "true");
  const rest = (await behind.rest()).filter((f) => f.event === "batch").flatMap((f) => f.json.records);
  assert.equal(rest[0].seq_num, records.at(-1).seq_num);

  const idle = await open(channelPath(id, "out"), { "timeout-seconds": "600" });
  assert.equal(idle.headers.get("x-session-settled"), null, "never without being asked");
  idle.close();
});

test("what is not settled: an empty .out, and one whose turn is under way", async () => {
  const id = await quiet();
  const settled = { "x-peek-settled": "1", "timeout-seconds": "1" };
  const empty = await open(channelPath(id, "out"), settled);
  assert.equal(empty.headers.get("x-session-settled"), null);
  empty.close();
  await write(id, "a chunk", {});
  const midway = await open(channelPath(id, "out"), settled);
  assert.equal(midway.headers.get("x-session-settled"), null);
  assert.equal((await midway.rest()).at(-1).data, "[DONE]");
});

test("a legacy data record that says the turn is complete settles too", async () => {
  for (const data of ['{"type":"trigger:turn-complete"}']) {
    const id = await quiet();
    await write(id, data, {});
    const stream = await open(channelPath(id, "out"), { "x-peek-settled": "1", "timeout-seconds": "600" });
    assert.equal(stream.headers.get("x-session-settled"), "true");
    await stream.rest();
  }
});

test("a subscriber may come before the session", async () => {
  const externalId = unique("later");
  const stream = await open(channelPath(externalId, "out", "tools"));
  assert.equal(stream.status, 200);
  const id = await quiet({ externalId });
  await write(id, "welcome");
  const [record] = await stream.records(1);
  assert.equal(dataOf(record), "welcome");
  stream.close();
});

test("by an id that is not there it is a 404", async () => {
  const answer = await client.call("GET", channelPath("session_nowhere", "out"));
  assert.equal(answer.status, 404);
  assert.deepEqual(answer.body, { error: "Not found" });
});

test("closing the session ends no subscription", async () => {
  const id = await quiet();
  await write(id, "before");
  const stream = await open(tools(id), { "timeout-seconds": "1" });
  await stream.records(1);
  await client.call("POST", `/api/v1/sessions/${id}/close`);
  assert.equal((await stream.rest()).at(-1).data, "[DONE]", "its own time limit does");
  const later = await open(tools(id), { "timeout-seconds": "1" });
  assert.equal(dataOf((await later.records(1))[0]), "before");
  later.close();
});

test("HEAD probes", async () => {
  const answer = await client.fetch("HEAD", channelPath(await quiet(), "out"));
  assert.equal(answer.status, 200);
  assert.equal(answer.headers.get("x-last-chunk-index"), "0");
  assert.equal(await answer.text(), "");
});

test("only in and out are sides, and a channel has a plain name", async () => {
  const id = await quiet();
  for (const path of [
    `/realtime/v1/sessions/${id}/sideways`,
    channelPath(id, "out", "a b"),
    channelPath(id, "out", "n".repeat(129)),
    channelPath(id, "out", "ä"),
  ]) {
    const { status, body } = await client.call("GET", path);
    assert.equal(status, 400, path);
    assert.equal(body.error, "Params Error");
  }
});

test("a long history comes in batches that join", async () => {
  const id = await quiet();
  const text = "y".repeat(100_000);
  for (let i = 0; i < 30; i++) await write(id, `${i}:${text}`);
  const stream = await open(tools(id));
  const seen = [];
  while (seen.length < 30) {
    const batch = await stream.nextOf("batch");
    assert.ok(batch.data.length < 2.5 * 1_048_576, "about 1 MiB each");
    seen.push(...batch.json.records);
  }
  assert.deepEqual(seen.map((r) => Number(dataOf(r).split(":")[0])), Array.from({ length: 30 }, (_, i) => i));
  stream.close();
});
