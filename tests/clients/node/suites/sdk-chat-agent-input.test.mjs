// What the SDK's agent loop takes in beside plain messages: steering, actions, and whatever wakes it from its sleep.
import assert from "node:assert/strict";
import { test } from "node:test";
import { isStepCount, streamText, tool } from "ai";
import { z } from "zod";
import { AgentChat, chat, textOf } from "../support/chat.mjs";
import { stage, turn } from "../support/conversation.mjs";
import { Puppet } from "../support/model.mjs";
import { until, within } from "../support/wait.mjs";

const puppet = new Puppet();
const tools = { look: tool({ inputSchema: z.object({ at: z.string() }), execute: ({ at }) => `${at} is fine` }) };

/** Stays awake, and takes what is said in mid-answer into the answer. */
const steered = chat.agent({
  id: "steered-agent",
  tools,
  pendingMessages: { shouldInject: () => true },
  actionSchema: z.discriminatedUnion("type", [
    z.object({ type: z.literal("undo") }),
    z.object({ type: z.literal("retry"), as: z.string() }),
  ]),
  onAction: ({ action }) => {
    chat.history.slice(0, -2);
    if (action.type === "retry") return chat.turn(action.as);
  },
  run: async ({ messages, signal }) =>
    streamText({
      ...chat.toStreamTextOptions({ tools }),
      model: puppet.model,
      messages,
      abortSignal: signal,
      stopWhen: isStepCount(5),
    }),
});

/** Sleeps as soon as there is nothing to do. */
const slept = [];
const sleeper = chat.agent({
  id: "sleeping-agent",
  idleTimeoutInSeconds: 0,
  preloadIdleTimeoutInSeconds: 0,
  onChatSuspend: ({ phase }) => void slept.push(`suspend ${phase}`),
  onChatResume: ({ phase }) => void slept.push(`resume ${phase}`),
  run: async ({ messages, signal }) => streamText({ model: puppet.model, messages, abortSignal: signal }),
});

const set = stage(steered, sleeper);

const texts = (page) => page.chat.messages.map(textOf);
const shows = (page, text) => until(() => page.text === text, `“${text}”`);
const userMessage = (text) => ({ id: crypto.randomUUID(), role: "user", parts: [{ type: "text", text }] });

/** The page's run sleeps. */
async function asleep(page) {
  const { currentRunId } = await set.session(page);
  await set.client.whenRun(currentRunId, "WAITING");
  return currentRunId;
}

test("a tool is used, and its result goes to the model and to the page", async (t) => {
  const { page } = await set.begin(t, steered);
  const last = await turn(page, "Look at the oven", async () => {
    (await puppet.next()).use("look", { at: "the oven" });
    return puppet.answer("All is well.");
  });
  assert.deepEqual(last.told.map((line) => line.split(":")[0]), ["user", "assistant", "tool"]);
  assert.equal(page.text, "All is well.");
  const { input, output } = page.chat.lastMessage.parts.find((part) => part.type === "tool-look");
  assert.deepEqual([input, output], [{ at: "the oven" }, "the oven is fine"]);
});

test("what is said in mid-answer is heard between two steps", async (t) => {
  const { page } = await set.begin(t, steered);
  const sending = page.chat.sendMessage({ text: "Look at the oven" });
  const call = await puppet.next();
  call.say("Looking. ");
  await shows(page, "Looking. ");
  assert.equal(await page.transport.sendPendingMessage(page.id, userMessage("And the stove!")), true);
  await until(async () => (await set.client.records(page.id, "in")).length === 2, "the message");
  call.use("look", { at: "the oven" });
  const second = await puppet.next();
  assert.ok(second.told.includes("user: And the stove!"), second.told.join("\n"));
  second.say("Both are fine.").end();
  await within(sending, "the turn");
  assert.equal(page.text, "Looking. Both are fine.");
});

test("what is said at the end of an answer is answered next", async (t) => {
  const { page } = await set.begin(t, sleeper);
  const sending = page.chat.sendMessage({ text: "one" });
  const call = await puppet.next();
  call.say("First.");
  await shows(page, "First.");
  const phone = page.reload(set.server, { task: sleeper.id });
  t.after(() => phone.close());
  const second = phone.chat.sendMessage({ text: "two" });
  await until(async () => (await set.client.records(page.id, "in")).length === 2, "the message");
  call.end();
  const next = await puppet.answer("Second.");
  assert.deepEqual(next.told, ["user: one", "assistant: First.", "user: two"]);
  await within(Promise.all([sending, second]), "both turns");
  assert.match(phone.text, /Second\.$/);
});

test("an action edits the conversation, without a turn", async (t) => {
  const { page } = await set.begin(t, steered);
  await turn(page, "one", () => puppet.answer("First."));
  await turn(page, "two", () => puppet.answer("Second."));
  const stream = await page.transport.sendAction(page.id, { type: "undo" });
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk.type);
  assert.ok(!chunks.includes("text-delta"), `${chunks}`);
  const next = await turn(page, "three", () => puppet.answer("Third."));
  assert.deepEqual(next.told, ["user: one", "assistant: First.", "user: three"]);
});

test("an action may become a turn", async (t) => {
  const { page } = await set.begin(t, steered);
  await turn(page, "one", () => puppet.answer("First."));
  const stream = await page.transport.sendAction(page.id, { type: "retry", as: "uno" });
  let said = "";
  const answering = puppet.answer("Primero.");
  for await (const chunk of stream) said += chunk.delta ?? "";
  const call = await answering;
  assert.deepEqual(call.told, ["user: uno"]);
  assert.equal(said, "Primero.");
});

test("an action that the agent does not know ends its turn with an error", async (t) => {
  const { page } = await set.begin(t, steered);
  await turn(page, "one", () => puppet.answer("First."));
  const stream = await page.transport.sendAction(page.id, { type: "explode" });
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  assert.ok(chunks.some((chunk) => chunk.type === "error"), JSON.stringify(chunks));
  await turn(page, "two", () => puppet.answer("Still here."));
});

test("an idle run sleeps, and every message wakes it", async (t) => {
  slept.length = 0;
  const { page } = await set.begin(t, sleeper);
  const run = await asleep(page);
  await turn(page, "Wake up", () => puppet.answer("I am awake."));
  assert.equal(await asleep(page), run);
  const second = await turn(page, "And again", () => puppet.answer("Again."));
  assert.deepEqual(second.told, ["user: Wake up", "assistant: I am awake.", "user: And again"]);
  assert.equal(await asleep(page), run, "one run all the time");
  assert.deepEqual(slept.slice(0, 4), ["suspend preload", "resume preload", "suspend turn", "resume turn"]);
  assert.deepEqual(texts(page), ["Wake up", "I am awake.", "And again", "Again."]);
});

test("a stop for a sleeping run starts no turn", async (t) => {
  const { page } = await set.begin(t, sleeper);
  await asleep(page);
  await turn(page, "one", () => puppet.answer("First."));
  await asleep(page);
  await page.transport.stopGeneration(page.id);
  const next = await turn(page, "two", () => puppet.answer("Second."));
  assert.deepEqual(next.told, ["user: one", "assistant: First.", "user: two"]);
  assert.deepEqual(texts(page), ["one", "First.", "two", "Second."]);
});

test("messages that come while it falls asleep are answered in order", async (t) => {
  const { page } = await set.begin(t, sleeper);
  await asleep(page);
  const caller = new AgentChat({ agent: sleeper.id, id: page.id, session: {} });
  assert.equal(await caller.steer("one"), true);
  assert.equal(await caller.steer("two"), true);
  assert.deepEqual((await puppet.answer("First.")).told, ["user: one"]);
  assert.deepEqual((await puppet.answer("Second.")).told, ["user: one", "assistant: First.", "user: two"]);
  await asleep(page);
});
