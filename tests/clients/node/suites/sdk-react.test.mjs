// The React hooks of the published SDK, in a page, with a token of the session.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { useSessionStream, useSessionStreamChannel } from "@trigger.dev/react-hooks";
import { Client, sessionBody, unique } from "../support/http.mjs";
import { mount } from "../support/react.mjs";
import { auth, sessions, use } from "../support/sdk.mjs";
import { startServer } from "../support/server.mjs";

let server;
let client;
before(async () => {
  use((server = await startServer("dev")));
  client = new Client(server);
});
after(() => server?.stop());

/** Without the demo agent nobody but the test writes. */
const start = (taskIdentifier = "nobody") => sessions.start(sessionBody({ externalId: unique("page"), taskIdentifier }));
const out = async (session, ...texts) => {
  for (const text of texts) assert.equal((await client.append(session, "out", text)).status, 200);
};

/** The numbers of what was written; commands have numbers too, and are not shown. */
const numbers = async (session) => (await client.records(session, "out")).map(({ seqNum }) => String(seqNum));

/** Mounts `useSessionStream` with the session's own token. */
function stream({ externalId, publicAccessToken }, options = {}) {
  return mount(() => useSessionStream(externalId, { baseURL: server.url, accessToken: publicAccessToken, ...options }));
}
const has = (page, count) => page.until(({ records, error }) => error || records.length >= count, `${count} records`);

test("useSessionStream shows what was said and what is being said", async () => {
  const session = await start();
  await out(session.id, "one", "two");
  const batches = [];
  const page = stream(session, { onRecords: (parts) => batches.push(...parts.map(({ id }) => id)) });
  await has(page, 2);
  await out(session.id, "three");
  const { records, lastEventId, error } = await has(page, 3);
  page.unmount();
  assert.equal(error, undefined);
  assert.deepEqual(records, ["one", "two", "three"]);
  assert.deepEqual(batches, await numbers(session.id));
  assert.equal(lastEventId, batches.at(-1));
});

test("useSessionStream follows a turn and tells that it is complete", async () => {
  const session = await start("demo-agent");
  const controls = [];
  const page = stream(session, { onControl: ({ subtype }) => controls.push(subtype) });
  await sessions.open(session.id).in.send({ kind: "message", payload: { message: "hello hook", trigger: "submit-message" } });
  const { lastControl } = await page.until(({ lastControl }) => lastControl, "a control record");
  const said = ({ records }) => records.map((chunk) => chunk.delta ?? "").join("");
  await page.until((state) => /You said: “hello hook”/.test(said(state)), "the answer");
  page.unmount();
  assert.equal(lastControl.subtype, "turn-complete");
  assert.deepEqual(controls, ["turn-complete"]);
});

test("from latest begins with the newest record", async () => {
  const session = await start();
  await out(session.id, "old", "older news", "newest");
  const page = stream(session, { from: "latest" });
  await has(page, 1);
  await out(session.id, "live");
  const { records, lastEventId } = await has(page, 2);
  page.unmount();
  assert.deepEqual(records, ["newest", "live"]);
  assert.equal(lastEventId, (await numbers(session.id)).at(-1));
});

test("a page that comes back goes on after what it saw", async () => {
  const session = await start();
  await out(session.id, "a", "b", "c");
  const first = stream(session);
  const { lastEventId } = await has(first, 3);
  first.unmount();
  await out(session.id, "d");
  const second = stream(session, { lastEventId, from: "latest" });
  const { records } = await has(second, 1);
  second.unmount();
  assert.deepEqual(records, ["d"]);
});

test("a page keeps as many records as it wants", async () => {
  const session = await start();
  await out(session.id, "a", "b", "c", "d");
  const last = (await numbers(session.id)).at(-1);
  const page = stream(session, { maxRecords: 2 });
  const { records } = await page.until(({ lastEventId }) => lastEventId === last, "the last record");
  page.unmount();
  assert.deepEqual(records, ["c", "d"]);
});

test("a page may come before its session", async () => {
  const externalId = unique("early");
  const publicAccessToken = await auth.createPublicToken({ scopes: { read: { sessions: externalId } } });
  const page = stream({ externalId, publicAccessToken });
  await page.until(() => true, "the first render");
  const { id } = await sessions.start(sessionBody({ externalId }));
  await out(id, "here I am");
  const { records } = await has(page, 1);
  page.unmount();
  assert.deepEqual(records, ["here I am"]);
});

test("useSessionStreamChannel reads a named channel, either side of it", async () => {
  const session = await start();
  const tools = sessions.defineChannel("tools");
  const key = `${session.externalId}:channels:${tools.name}`;
  const accessToken = await auth.createPublicToken({ scopes: { read: { sessions: key } } });
  await client.append(session.id, "out", "step 1", { name: tools.name });
  await sessions.open(session.id).channel(tools).in.send({ approve: true });
  await out(session.id, "not for here");
  for (const [io, wanted] of [["out", ["step 1"]], ["in", ['{"approve":true}']], [undefined, ["step 1"]]]) {
    const options = { sessionId: session.externalId, io, baseURL: server.url, accessToken };
    const page = mount(() => useSessionStreamChannel(tools.name, options));
    const { records, error } = await has(page, 1);
    page.unmount();
    assert.equal(error, undefined);
    assert.deepEqual(records, wanted, String(io));
  }
  const latest = { sessionId: session.externalId, from: "latest", baseURL: server.url, accessToken };
  await client.append(session.id, "out", "step 2", { name: tools.name });
  const page = mount(() => useSessionStreamChannel(tools.name, latest));
  assert.deepEqual((await has(page, 1)).records, ["step 2"]);
  page.unmount();
});

test("another session's token shows an error and nothing else", async () => {
  const [mine, other] = await Promise.all([start(), start()]);
  await out(mine.id, "secret");
  const page = stream({ ...mine, publicAccessToken: other.publicAccessToken });
  const { error, records } = await page.until(({ error }) => error, "an error");
  page.unmount();
  assert.deepEqual([error.status, records], [403, []]);
});

test("a page that stops hears no more", async () => {
  const session = await start();
  await out(session.id, "a");
  const page = stream(session);
  await has(page, 1);
  page.current.stop();
  await out(session.id, "b");
  const other = stream(session);
  await has(other, 2);
  other.unmount();
  assert.deepEqual(page.current.records, ["a"]);
  page.unmount();
});
