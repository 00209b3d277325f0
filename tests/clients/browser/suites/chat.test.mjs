// A conversation in a browser: what a person sees, and what went over the wire for it.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { unique } from "../../node/support/http.mjs";
import { claimsOf, secondsAgo, sign } from "../../node/support/tokens.mjs";
import { startServer } from "../../node/support/server.mjs";
import { ChatPage, answersOf, startBrowser, turnCompleted } from "../support/browser.mjs";
import { Site } from "../support/site.mjs";

let server, site, browser;
before(async () => {
  server = await startServer("dev");
  site = await Site.start(server);
  browser = await startBrowser();
});
after(async () => {
  await browser?.close();
  site?.stop();
  await server?.stop();
});

/** A fresh visitor in a conversation of their own, with an agent that speaks this fast. */
async function visit(t, tokenDelayMs = 0) {
  site.tokenDelayMs = tokenDelayMs;
  site.asked = [];
  const context = await browser.newContext();
  t.after(() => context.close());
  const chatId = unique("chat");
  const chat = await ChatPage.open(context, site, chatId);
  return { context, chatId, chat, network: chat.network };
}

/** Slow enough that an answer is under way until it is stopped, whatever the machine is doing. */
const SLOW_MS = 150;

/** The answer under way ends where it is, as somebody else decides: what stands there is whole then. */
const hush = (chatId) => site.client.append(chatId, "in", JSON.stringify({ kind: "stop" }));

async function expiredToken(chatId) {
  const scopes = [`read:sessions:${chatId}`, `write:sessions:${chatId}`];
  const times = { iat: secondsAgo(100), exp: secondsAgo(10) };
  return sign(server.key, { ...(await claimsOf(site.client)), ...times, scopes });
}

test("a first message makes the session, and its answer streams into the page", async (t) => {
  const { chat, chatId, network } = await visit(t, 20);
  await chat.send("Hello from a browser");
  const part = await chat.whenSpeaking();
  const whole = await chat.whenAnswered();
  assert.ok(whole.startsWith(part) && whole.length > part.length, "it grew in front of the reader");
  assert.match(whole, /You said: “Hello from a browser”\. This is message 1 of this session/);
  assert.deepEqual(await chat.questions(), ["Hello from a browser"]);
  assert.deepEqual(await chat.answers(), await answersOf(site.client, chatId));
  assert.deepEqual(site.asked, ["/api/session"]);

  const [append] = network.appends();
  assert.equal(append.status, 200);
  assert.match(append.request["x-part-id"], /^[0-9a-f-]{36}$/);
  assert.equal(append.request["x-trigger-source"], "sdk");
  const [read] = network.reads();
  assert.equal(read.status, 200);
  assert.equal(read.request["timeout-seconds"], "120");
  assert.equal(read.request["x-peek-settled"], undefined, "an active send must wait for its answer");
  assert.equal(read.request["last-event-id"], undefined);
  assert.equal(read.response["content-type"], "text/event-stream");
});

test("the preflights of an append and of a subscription say what a browser needs and ask for no key", async (t) => {
  const { chat, network } = await visit(t);
  await chat.ask("Hello");
  for (const [ending, wanted] of [
    ["/in/append", ["authorization", "content-type", "x-part-id", "x-trigger-source"]],
    ["/out", ["authorization", "timeout-seconds"]],
  ]) {
    const [preflight] = network.to(ending, { preflight: true });
    const asked = preflight.request["access-control-request-headers"];
    for (const name of wanted) assert.ok(asked.split(",").includes(name), `${name} in ${asked}`);
    assert.equal(preflight.request.authorization, undefined);
    assert.equal(preflight.status, 200);
    assert.equal(preflight.response["access-control-allow-origin"], site.origin);
    assert.equal(preflight.response["access-control-allow-headers"], asked);
    assert.equal(preflight.response["access-control-allow-methods"], "GET,HEAD,PUT,PATCH,POST,DELETE");
    assert.equal(preflight.response["access-control-max-age"], "300");
    assert.equal(preflight.response["access-control-allow-credentials"], undefined);
    assert.match(preflight.response.vary, /Origin/i);
    const [real] = network.to(ending);
    assert.equal(real.response["access-control-allow-origin"], site.origin);
    assert.match(real.response.vary, /Origin/i);
  }
  assert.equal(network.reads()[0].response["access-control-expose-headers"], "*");
});

test("a second turn goes on in the same session, after what was read", async (t) => {
  const { chat, chatId, network } = await visit(t);
  await chat.ask("One");
  const { lastEventId } = await chat.stored(chatId);
  const second = await chat.ask("Two");
  assert.match(second, /You said: “Two”\. This is message 2 of this session/);
  assert.deepEqual(await chat.questions(), ["One", "Two"]);
  assert.deepEqual(await chat.answers(), await answersOf(site.client, chatId));
  assert.equal(network.reads()[1].request["last-event-id"], lastEventId);
  assert.equal(new Set(network.appends().map((call) => call.request["x-part-id"])).size, 2);
  assert.deepEqual(site.asked, ["/api/session"], "the session is known and its token good");
});

test("a reload in mid-answer goes on, without loss or repeat", async (t) => {
  const { chat, chatId, network } = await visit(t, SLOW_MS);
  await chat.send("Tell me more");
  const before = await chat.whenSpeaking();
  const { lastEventId } = await chat.stored(chatId);
  network.clear();
  await chat.reload();
  await chat.whenLonger(before);
  await hush(chatId);
  await chat.whenAnswered();
  assert.deepEqual(await chat.questions(), ["Tell me more"]);
  assert.deepEqual(await chat.answers(), await answersOf(site.client, chatId));
  assert.equal(network.appends().length, 0, "nothing is sent again");
  assert.equal(network.reads().length, 1);
  assert.equal(network.reads()[0].request["last-event-id"], lastEventId, "from where the turn began");
  await chat.send("And?");
  assert.match(await chat.whenSpeaking(1), /^You said: “And\?”/);
});

test("who comes back when the answer is over gets all of it at once", async (t) => {
  const { chat, chatId, context } = await visit(t, 20);
  await chat.send("I have to go");
  await chat.whenSpeaking();
  const kept = await chat.stored(chatId);
  await chat.page.close();
  await turnCompleted(site.client, chatId);
  const back = await ChatPage.open(context, site, chatId);
  await back.whenAnswered();
  assert.equal(kept.isStreaming, true);
  assert.deepEqual(await back.answers(), await answersOf(site.client, chatId));
  assert.equal((await back.stored(chatId)).isStreaming, false);
});

test("a page that cannot know whether its turn is over is told so: X-Session-Settled ends the wait", async (t) => {
  const { chat, chatId, network } = await visit(t);
  await chat.ask("Hello");
  await chat.stored(chatId, { isStreaming: true });
  network.clear();
  await chat.reload();
  const read = await network.answered(network.reads);
  assert.equal(read.request["x-peek-settled"], "1");
  assert.equal(read.response["x-session-settled"], "true");
  await chat.when((key) => JSON.parse(localStorage.getItem(key)).isStreaming === false, `${chatId}/session`);
  assert.equal((await chat.answers()).length, 1);
  assert.match(await chat.ask("Still there?"), /message 2 of this session/);
});

test("stop ends the answer where it is, and the next one begins anew", async (t) => {
  const { chat, chatId } = await visit(t, SLOW_MS);
  await chat.send("A long story");
  await chat.whenSpeaking();
  await chat.stop();
  await chat.whenAnswered();
  const inputs = (await site.client.records(chatId, "in")).map(({ data }) => JSON.parse(data));
  assert.deepEqual(inputs.map(({ kind }) => kind), ["message", "stop"]);
  await chat.send("Something else");
  assert.match(await chat.whenSpeaking(1), /^You said: “Something else”/, "nothing of the stopped one comes after it");
  await chat.stop();
  await chat.whenAnswered(1);
  const said = await answersOf(site.client, chatId);
  for (const [n, seen] of (await chat.answers()).entries()) {
    assert.ok(said[n].startsWith(seen), "what the person saw is what stands there");
    assert.doesNotMatch(said[n], /hand over to the next\.$/, "the agent did not speak to the end");
  }
});

test("an append with a token that has expired is a 401; the page asks for another one, once, and goes on", async (t) => {
  const { chat, chatId, network } = await visit(t);
  site.firstToken = await expiredToken(chatId);
  assert.match(await chat.ask("Hello"), /message 1 of this session/);
  assert.deepEqual(network.appends().map(({ status }) => status), [401, 200]);
  const [refused, accepted] = network.appends();
  assert.equal(refused.response["access-control-allow-origin"], site.origin, "or the page could not tell why");
  assert.equal(accepted.request["x-part-id"], refused.request["x-part-id"], "it is one message");
  assert.deepEqual(site.asked, ["/api/session", "/api/token"]);
  assert.deepEqual(await chat.questions(), ["Hello"]);
});

test("a subscription with a token that has expired is a 401; the page asks for another one, once, and goes on", async (t) => {
  const { chat, chatId, network } = await visit(t, SLOW_MS);
  await chat.send("Tell me more");
  const before = await chat.whenSpeaking();
  await chat.stored(chatId, { publicAccessToken: await expiredToken(chatId) });
  network.clear();
  await chat.reload();
  await chat.whenLonger(before);
  await hush(chatId);
  await chat.whenAnswered();
  assert.deepEqual(network.reads().map(({ status }) => status), [401, 200]);
  assert.deepEqual(await chat.answers(), await answersOf(site.client, chatId));
  assert.deepEqual(site.asked, ["/api/session", "/api/token"]);
});

test("a session that is gone is started anew by the page", async (t) => {
  const { chat, chatId, network } = await visit(t);
  await chat.ask("Hello");
  const deleted = await site.client.call("DELETE", `/api/v1/sessions/${chatId}`);
  assert.ok(deleted.status < 300, deleted.text);
  network.clear();
  assert.match(await chat.ask("Again"), /You said: “Again”\. This is message 1 of this session/);
  // Its token is good for the one session that is gone; one by name finds none. Both are told apart from a fault.
  assert.deepEqual(network.appends().map(({ status }) => status), [403, 404, 200]);
  assert.deepEqual(site.asked, ["/api/session", "/api/token", "/api/session"]);
});

test("a closed session is shown as closed, with its reason", async (t) => {
  const { chat, chatId, network } = await visit(t);
  await chat.ask("Hello");
  await site.client.call("POST", `/api/v1/sessions/${chatId}/close`, { json: { reason: "The ticket is solved." } });
  network.clear();
  await chat.send("One more thing");
  assert.equal(await chat.closedNote(), "This conversation is closed. The ticket is solved.");
  assert.match(await chat.alert(), /409.*session_closed/);
  assert.equal(await chat.input.isDisabled(), true);
  assert.deepEqual(network.appends().map(({ status }) => status), [409], "it is not tried again");
  await chat.reload();
  assert.equal(await chat.closedNote(), "This conversation is closed. The ticket is solved.");
  assert.equal((await answersOf(site.client, chatId)).length, 1);
});

test("two tabs of one visitor take turns in one conversation", async (t) => {
  const { chat, chatId, context } = await visit(t, SLOW_MS);
  const other = await ChatPage.open(context, site, chatId);
  await chat.send("From the first tab");
  await chat.whenSpeaking();
  await other.page.getByRole("note").waitFor();
  assert.equal(await other.input.isDisabled(), true, "one tab speaks at a time");
  await hush(chatId);
  const first = await chat.whenAnswered();
  await other.page.getByRole("note").waitFor({ state: "detached" });
  await other.whenAnswers([first]);
  await other.reload();
  await other.send("From the second tab");
  await other.whenSpeaking(1);
  await hush(chatId);
  await other.whenAnswered(1);
  assert.deepEqual(await other.questions(), ["From the first tab", "From the second tab"]);
  const answers = await answersOf(site.client, chatId);
  assert.deepEqual(await other.answers(), answers);
  await chat.whenAnswers(answers);
});

test("somebody who watches on another machine reads the same answer as it is spoken", async (t) => {
  const { chat, chatId } = await visit(t, SLOW_MS);
  await site.begin(chatId);
  const elsewhere = await browser.newContext();
  t.after(() => elsewhere.close());
  const watcher = await ChatPage.open(elsewhere, site, chatId, { watch: true });
  await watcher.network.answered(watcher.network.reads);
  await chat.send("For both of us");
  await Promise.all([chat.whenSpeaking(), watcher.whenSpeaking()]);
  await hush(chatId);
  await watcher.whenAnswers([await chat.whenAnswered()]);
  assert.equal(watcher.network.appends().length, 0);
});
