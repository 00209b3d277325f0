// What a task writes to `.out` through the published SDK: single records, streams, control records, trims.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Client, sessionBody, unique } from "../support/http.mjs";
import { as, errorOf, requestsOf, sessions, use } from "../support/sdk.mjs";
import { startServer } from "../support/server.mjs";
import { source, streamOf } from "../support/source.mjs";
import { until } from "../support/wait.mjs";

let server;
let client;
before(async () => {
  use((server = await startServer("serve")));
  client = new Client(server);
});
after(() => server?.stop());

/** A session that nobody serves. */
const start = () => sessions.start(sessionBody({ externalId: unique("direct"), taskIdentifier: "nobody" }));
const values = async (session, name) => (await client.records(session, "out", { name })).map(({ data }) => data);
const last = async (session, name) => String((await client.records(session, "out", { name })).at(-1).seqNum);
const numbered = (count, from = 0) => Array.from({ length: count }, (_, n) => ({ n: n + from }));

test("append writes one record that readers get as the value it is", async () => {
  const { id } = await start();
  const sent = [{ type: "text-delta", delta: "ü😀" }, "text", "", 7, 0, false, [1, null], { nested: { deep: {} } }];
  for (const value of sent) await sessions.open(id).out.append(value);
  const records = await client.records(id, "out");
  assert.deepEqual(records.map(({ data }) => data), sent);
  assert.equal(new Set(records.map((record) => record.id)).size, sent.length);
  const abort = new AbortController();
  const read = [];
  for await (const chunk of await sessions.open(id).out.read({ signal: abort.signal })) {
    if (read.push(chunk) === sent.length) abort.abort();
  }
  assert.deepEqual(read, sent);
});

test("pipe writes a stream in order, hands it on, and knows its last number", async () => {
  const { id } = await start();
  async function* words() {
    for (const word of ["one", "two", "three"]) yield { word };
  }
  for (const piped of [words(), streamOf([{ word: "one" }, { word: "two" }, { word: "three" }])]) {
    const { stream, waitUntilComplete } = sessions.open(id).out.pipe(piped);
    const seen = [];
    for await (const chunk of stream) seen.push(chunk.word);
    assert.deepEqual(seen, ["one", "two", "three"]);
    assert.equal((await waitUntilComplete()).lastEventId, await last(id));
  }
  assert.deepEqual((await values(id)).map(({ word }) => word), ["one", "two", "three", "one", "two", "three"]);
});

test("an empty stream writes nothing and has no number", async () => {
  const { id } = await start();
  const { waitUntilComplete } = sessions.open(id).out.pipe(streamOf([]));
  assert.deepEqual(await waitUntilComplete(), { lastEventId: undefined });
  assert.deepEqual(await values(id), []);
});

test("writer gathers what is written and merged", async () => {
  const { id } = await start();
  const { waitUntilComplete } = sessions.open(id).out.writer({
    execute: async ({ write, merge }) => {
      write("first");
      merge(streamOf(["a", "b"]));
      await Promise.resolve();
      write("second");
    },
  });
  const { lastEventId } = await waitUntilComplete();
  const written = await values(id);
  assert.deepEqual([...written].sort(), ["a", "b", "first", "second"]);
  assert.ok(written.indexOf("a") < written.indexOf("b") && written.indexOf("first") < written.indexOf("second"));
  assert.equal(lastEventId, await last(id));
});

test("thousands of chunks arrive in order and without a gap", async () => {
  const { id } = await start();
  const sent = numbered(5_000);
  const { lastEventId } = await sessions.open(id).out.pipe(streamOf(sent)).waitUntilComplete();
  const records = await client.records(id, "out");
  assert.deepEqual(records.map(({ data }) => data), sent);
  const [first] = records;
  assert.ok(records.every(({ seqNum }, n) => seqNum === first.seqNum + n));
  assert.equal(Number(lastEventId), first.seqNum + sent.length - 1);
});

test("a reader hears the chunks while the stream is still open", async () => {
  const { id, externalId, publicAccessToken } = await start();
  const { stream, write, close } = source();
  const { waitUntilComplete } = sessions.open(id).out.pipe(stream);
  const heard = await as(server, publicAccessToken, () => sessions.open(externalId).out.read());
  const reader = heard.getReader();
  for (const chunk of ["once", "upon", "a time"]) {
    write(chunk);
    assert.equal((await reader.read()).value, chunk);
  }
  close();
  await waitUntilComplete();
  await reader.cancel();
});

test("a chunk may be large, and one that is too large is refused before it is sent", async () => {
  const { id } = await start();
  const largest = "😀".repeat(261_880);
  await sessions.open(id).out.append(largest);
  assert.deepEqual(await values(id), [largest]);
  const error = await errorOf(sessions.open(id).out.append({ type: "tool-output", text: "x".repeat(1_048_576) }));
  assert.equal(error.name, "ChatChunkTooLargeError");
  assert.equal((await values(id)).length, 1);
});

test("a character may be cut in two by its chunks", async () => {
  const { id } = await start();
  const text = "Grüße, 😀👩‍👩‍👧 & ﷽ …";
  const halves = Array.from({ length: text.length }, (_, n) => ({ type: "text-delta", delta: text[n] }));
  await sessions.open(id).out.pipe(streamOf(halves)).waitUntilComplete();
  assert.equal((await values(id)).map(({ delta }) => delta).join(""), text);
  const abort = new AbortController();
  const read = [];
  for await (const { delta } of await sessions.open(id).out.read({ signal: abort.signal })) {
    if (read.push(delta) === halves.length) abort.abort();
  }
  assert.equal(read.join(""), text);
});

test("more than ten megabytes on the way at once", async () => {
  const { id } = await start();
  const sent = Array.from({ length: 14 }, (_, n) => `${n} ${"ä".repeat(450_000)}`);
  const { lastEventId } = await sessions.open(id).out.pipe(streamOf(sent)).waitUntilComplete();
  const got = await values(id);
  assert.equal(got.length, sent.length);
  assert.ok(got.every((text, n) => text === sent[n]));
  assert.equal(lastEventId, await last(id));
});

test("a control record has its number at once and goes beside the chunks", async () => {
  const { id } = await start();
  const channel = sessions.open(id).out;
  await channel.append("before");
  const first = await channel.writeControl("turn-complete", [["public-access-token", "t"], ["session-in-event-id", "7"]]);
  const second = await channel.writeControl("upgrade-required");
  await channel.append("after");
  const records = await client.records(id, "out");
  assert.deepEqual(records.map(({ data }) => data), ["before", "", "", "after"]);
  assert.deepEqual([first, second].map(({ lastEventId }) => Number(lastEventId)), records.slice(1, 3).map(({ seqNum }) => seqNum));
  const abort = new AbortController();
  const [chunks, controls] = [[], []];
  const options = { signal: abort.signal, onControl: (event) => controls.push(event) };
  for await (const chunk of await channel.read(options)) {
    if (chunks.push(chunk) === 2) abort.abort();
  }
  assert.deepEqual(chunks, ["before", "after"]);
  assert.deepEqual(controls.map(({ subtype }) => subtype), ["turn-complete", "upgrade-required"]);
  const wanted = [["trigger-control", "turn-complete"], ["public-access-token", "t"], ["session-in-event-id", "7"]];
  assert.deepEqual(controls[0].headers, wanted);
});

test("trimTo forgets what is before, for good, and never goes back", async () => {
  const { id } = await start();
  const channel = sessions.open(id).out;
  for (const value of ["a", "b", "c", "d"]) await channel.append(value);
  const numbers = (await client.records(id, "out")).map(({ seqNum }) => seqNum);
  await channel.trimTo(numbers[2]);
  assert.deepEqual(await values(id), ["c", "d"]);
  await channel.trimTo(numbers[1]);
  await channel.trimTo(numbers[2]);
  assert.deepEqual(await values(id), ["c", "d"]);
  await channel.append("e");
  assert.equal(Number(await last(id)), numbers[3] + 4, "three trims have numbers too");
  await channel.trimTo(1_000_000);
  assert.deepEqual(await values(id), [], "beyond the end is the end");
  await channel.append("f");
  assert.deepEqual(await values(id), ["f"]);
});

test("a channel asks for its credentials once, control records each time", async () => {
  const { id } = await start();
  const channel = sessions.open(id).out;
  const put = `PUT /realtime/v1/sessions/${id}/out`;
  const puts = async (fn) => (await requestsOf(fn)).lines.filter((line) => line === put).length;
  assert.equal(await puts(() => channel.append(1)), 1);
  assert.equal(await puts(() => channel.pipe(streamOf([2, 3])).waitUntilComplete()), 0);
  assert.equal(await puts(() => channel.writeControl("turn-complete")), 1);
  assert.equal(await puts(() => channel.trimTo(0)), 1);
  assert.equal(await puts(() => channel.append(4)), 0);
  assert.equal(await puts(() => sessions.open(id).out.append(5)), 1, "another object, another channel");
});

test("two writers at once: both in their own order, nothing lost", async () => {
  const { id, externalId } = await start();
  const write = (name, who) => sessions.open(name).out.pipe(streamOf(numbered(500).map(({ n }) => ({ who, n })))).waitUntilComplete();
  const [a, b] = await Promise.all([write(id, "a"), write(externalId, "b")]);
  const records = await client.records(id, "out");
  for (const [who, { lastEventId }] of [["a", a], ["b", b]]) {
    const own = records.filter(({ data }) => data.who === who);
    assert.deepEqual(own.map(({ data }) => data.n), numbered(500).map(({ n }) => n));
    assert.equal(lastEventId, String(own.at(-1).seqNum));
  }
  assert.equal(records.length, 1_000);
});

test("a named channel has a stream of its own", async () => {
  const { id } = await start();
  const tools = sessions.open(id).channel(sessions.defineChannel("tools")).out;
  await tools.append({ step: 1 });
  const { lastEventId } = await tools.pipe(streamOf([{ step: 2 }, { step: 3 }])).waitUntilComplete();
  assert.equal(lastEventId, await last(id, "tools"));
  const control = await tools.writeControl("turn-complete");
  assert.equal(control.lastEventId, await last(id, "tools"));
  await tools.trimTo(2);
  assert.deepEqual(await values(id, "tools"), [{ step: 3 }, ""]);
  assert.deepEqual(await values(id), []);
  assert.deepEqual(await values(id, "others"), []);
});

test("a pipe that is aborted keeps what was written and does not fail", async () => {
  const { id } = await start();
  const { stream, write } = source();
  const abort = new AbortController();
  const { waitUntilComplete } = sessions.open(id).out.pipe(stream, { signal: abort.signal });
  write("kept");
  await until(async () => (await values(id)).length === 1, "the chunk");
  abort.abort();
  // The SDK looks at the signal when the next chunk comes.
  write("dropped");
  await waitUntilComplete();
  assert.deepEqual(await values(id), ["kept"]);
});

test("a source that fails fails the pipe, and the channel goes on", async () => {
  const { id } = await start();
  const channel = sessions.open(id).out;
  async function* failing() {
    yield "before the fall";
    throw new Error("out of ideas");
  }
  assert.match((await errorOf(channel.pipe(failing()).waitUntilComplete())).message, /out of ideas/);
  await channel.append("up again");
  assert.equal((await values(id)).at(-1), "up again");
});

for (const signal of ["SIGTERM", "SIGKILL"]) {
  test(`what was acknowledged before ${signal} is there, and the channel goes on after the restart`, async () => {
    const { id } = await start();
    const channel = sessions.open(id).out;
    const { stream, write, close } = source();
    const { waitUntilComplete } = channel.pipe(stream);
    write(...numbered(100));
    await until(async () => (await values(id)).length === 100, "the first chunks");
    const restarting = server.restart(signal);
    write(...numbered(100, 100));
    await restarting;
    write(...numbered(100, 200));
    close();
    const failure = await waitUntilComplete().then(() => undefined, (error) => error);
    const got = (await values(id)).map(({ n }) => n);
    // The client gives up by itself if the server is away for too long; then it says so, and what is there is a beginning.
    const unique = [...new Set(got)];
    assert.deepEqual(unique, numbered(unique.length).map(({ n }) => n));
    assert.ok(failure !== undefined || unique.length === 300, `${unique.length} of 300 and no failure`);
    await channel.append({ n: "on" });
    assert.equal((await values(id)).at(-1).n, "on");
  });
}
