// What a page does when its token or its session is over: refresh, start again, or stop.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Agent, PLAYED, begin, end, words } from "../support/agent.mjs";
import { Page, textOf, use } from "../support/chat.mjs";
import { service } from "../support/grpc.mjs";
import { Client, unique } from "../support/http.mjs";
import { errorOf } from "../support/sdk.mjs";
import { startServer } from "../support/server.mjs";
import { claimsOf, scoped, secondsAgo, sign } from "../support/tokens.mjs";
import { until, within } from "../support/wait.mjs";

let server;
let client;
before(async () => {
  use((server = await startServer("serve")));
  client = new Client(server);
});
after(() => server?.stop());

function open(t, options = {}) {
  const id = options.id ?? unique("access");
  const agent = new Agent(server, id);
  const page = new Page(server, { task: PLAYED, id, ...options });
  t.after(() => (page.close(), agent.close()));
  return { agent, page };
}

/** A message and its answer. */
async function turn({ agent, page }, text, answer, headers) {
  const sending = page.chat.sendMessage({ text });
  await agent.answer(await agent.next(), answer, headers);
  await within(sending, "the turn");
  assert.equal(page.chat.error, undefined);
  assert.match(page.text, new RegExp(`${answer}$`));
}

const sendsOf = (page) => page.requests.filter(({ endpoint }) => endpoint === "in");
const expired = async (...scopes) =>
  sign(server.key, { ...(await claimsOf(client)), scopes, iat: secondsAgo(7_200), exp: secondsAgo(3_600) });

test("an expired token is renewed once, and the message is sent once", async (t) => {
  const id = unique("access");
  await client.createSession({ externalId: id, taskIdentifier: PLAYED });
  const publicAccessToken = await expired(`read:sessions:${id}`, `write:sessions:${id}`);
  const { agent, page } = open(t, { id, stored: { publicAccessToken } });
  await turn({ agent, page }, "hello", "Hello.");
  assert.equal(page.refreshed, 1);
  assert.equal(page.started, 0);
  const [refused, sent] = sendsOf(page);
  assert.equal(sent.headers.get("x-part-id"), refused.headers.get("x-part-id"));
  assert.equal((await client.records(id, "in")).length, 1);
  assert.notEqual(page.stored.publicAccessToken, publicAccessToken);
});

test("a token for another chat is renewed too", async (t) => {
  const id = unique("access");
  await client.createSession({ externalId: id, taskIdentifier: PLAYED });
  const publicAccessToken = await scoped(client, "read:sessions:other", "write:sessions:other");
  const chat = open(t, { id, stored: { publicAccessToken } });
  await turn(chat, "hello", "Hello.");
  assert.equal(chat.page.refreshed, 1);
});

test("a page that comes back with an expired token renews it and reads on", async (t) => {
  const { agent, page } = open(t);
  const sending = page.chat.sendMessage({ text: "tell me" });
  const input = await agent.next();
  await agent.say(...begin("m"), ...words("m", "Once upon "));
  await until(() => page.text === "Once upon ", "the beginning");
  const stored = { ...page.stored, publicAccessToken: await expired(`read:sessions:${page.id}`) };
  const again = open(t, { id: page.id, stored, messages: page.chat.messages.slice(0, 1) }).page;
  const resuming = again.chat.resumeStream();
  await until(() => again.text === "Once upon ", "the beginning");
  await agent.say(...words("m", "a time."), ...end("m"));
  await agent.turnComplete(input);
  await within(Promise.all([sending, resuming]), "the turn");
  assert.equal(again.text, "Once upon a time.");
  assert.equal(again.refreshed, 1);
});

test("tokens that were revoked are renewed with the next message", async (t) => {
  const chat = open(t);
  await turn(chat, "one", "First.");
  const tokens = service(server, "TokenService");
  t.after(() => tokens.close());
  await tokens.call("RevokeTokens", { session: chat.page.id });
  const old = new Client(server, chat.page.stored.publicAccessToken);
  const look = () => old.call("GET", `/api/v1/sessions/${chat.page.id}`);
  await until(async () => (await look()).status === 401, "the end of the token");
  await turn(chat, "two", "Second.");
  assert.equal(chat.page.refreshed, 1);
});

test("tokens that are revoked in the middle of an answer are renewed, and the answer goes on", async (t) => {
  const { agent, page } = open(t);
  const sending = page.chat.sendMessage({ text: "tell me" });
  const input = await agent.next();
  await agent.say(...begin("m"), ...words("m", "Once upon "));
  await until(() => page.text === "Once upon ", "the beginning");
  const streams = () => page.requests.filter(({ endpoint }) => endpoint === "out");
  const before = streams().length;
  const tokens = service(server, "TokenService");
  t.after(() => tokens.close());
  await tokens.call("RevokeTokens", { session: page.id });
  await until(() => page.refreshed > 0, "the renewal");
  await agent.say(...words("m", "a time."), ...end("m"));
  await agent.turnComplete(input);
  await within(sending, "the turn");
  assert.equal(page.text, "Once upon a time.");
  assert.equal(page.chat.error, undefined);
  assert.equal(page.refreshed, 1);
  const [refused, renewed] = streams().slice(before);
  assert.equal(refused.headers.get("last-event-id"), renewed.headers.get("last-event-id"));
  assert.notEqual(refused.headers.get("authorization"), renewed.headers.get("authorization"));
});

test("a token that nobody can renew is the user's to see", async (t) => {
  const { page } = open(t, { stored: { publicAccessToken: "broken" }, accessToken: async () => "broken too" });
  await within(page.chat.sendMessage({ text: "hello" }), "the refusal");
  assert.equal(page.chat.status, "error");
  assert.equal(page.chat.error.status, 401);
  assert.equal(sendsOf(page).length, 2, "one retry");
});

test("the turn's own token replaces the page's", async (t) => {
  const chat = open(t);
  const token = await scoped(client, `read:sessions:${chat.page.id}`, `write:sessions:${chat.page.id}`);
  await turn(chat, "one", "First.", [["public-access-token", token]]);
  assert.equal(chat.page.stored.publicAccessToken, token);
  await turn(chat, "two", "Second.");
  assert.equal(sendsOf(chat.page)[1].headers.get("authorization"), `Bearer ${token}`);
  assert.equal(chat.page.refreshed, 0);
});

test("a session that is not there is started, and the message sent again", async (t) => {
  const id = unique("gone");
  const publicAccessToken = await scoped(client, `read:sessions:${id}`, `write:sessions:${id}`);
  const chat = open(t, { id, stored: { publicAccessToken, lastEventId: "41" } });
  await turn(chat, "hello", "Hello.");
  assert.equal(chat.page.started, 1);
  assert.equal((await client.records(id, "in")).length, 1);
  const [read] = chat.page.requests.filter(({ endpoint }) => endpoint === "out");
  assert.equal(read.headers.get("last-event-id"), null, "a place in another stream counts for nothing");
});

test("without a way to start it, a missing session is the user's to see", async (t) => {
  const id = unique("gone");
  const publicAccessToken = await scoped(client, `write:sessions:${id}`);
  const { page } = open(t, { id, stored: { publicAccessToken }, startSession: undefined });
  await within(page.chat.sendMessage({ text: "hello" }), "the refusal");
  assert.match(page.chat.error.message, /session not found/);
  assert.equal(sendsOf(page).length, 1);
});

test("a conversation closed from outside takes no more messages, and says why", async (t) => {
  const chat = open(t);
  await turn(chat, "one", "First.");
  await client.call("POST", `/api/v1/sessions/${chat.page.id}/close`, { json: { reason: "ticket solved" } });
  const { page } = chat;
  await within(page.chat.sendMessage({ text: "two" }), "the refusal");
  assert.equal(page.chat.error.code, "session_closed");
  assert.equal(page.transport.sessionStatus(page.id), "closed");
  assert.equal(page.transport.sessionClosedReason(page.id), "ticket solved");
  assert.equal(page.stored.closed, true);
  const sends = sendsOf(page).length;
  assert.equal(sends, 2, "refused at once, without a retry");
  await page.chat.sendMessage({ text: "three" });
  assert.match(page.chat.error.message, /is closed: ticket solved/);
  assert.equal(await page.transport.stopGeneration(page.id), false);
  assert.equal((await errorOf(page.transport.sendAction(page.id, { type: "undo" }))).code, "session_closed");
  assert.equal(sendsOf(page).length, sends, "the server is not asked again");
  assert.deepEqual([page.started, page.refreshed], [1, 0]);

  const again = open(t, { id: page.id, stored: page.stored }).page;
  assert.equal(await again.transport.reconnectToStream({ chatId: page.id }), null);
  assert.equal(again.requests.length, 0, "nor by the next page");
});

test("a turn may carry the close, or the close may come by itself", async (t) => {
  const chat = open(t);
  await turn(chat, "bye", "Goodbye.", [["session-closed", "true"], ["session-closed-reason", "done"]]);
  assert.equal(chat.page.transport.sessionStatus(chat.page.id), "closed");
  assert.equal(chat.page.transport.sessionClosedReason(chat.page.id), "done");

  const other = open(t);
  const sending = other.page.chat.sendMessage({ text: "hello" });
  await other.agent.next();
  await other.agent.say(...begin("m"), ...words("m", "No."), ...end("m"));
  await other.agent.control("session-closed", [["session-closed-reason", "abuse"]]);
  await within(sending, "the end");
  assert.equal(other.page.transport.sessionClosedReason(other.page.id), "abuse");
  assert.deepEqual(other.page.chat.messages.map(textOf), ["hello", "No."]);
});

test("control records that a page does not show are passed over", async (t) => {
  const { agent, page } = open(t);
  const sending = page.chat.sendMessage({ text: "hello" });
  const input = await agent.next();
  await agent.control("pending-version");
  await agent.control("upgrade-required");
  await agent.say({ type: "trigger:something-new" });
  await agent.answer(input, "Hello.");
  await within(sending, "the turn");
  assert.deepEqual(page.chat.messages.map(textOf), ["hello", "Hello."]);
  const events = new Set(page.events.map(({ type }) => type));
  assert.ok(events.has("run-pending-version") && events.has("turn-completed") && !events.has("stream-error"));
});

test("an older agent ends its turns with data", async (t) => {
  const { agent, page } = open(t);
  const token = await scoped(client, `read:sessions:${page.id}`, `write:sessions:${page.id}`);
  const sending = page.chat.sendMessage({ text: "hello" });
  await agent.next();
  await agent.say(...begin("m"), ...words("m", "Hi."), ...end("m"));
  await agent.say({ type: "trigger:turn-complete", publicAccessToken: token });
  await within(sending, "the turn");
  assert.equal(page.text, "Hi.");
  assert.equal(page.stored.publicAccessToken, token);

  const stored = { publicAccessToken: token, isStreaming: true };
  const again = open(t, { id: page.id, stored, messages: page.chat.messages.slice(0, 1) }).page;
  const stream = await again.transport.reconnectToStream({ chatId: page.id });
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  assert.equal(chunks.length, 7);
});
