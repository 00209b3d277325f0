// A head start: the application's own server says the first words while the agent's run boots, and then hands over.
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import { isStepCount, streamText, tool } from "ai";
import { z } from "zod";
import { chat, headStarts, textOf } from "../support/chat.mjs";
import { stage, turn } from "../support/conversation.mjs";
import { unique } from "../support/http.mjs";
import { Puppet } from "../support/model.mjs";
import { within } from "../support/wait.mjs";

const inputSchema = z.object({ at: z.string() });
/** The application's server knows that there is a tool; only the agent can use it. */
const described = { look: tool({ inputSchema }) };
const usable = { look: tool({ inputSchema, execute: ({ at }) => `${at} is fine` }) };

const first = new Puppet();
const later = new Puppet();
const agent = chat.agent({
  id: "headed-agent",
  tools: usable,
  run: async ({ messages, signal }) =>
    streamText({
      ...chat.toStreamTextOptions({ tools: usable }),
      model: later.model,
      messages,
      abortSignal: signal,
      stopWhen: isStepCount(3),
    }),
});

let application;
let headStart;
before(async () => {
  const handler = headStarts.headStart({
    agentId: agent.id,
    run: async ({ streamText }) => streamText({ model: first.model, tools: described }),
  });
  application = createServer(headStarts.toNodeListener(handler)).listen(0, "127.0.0.1");
  await once(application, "listening");
  headStart = `http://127.0.0.1:${application.address().port}/api/chat`;
});
after(() => application?.close());

const set = stage(agent);
const texts = (page) => page.chat.messages.map(textOf);

test("a first answer without tools: the agent has it, and answers the next message", async (t) => {
  const page = set.page(t, agent, { headStart });
  const sending = page.chat.sendMessage({ text: "Hello" });
  const call = await first.next();
  assert.deepEqual(call.told, ["user: Hello"]);
  call.say("Good day.").end();
  set.next(t, page);
  await within(sending, "the first turn");
  assert.deepEqual(texts(page), ["Hello", "Good day."]);
  assert.equal(page.requests.length, 0, "the page spoke to the application only");
  assert.ok(page.stored.publicAccessToken && page.stored.lastEventId);

  const next = await turn(page, "And now?", () => later.answer("Now I speak."));
  assert.deepEqual(next.told, ["user: Hello", "assistant: Good day.", "user: And now?"]);
  assert.deepEqual(texts(page), ["Hello", "Good day.", "And now?", "Now I speak."]);
  const inputs = (await set.client.records(page.id, "in")).map(({ data }) => JSON.parse(data).kind);
  assert.deepEqual(inputs, ["handover", "message"]);
});

test("a first answer that wants a tool: the agent uses it and goes on in the same message", async (t) => {
  const page = set.page(t, agent, { headStart });
  const sending = page.chat.sendMessage({ text: "Look at the oven" });
  const call = await first.next();
  call.say("Let me see. ");
  call.use("look", { at: "the oven" });
  set.next(t, page);
  const second = await later.answer("All is well.");
  assert.deepEqual(second.told.map((line) => line.split(":")[0]), ["user", "assistant", "tool"]);
  await within(sending, "the first turn");
  assert.equal(page.chat.messages.length, 2);
  assert.equal(page.text, "Let me see. All is well.");
  const { output } = page.chat.lastMessage.parts.find((part) => part.type === "tool-look");
  assert.equal(output, "the oven is fine");
  await turn(page, "Thank you", () => later.answer("Any time."));
});

test("a first answer that fails: the run is told not to wait", async (t) => {
  const page = set.page(t, agent, { headStart });
  const sending = page.chat.sendMessage({ text: "Hello" });
  (await first.next()).abort(new Error("the model is out"));
  const { assignment } = await within(set.next(t, page), "the end of the run");
  await within(sending, "the end of the turn");
  assert.equal((await set.client.whenRun(assignment.run.id, "COMPLETED")).isSuccess, true);
  const inputs = (await set.client.records(page.id, "in")).map(({ data }) => JSON.parse(data).kind);
  assert.deepEqual(inputs, ["handover-skip"]);
});

test("without a page to answer: the first words go to the channel", async (t) => {
  const id = unique("head");
  const messages = [{ id: "m1", role: "user", parts: [{ type: "text", text: "Hello" }] }];
  const { completion } = await headStarts.startHeadStart({
    chatId: id,
    agentId: agent.id,
    messages,
    run: async ({ streamText }) => streamText({ model: first.model }),
  });
  const page = await set.open(t, agent, { id, messages });
  set.next(t, page);
  await first.answer("Good day.");
  await within(completion, "the handover");
  const next = await turn(page, "And now?", () => later.answer("Now I speak."));
  assert.deepEqual(next.told, ["user: Hello", "assistant: Good day.", "user: And now?"]);
});
