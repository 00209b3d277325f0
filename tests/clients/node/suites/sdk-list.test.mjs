// `sessions.list` of the published SDK: every filter, and pages in both directions.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Client, sessionBody, unique } from "../support/http.mjs";
import { as, errorOf, requestsOf, sessions, use } from "../support/sdk.mjs";
import { startServer } from "../support/server.mjs";

let server;
let made;
before(async () => {
  use((server = await startServer("serve")));
  const start = (more) => sessions.start(sessionBody({ externalId: unique("l"), ...more }));
  made = {};
  // One after the other: the order of the list is the order of creation.
  made.chat = await start({ tags: ["red", "blue"] });
  made.other = await start({ type: "other", tags: ["blue"] });
  made.task = await start({ taskIdentifier: "second-task", tags: ["green"] });
  made.third = await start({ type: "third", taskIdentifier: "third-task" });
  made.closed = await start({ tags: ["red"] });
  await sessions.close(made.closed.id);
  const { id } = await new Client(server).expiredSession();
  made.expired = await sessions.retrieve(id);
});
after(() => server?.stop());

/** The names in `made`, newest first, that the list holds. */
async function names(options) {
  const byId = new Map(Object.entries(made).map(([name, session]) => [session.id, name]));
  const found = [];
  for await (const item of sessions.list(options)) found.push(byId.get(item.id));
  return found;
}

const ALL = ["expired", "closed", "third", "task", "other", "chat"];

test("without a filter the list is everything, newest first", async () => {
  assert.deepEqual(await names(), ALL);
});

test("an item is the session without its trigger config", async () => {
  const [item] = (await sessions.list({ externalId: made.chat.externalId })).data;
  assert.equal(item.id, made.chat.id);
  assert.equal(item.currentRunId, made.chat.runId);
  assert.deepEqual(item.tags, ["red", "blue"]);
  assert.ok(!("triggerConfig" in item));
});

test("by type", async () => {
  assert.deepEqual(await names({ type: "other" }), ["other"]);
  assert.deepEqual(await names({ type: ["other", "third"] }), ["third", "other"]);
  assert.deepEqual(await names({ type: "none" }), []);
});

test("by tag, any of several", async () => {
  assert.deepEqual(await names({ tag: "blue" }), ["other", "chat"]);
  assert.deepEqual(await names({ tag: ["red", "green"] }), ["closed", "task", "chat"]);
});

test("by task", async () => {
  assert.deepEqual(await names({ taskIdentifier: "second-task" }), ["task"]);
  assert.deepEqual(await names({ taskIdentifier: ["second-task", "third-task"] }), ["third", "task"]);
});

test("by name", async () => {
  assert.deepEqual(await names({ externalId: made.third.externalId }), ["third"]);
  assert.deepEqual(await names({ externalId: "nobody" }), []);
});

test("by status", async () => {
  assert.deepEqual(await names({ status: "CLOSED" }), ["closed"]);
  assert.deepEqual(await names({ status: "EXPIRED" }), ["expired"]);
  assert.deepEqual(await names({ status: "ACTIVE" }), ["third", "task", "other", "chat"]);
  assert.deepEqual(await names({ status: ["ACTIVE", "CLOSED"] }), ["closed", "third", "task", "other", "chat"]);
});

test("by time of creation, both ends included", async () => {
  const at = (session) => session.createdAt.getTime();
  assert.deepEqual(await names({ from: at(made.closed) }), ALL.filter((name) => at(made[name]) >= at(made.closed)));
  assert.deepEqual(await names({ to: at(made.other) }), ALL.filter((name) => at(made[name]) <= at(made.other)));
  assert.deepEqual(await names({ from: made.chat.createdAt, to: made.expired.createdAt }), ALL);
  assert.deepEqual(await names({ period: "1h" }), ALL);
  assert.deepEqual(await names({ to: at(made.chat) - 1 }), []);
});

test("filters together narrow", async () => {
  assert.deepEqual(await names({ tag: "red", status: "ACTIVE" }), ["chat"]);
  assert.deepEqual(await names({ type: "chat.agent", taskIdentifier: "second-task" }), ["task"]);
});

test("the iterator walks every page once", async () => {
  for (const limit of [1, 2, 3, 4, 5, 6, 7]) {
    assert.deepEqual(await names({ limit }), ALL, `limit ${limit}`);
  }
});

test("pages lead there and back", async () => {
  const ids = (page) => page.data.map((item) => item.id);
  const first = await sessions.list({ limit: 2 });
  assert.equal(first.hasPreviousPage(), false);
  const second = await first.getNextPage();
  const third = await second.getNextPage();
  assert.deepEqual([first, second, third].flatMap(ids), ALL.map((name) => made[name].id));
  assert.equal(third.hasNextPage(), false);
  // The SDK's own getPreviousPage sends the old `after` along, which every server refuses once one has gone forward.
  const back = await sessions.list({ limit: 2, before: third.pagination.previous });
  assert.deepEqual(ids(back), ids(second), "the page before, newest first");
  assert.deepEqual(ids(await back.getPreviousPage()), ids(first));
  const forward = await sessions.list({ limit: 2, after: back.pagination.next });
  assert.deepEqual(ids(forward), ids(third));
});

test("a page from a cursor, and one that does not exist", async () => {
  const ids = (page) => page.data.map((item) => item.id);
  const all = (await sessions.list({ limit: 100 })).data.map(({ id }) => id);
  assert.equal(all.length, ALL.length);
  const { pagination } = await sessions.list({ limit: 3 });
  assert.deepEqual(ids(await sessions.list({ limit: 100, after: pagination.next })), all.slice(3));
  const back = await sessions.list({ limit: 100, before: (await sessions.list({ after: pagination.next })).pagination.previous });
  assert.deepEqual(ids(back), all.slice(0, 3));
  for (const options of [{ limit: 101 }, { status: "OPEN" }, { after: pagination.next, before: pagination.next }, { after: "nonsense" }]) {
    const { result: error, sent } = await requestsOf(() => errorOf(sessions.list(options)));
    assert.deepEqual([error.status, sent], [400, 1], JSON.stringify(options));
    assert.equal(error.message, "Query Error");
  }
});

test("a page keeps its filter", async () => {
  const first = await sessions.list({ limit: 1, tag: ["red", "green"], status: ["ACTIVE", "CLOSED"] });
  const second = await first.getNextPage();
  const third = await second.getNextPage();
  const found = [first, second, third].map(({ data: [{ id }] }) => id);
  assert.deepEqual(found, [made.closed.id, made.task.id, made.chat.id]);
  assert.equal(third.hasNextPage(), false);
});

test("another environment has its own list", async () => {
  await as(server, server.otherKey, async () => {
    assert.deepEqual((await sessions.list()).data, []);
    assert.equal((await errorOf(sessions.retrieve(made.chat.id))).status, 404);
  });
});
