// A conversation in a browser: the SDK's transport under the AI SDK's chat, with the demo agent on the other side.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Page, textOf, use } from "../support/chat.mjs";
import { Client, unique } from "../support/http.mjs";
import { startServer } from "../support/server.mjs";
import { within } from "../support/wait.mjs";

let server;
let client;
before(async () => {
  use((server = await startServer("dev")));
  client = new Client(server);
});
after(() => server?.stop());

function open(t, options) {
  const page = new Page(server, options);
  t.after(() => page.close());
  return page;
}

const send = (page, text) => within(page.chat.sendMessage({ text }), "the turn");
const sessionOf = async (page) => (await client.call("GET", `/api/v1/sessions/${page.id}`)).body;

test("the first message starts the session, and the answer is a message of the assistant", async (t) => {
  const page = open(t, { clientData: { userId: "u1" } });
  await send(page, "hello there");
  assert.equal(page.chat.status, "ready");
  assert.equal(page.chat.error, undefined);
  assert.equal(page.started, 1);
  const [question, answer] = page.chat.messages;
  assert.equal(textOf(question), "hello there");
  assert.equal(answer.role, "assistant");
  assert.match(textOf(answer), /^You said: “hello there”\. This is message 1 .* hand over to the next\.$/s);
  assert.deepEqual(answer.parts.filter((part) => part.type === "text").map((part) => part.state), ["done"]);
  const session = await sessionOf(page);
  assert.equal(answer.metadata.runId, session.currentRunId);
  assert.deepEqual(session.triggerConfig.basePayload.metadata, { userId: "u1" });
  const sent = page.requests.map(({ endpoint, method, path }) => `${endpoint} ${method} ${path}`);
  const path = `/realtime/v1/sessions/${page.id}`;
  assert.deepEqual(sent, [`in POST ${path}/in/append`, `out GET ${path}/out`]);
});

test("every turn goes on after the last, and nothing is said twice", async (t) => {
  const page = open(t);
  for (const text of ["one", "two", "three", "four"]) await send(page, text);
  assert.equal(page.started, 1);
  assert.equal(page.chat.messages.length, 8);
  const answers = page.chat.messages.filter((message) => message.role === "assistant");
  for (const [at, text] of ["one", "two", "three", "four"].entries()) {
    assert.match(textOf(answers[at]), new RegExp(`^You said: “${text}”\\. This is message ${at + 1} `));
  }
  assert.equal(new Set(answers.map((answer) => answer.id)).size, 4);
  const reads = page.requests.filter(({ endpoint }) => endpoint === "out");
  assert.equal(reads.length, 4, "one subscription a turn");
  assert.equal(reads[0].headers.get("last-event-id"), null);
  const cursors = reads.slice(1).map(({ headers }) => Number(headers.get("last-event-id")));
  assert.deepEqual(cursors, cursors.toSorted((a, b) => a - b));
  const asks = reads.filter(({ headers }) => headers.has("x-peek-settled"));
  assert.deepEqual(asks, [], "an active send does not ask whether it is settled");
});

test("an answer is given anew on regenerate", async (t) => {
  const page = open(t);
  await send(page, "again please");
  const first = page.chat.lastMessage;
  await within(page.chat.regenerate(), "the turn");
  assert.equal(page.chat.messages.length, 2);
  assert.equal(page.chat.lastMessage.role, "assistant");
  assert.notEqual(page.chat.lastMessage.id, first.id);
  assert.match(page.text, /^You said: “again please”\. This is message 1 /);
  assert.equal(page.chat.status, "ready");
  const [, again] = await client.records(page.id, "in");
  const { kind, payload } = JSON.parse(again.data);
  assert.equal(kind, "message");
  assert.equal(payload.trigger, "regenerate-message");
  assert.equal("message" in payload, false, "the agent has the history");
});

test("preload starts the session once, before there is a message", async (t) => {
  const page = open(t);
  await Promise.all([page.transport.preload(page.id), page.transport.preload(page.id)]);
  assert.equal(page.started, 1);
  assert.match((await sessionOf(page)).currentRunId, /^run_/);
  await send(page, "ready?");
  assert.equal(page.started, 1);
  assert.match(page.text, /“ready\?”/);
});

test("an action is a turn of its own on .in, and its stream ends with the turn", async (t) => {
  const page = open(t);
  await send(page, "first");
  const settled = [];
  const onSettled = (event) => settled.push(event);
  const stream = await page.transport.sendAction(page.id, { type: "undo" }, { onSettled });
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  assert.equal(chunks.at(-1).type, "finish");
  const [, action] = await client.records(page.id, "in");
  const { payload } = JSON.parse(action.data);
  assert.equal(payload.trigger, "action");
  assert.deepEqual(payload.action, { type: "undo" });
  assert.deepEqual(settled.map(({ inputSeq, sessionInEventId }) => [inputSeq, sessionInEventId]), [[1, "1"]]);
});

test("headers of the page travel along, and the two channels may have hosts of their own", async (t) => {
  const urls = [];
  const page = open(t, {
    headers: { "x-page": "7" },
    baseURL: ({ endpoint, chatId }) => (urls.push(`${endpoint} ${chatId}`), `${server.url}/`),
    streamBaseURL: server.url.replace("127.0.0.1", "localhost"),
  });
  await send(page, "hello");
  assert.match(page.text, /“hello”/);
  assert.ok(page.requests.every(({ headers }) => headers.get("x-page") === "7"));
  assert.deepEqual([...new Set(urls)], [`in ${page.id}`], "reads go to the other host");
  const [record] = await client.records(page.id, "in");
  assert.match(record.id, /^[0-9a-f-]{36}$/, "the part id is the transport's own");
});

test("a name with everything in it is one conversation", async (t) => {
  const page = open(t, { id: unique("a/b c:d/ü?#%41") });
  await send(page, "one");
  await send(page, "two");
  assert.match(page.text, /“two”\. This is message 2 /);
});

test("when the run was cancelled the next message is answered by a new one", async (t) => {
  const page = open(t);
  await send(page, "first");
  const { currentRunId } = await sessionOf(page);
  await client.call("POST", `/api/v2/runs/${currentRunId}/cancel`);
  await send(page, "second");
  assert.match(page.text, new RegExp(`took over from ${currentRunId}`));
  assert.equal(page.started, 1);
});

test("a handover to another run is not seen", async (t) => {
  const page = open(t);
  await send(page, "upgrade");
  const { currentRunId } = await sessionOf(page);
  await send(page, "who is there?");
  assert.equal(page.chat.messages.length, 4);
  assert.equal(page.chat.lastMessage.metadata.runId, (await sessionOf(page)).currentRunId);
  assert.equal(page.chat.error, undefined);
  assert.match(currentRunId, /^run_/);
});
