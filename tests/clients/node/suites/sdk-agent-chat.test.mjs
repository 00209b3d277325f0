// A program that talks to an agent: the SDK's AgentChat, with a secret key.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Agent, PLAYED, begin, end, words } from "../support/agent.mjs";
import { AgentChat, use } from "../support/chat.mjs";
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

/** A conversation with an agent that the test plays. */
function played(t, options = {}) {
  const id = unique("agent-chat");
  const agent = new Agent(server, id);
  t.after(() => agent.close());
  return { id, agent, chat: new AgentChat({ agent: PLAYED, id, ...options }) };
}

const textOf = async (stream) => (await within(stream.result(), "the answer")).text;

/** What is left of a raw stream of chunks. */
async function rest(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

const said = (chunks) => chunks.filter((chunk) => chunk.type === "text-delta").map((chunk) => chunk.delta).join("");

test("the demo agent answers one message after the other", async () => {
  const triggered = [];
  const completed = [];
  const chat = new AgentChat({
    agent: "demo-agent",
    id: unique("demo"),
    clientData: { userId: "u1" },
    onTriggered: (event) => void triggered.push(event),
    onTurnComplete: (event) => void completed.push(event),
  });
  const morning = await textOf(await chat.sendMessage("good morning"));
  assert.match(morning, /You said: “good morning”\. This is message 1 /);
  const night = await textOf(await chat.sendMessage("and good night"));
  assert.match(night, /You said: “and good night”\. This is message 2 /);
  const session = (await client.call("GET", `/api/v1/sessions/${chat.id}`)).body;
  assert.deepEqual(triggered, [{ runId: session.currentRunId, chatId: chat.id }], "started once");
  assert.deepEqual(session.triggerConfig.tags, [`chat:${chat.id}`]);
  assert.deepEqual(session.triggerConfig.basePayload.metadata, { userId: "u1" });
  assert.equal(completed.length, 2);
  assert.equal(chat.session.lastEventId, completed[1].lastEventId);
});

test("a message assembles from the chunks, whole", async () => {
  const chat = new AgentChat({ agent: "demo-agent", id: unique("demo") });
  let last;
  for await (const message of (await chat.sendMessage("in parts")).messages()) last = message;
  assert.equal(last.role, "assistant");
  assert.equal(last.parts.filter((part) => part.type === "text").length, 1);
  const { text } = last.parts.find((part) => part.type === "text");
  assert.match(text, /^You said: “in parts”\. .* hand over to the next\.$/s);
  assert.match(last.metadata.runId, /^run_/);
});

test("preload starts the session and its run before there is a message", async () => {
  const chat = new AgentChat({ agent: "demo-agent", id: unique("preload") });
  await chat.preload();
  const session = (await client.call("GET", `/api/v1/sessions/${chat.id}`)).body;
  assert.match(session.currentRunId, /^run_/);
  assert.equal(session.triggerConfig.basePayload.trigger, "preload");
  assert.match(await textOf(await chat.sendMessage("now")), /answered by run_\w+/);
});

test("what the agent reads is what was sent", async (t) => {
  const { id, agent, chat } = played(t, { clientData: { plan: "pro" } });
  const stream = await chat.sendMessage("Review it");
  const input = await agent.next();
  assert.equal(input.kind, "message");
  assert.equal(input.payload.trigger, "submit-message");
  assert.equal(input.payload.chatId, id);
  assert.deepEqual(input.payload.metadata, { plan: "pro" });
  assert.deepEqual(input.payload.message.parts, [{ type: "text", text: "Review it" }]);
  await agent.answer(input, "It is fine.");
  assert.equal(await textOf(stream), "It is fine.");
});

test("tool calls and their results come with the answer", async (t) => {
  const { agent, chat } = played(t);
  const stream = await chat.sendMessage("search");
  const input = await agent.next();
  const call = { toolCallId: "call-1", toolName: "search" };
  await agent.say(...begin("m").slice(0, 2), { type: "tool-input-available", ...call, input: { q: "x" } });
  await agent.say({ type: "tool-output-available", toolCallId: "call-1", output: ["hit"] });
  await agent.say({ type: "text-start", id: "m" });
  await agent.say(...words("m", "One hit."), ...end("m"));
  await agent.turnComplete(input);
  const result = await within(stream.result(), "the answer");
  assert.equal(result.text, "One hit.");
  assert.deepEqual(result.toolCalls, [{ ...call, input: { q: "x" } }]);
  assert.deepEqual(result.toolResults, [{ toolCallId: "call-1", output: ["hit"] }]);
});

test("steering reaches the agent in mid-answer and does not disturb the answer", async (t) => {
  const { agent, chat } = played(t);
  const stream = await chat.sendMessage("write a poem");
  const input = await agent.next();
  await agent.say(...begin("m"), ...words("m", "Roses are red, "));
  assert.equal(await chat.steer("about violets"), true);
  const steering = await agent.next();
  assert.equal(steering.seqNum, input.seqNum + 1);
  assert.deepEqual(steering.payload.message.parts, [{ type: "text", text: "about violets" }]);
  await agent.say(...words("m", "violets are blue"), ...end("m"));
  await agent.turnComplete(steering);
  assert.equal(await textOf(stream), "Roses are red, violets are blue");
});

test("stop ends the turn, and the next one begins clean", async (t) => {
  const { agent, chat } = played(t);
  const first = await chat.sendMessage("count to a million");
  const input = await agent.next();
  await agent.say(...begin("m"), ...words("m", "one two"));
  await chat.stop();
  const stop = await agent.next();
  assert.equal(stop.kind, "stop");
  await agent.say(...words("m", "three"), ...end("m"));
  await agent.turnComplete(input);
  await textOf(first);

  const second = await chat.sendMessage("never mind");
  await agent.answer(await agent.next(), "As you like.");
  assert.equal(await textOf(second), "As you like.");
});

test("an aborted send tells the agent to stop", async (t) => {
  const { agent, chat } = played(t);
  const abort = new AbortController();
  const stream = await chat.sendMessage("go on and on", { abortSignal: abort.signal });
  await agent.next();
  const reading = textOf(stream);
  abort.abort();
  assert.equal((await agent.next()).kind, "stop");
  assert.equal(await reading, "");
});

test("an action is sent as one, and its turn read to the end", async (t) => {
  const { agent, chat } = played(t);
  const sending = chat.sendAction({ type: "undo", steps: 2 });
  const input = await agent.next();
  assert.equal(input.payload.trigger, "action");
  assert.deepEqual(input.payload.action, { type: "undo", steps: 2 });
  await agent.turnComplete(input);
  assert.equal(await textOf(await sending), "");
});

test("reconnecting in mid-answer goes on where this client was", async (t) => {
  const { id, agent, chat } = played(t);
  const stream = await chat.sendMessage("slowly");
  const input = await agent.next();
  await agent.say(...begin("m"));
  const lastEventId = String(await agent.say(...words("m", "a")));
  const resumed = new AgentChat({ agent: PLAYED, id, session: { lastEventId } });
  const reading = rest(await resumed.reconnect());
  await agent.say(...words("m", "b c"), ...end("m"));
  await agent.turnComplete(input);
  const chunks = await within(reading, "the rest");
  assert.deepEqual(chunks, [...words("m", "b c"), ...end("m")], "no chunk twice, none left out");
  assert.equal(await textOf(stream), "ab c");
});

test("reconnecting to a settled session ends at once", async (t) => {
  const { id, agent, chat } = played(t);
  const stream = await chat.sendMessage("hello");
  await agent.answer(await agent.next(), "Hello to you.");
  await textOf(stream);
  assert.deepEqual(await within(rest(await chat.reconnect()), "the end"), [], "all of it was read");

  const anew = new AgentChat({ agent: PLAYED, id, session: {}, streamTimeoutSeconds: 600 });
  assert.equal(said(await within(rest(await anew.reconnect()), "the end")), "Hello to you.");
  assert.equal(await new AgentChat({ agent: PLAYED, id }).reconnect(), null, "nothing was started here");
});

test("a hydrated conversation goes on with its session", async (t) => {
  const { id, agent, chat } = played(t);
  const stream = await chat.sendMessage("first");
  await agent.answer(await agent.next(), "One.");
  await textOf(stream);
  const before = (await client.call("GET", `/api/v1/sessions/${id}`)).body;

  const anew = new AgentChat({ agent: PLAYED, id, session: chat.session });
  const second = await anew.sendMessage("second");
  await agent.answer(await agent.next(), "Two.");
  assert.equal(await textOf(second), "Two.");
  const session = (await client.call("GET", `/api/v1/sessions/${id}`)).body;
  assert.equal(session.id, before.id);
  assert.equal(session.currentRunId, before.currentRunId, "the same run");
});

test("close ends the run of the demo agent, and the conversation may go on in another", async () => {
  const chat = new AgentChat({ agent: "demo-agent", id: unique("close") });
  await textOf(await chat.sendMessage("first"));
  const before = (await client.call("GET", `/api/v1/sessions/${chat.id}`)).body.currentRunId;
  assert.equal(await chat.close(), true);
  await client.whenRun(before, "COMPLETED");
  assert.equal(await chat.close(), false, "once");
  assert.match(await textOf(await chat.sendMessage("again")), new RegExp(`took over from ${before}`));
});

test("its own fetch and base URL serve both channels", async () => {
  const seen = [];
  const chat = new AgentChat({
    agent: "demo-agent",
    id: unique("own-fetch"),
    baseURL: ({ endpoint }) => (endpoint === "in" ? server.url : `${server.url}/`),
    fetch: (url, init, context) => {
      seen.push(`${context.endpoint} ${new URL(url).pathname}`);
      return fetch(url, init);
    },
  });
  await textOf(await chat.sendMessage("hello"));
  const path = `/realtime/v1/sessions/${chat.id}`;
  assert.deepEqual(seen, [`in ${path}/in/append`, `out ${path}/out`]);
});
