// A page goes away and comes back, stops, or is open twice: the transport against an agent that the test plays.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Agent, PLAYED, begin, end, words } from "../support/agent.mjs";
import { Page, textOf, use } from "../support/chat.mjs";
import { unique } from "../support/http.mjs";
import { startServer } from "../support/server.mjs";
import { until, within } from "../support/wait.mjs";

let server;
before(async () => use((server = await startServer("serve"))));
after(() => server?.stop());

/** A page, and the agent it talks to. */
function open(t, options = {}) {
  const id = unique("reload");
  const agent = new Agent(server, id);
  t.after(() => agent.close());
  return { agent, page: track(t, new Page(server, { task: PLAYED, id, ...options })) };
}

function track(t, page) {
  t.after(() => page.close());
  return page;
}

const shows = (page, text) => until(() => page.text === text, `“${text}” (there is “${page.text}”)`);
const readsOf = (page) => page.requests.filter(({ endpoint }) => endpoint === "out");
const texts = (page) => page.chat.messages.map(textOf);

test("a reload in mid-answer shows the whole answer, once", async (t) => {
  const { agent, page } = open(t);
  const sending = page.chat.sendMessage({ text: "tell me" });
  const input = await agent.next();
  await agent.say(...begin("m"), ...words("m", "Once upon "));
  await shows(page, "Once upon ");
  assert.equal(page.chat.status, "streaming");

  const again = track(t, page.reload(server, { messages: page.chat.messages.slice(0, 1) }));
  page.close();
  const resuming = again.chat.resumeStream();
  await shows(again, "Once upon ");
  await agent.say(...words("m", "a time."), ...end("m"));
  await agent.turnComplete(input);
  await within(resuming, "the end of the turn");
  assert.deepEqual(texts(again), ["tell me", "Once upon a time."]);
  assert.equal(again.chat.status, "ready");
  const [read] = readsOf(again);
  assert.equal(read.headers.get("x-peek-settled"), null, "its own message is known to be in flight");
  await within(sending, "the first page's end");
});

test("a reload between two turns goes on after the first", async (t) => {
  const { agent, page } = open(t);
  const first = page.chat.sendMessage({ text: "one" });
  await agent.answer(await agent.next(), "First.");
  await within(first, "the turn");
  const again = track(t, page.reload(server));
  const nothing = await again.transport.reconnectToStream({ chatId: again.id });
  assert.equal(nothing, null, "it knows that nothing is under way");
  const second = again.chat.sendMessage({ text: "two" });
  await agent.answer(await agent.next(), "Second.");
  await within(second, "the turn");
  assert.deepEqual(texts(again), ["one", "First.", "two", "Second."]);
  assert.equal(again.started, 0, "with the token it kept");
});

test("a page that does not know whether the turn is over hears it at once", async (t) => {
  const { agent, page } = open(t);
  const first = page.chat.sendMessage({ text: "one" });
  await agent.answer(await agent.next(), "First.");
  await within(first, "the turn");
  const { publicAccessToken, lastEventId } = page.stored;
  const stored = { publicAccessToken, lastEventId, isStreaming: true };
  const again = track(t, new Page(server, { task: PLAYED, id: page.id, stored, messages: page.chat.messages }));
  await within(again.chat.resumeStream(), "the end");
  assert.deepEqual(texts(again), ["one", "First."]);
  assert.equal(again.chat.status, "ready");
  const reads = readsOf(again);
  assert.equal(reads.length, 1, "no second look");
  assert.equal(reads[0].headers.get("x-peek-settled"), "1");
  assert.equal(again.stored.isStreaming, false);
});

test("a page that missed the end of the turn gets it, and the stream ends", async (t) => {
  const { agent, page } = open(t);
  const sending = page.chat.sendMessage({ text: "one" });
  const input = await agent.next();
  await agent.say(...begin("m"), ...words("m", "Half "));
  await shows(page, "Half ");
  const stored = { ...page.stored, activeInputSeq: undefined };
  page.close();
  await agent.say(...words("m", "and half."), ...end("m"));
  await agent.turnComplete(input);
  const messages = page.chat.messages.slice(0, 1);
  const again = track(t, new Page(server, { task: PLAYED, id: page.id, stored, messages }));
  await within(again.chat.resumeStream(), "the end");
  assert.deepEqual(texts(again), ["one", "Half and half."]);
  await within(sending, "the first page's end");
});

test("stop ends the answer on this page, and the next turn begins clean", async (t) => {
  const { agent, page } = open(t);
  const sending = page.chat.sendMessage({ text: "count" });
  const input = await agent.next();
  await agent.say(...begin("m"), ...words("m", "one "));
  await shows(page, "one ");
  assert.equal(await page.transport.stopGeneration(page.id), true);
  await within(sending, "the end of the answer");
  const stop = await agent.next();
  assert.deepEqual([stop.kind, stop.seqNum], ["stop", 1]);
  await agent.say(...words("m", "two "), ...end("m"));
  await agent.turnComplete(stop);

  const next = page.chat.sendMessage({ text: "enough" });
  await agent.answer(await agent.next(), "Sorry.");
  await within(next, "the turn");
  assert.deepEqual(texts(page), ["count", "one ", "enough", "Sorry."], "what was stopped stays unsaid");
});

test("the chat's own stop tells the agent too", async (t) => {
  const { agent, page } = open(t);
  const sending = page.chat.sendMessage({ text: "count" });
  await agent.next();
  await agent.say(...begin("m"), ...words("m", "one "));
  await shows(page, "one ");
  await page.chat.stop();
  assert.equal((await agent.next()).kind, "stop");
  await within(sending, "the end of the answer");
  assert.equal(page.chat.status, "ready");
});

test("the end of an earlier turn does not end this message's", async (t) => {
  const { agent, page } = open(t);
  const first = page.chat.sendMessage({ text: "one" });
  const one = await agent.next();
  await agent.say(...begin("a"), ...words("a", "First."));
  await shows(page, "First.");
  const phone = track(t, page.reload(server));
  const second = phone.chat.sendMessage({ text: "two" });
  const two = await agent.next();
  await agent.say(...end("a"));
  await agent.turnComplete(one);
  await within(first, "the first turn");
  await agent.answer(two, "Second.");
  await within(second, "the second turn");
  assert.match(phone.text, /Second\.$/);
  assert.equal(page.text, "First.", "and the first page heard its own end");
});

test("a second tab watches: turn after turn on one subscription", async (t) => {
  const { agent, page } = open(t);
  const first = page.chat.sendMessage({ text: "one" });
  const input = await agent.next();
  const viewer = track(t, page.reload(server, { watch: true, messages: [] }));
  const watching = await viewer.transport.reconnectToStream({ chatId: viewer.id });
  const seen = [];
  const reading = (async () => {
    for await (const chunk of watching) if (chunk.type === "text-delta") seen.push(chunk.delta);
  })();
  await agent.answer(input, "First.");
  await within(first, "the turn");
  const second = page.chat.sendMessage({ text: "two" });
  await agent.answer(await agent.next(), "Second.");
  await within(second, "the turn");
  await until(() => seen.length === 2, "both answers");
  assert.deepEqual(seen, ["First.", "Second."]);
  assert.equal(readsOf(viewer).length, 1);
  assert.equal(readsOf(viewer)[0].headers.get("x-peek-settled"), null);
  viewer.close();
  await within(reading, "the end of the watching");
});

test("two tabs of one browser: one writes, the other waits for its turn", async (t) => {
  const { agent, page } = open(t, { multiTab: true });
  await page.transport.preload(page.id);
  const other = track(t, page.reload(server, { multiTab: true }));
  const first = page.chat.sendMessage({ text: "one" });
  const input = await agent.next();
  await until(() => other.transport.isReadOnly(other.id), "the other tab to be read-only");
  await other.chat.sendMessage({ text: "me too" });
  assert.match(other.chat.error.message, /active in another tab/);
  await agent.answer(input, "First.");
  await within(first, "the turn");
  await until(() => !other.transport.isReadOnly(other.id), "the other tab's turn");
  other.chat.messages = page.chat.messages;
  const second = other.chat.sendMessage({ text: "two" });
  await agent.answer(await agent.next(), "Second.");
  await within(second, "the turn");
  assert.deepEqual(texts(other), ["one", "First.", "two", "Second."]);
});

test("two devices: both get every answer", async (t) => {
  const { agent, page } = open(t);
  const first = page.chat.sendMessage({ text: "one" });
  await agent.answer(await agent.next(), "First.");
  await within(first, "the turn");
  const phone = track(t, page.reload(server));
  const second = phone.chat.sendMessage({ text: "two" });
  await agent.answer(await agent.next(), "Second.");
  await within(second, "the turn");
  const third = page.chat.sendMessage({ text: "three" });
  await agent.answer(await agent.next(), "Third.");
  await within(third, "the turn");
  assert.deepEqual(texts(phone), ["one", "First.", "two", "Second."]);
  assert.match(page.text, /Third\.$/);
});
