// The SDK's own agent loop in a run of this server, with the SDK's transport on the other side: the turns of one run.
import assert from "node:assert/strict";
import { test } from "node:test";
import { streamText } from "ai";
import { chat, textOf } from "../support/chat.mjs";
import { stage, turn } from "../support/conversation.mjs";
import { Client } from "../support/http.mjs";
import { Puppet } from "../support/model.mjs";
import { until, within } from "../support/wait.mjs";

const puppet = new Puppet();
const calls = [];
const agent = chat.agent({
  id: "puppet-agent",
  onPreload: ({ chatId }) => void calls.push(`preload ${chatId}`),
  onChatStart: ({ chatId, preloaded }) => void calls.push(`start ${chatId} ${preloaded}`),
  onTurnStart: ({ clientData }) => void calls.push(`turn ${clientData?.userId}`),
  run: async ({ messages, signal }) => streamText({ model: puppet.model, messages, abortSignal: signal }),
});
const set = stage(agent);

const texts = (page) => page.chat.messages.map(textOf);
const shows = (page, text) => until(() => page.text === text, `“${text}”`);
const records = (page) => set.client.records(page.id, "out");
const header = (record, name) => record.headers?.find(([key]) => key === name)?.[1];
const isTurn = (record) => header(record, "trigger-control") === "turn-complete";

test("several turns in one run, each with the whole conversation", async (t) => {
  calls.length = 0;
  const { page, run } = await set.begin(t, agent, { clientData: { userId: "u1" } });
  await until(() => calls.length === 1, "the boot of the agent");
  const first = await turn(page, "Hello", () => puppet.answer("Good day to you."));
  assert.deepEqual(first.told, ["user: Hello"]);
  const second = await turn(page, "And now?", () => puppet.answer("Now we talk."));
  assert.deepEqual(second.told, ["user: Hello", "assistant: Good day to you.", "user: And now?"]);
  assert.deepEqual(texts(page), ["Hello", "Good day to you.", "And now?", "Now we talk."]);
  assert.deepEqual(calls, [`preload ${page.id}`, `start ${page.id} true`, "turn u1", "turn u1"]);
  const { assignment } = await set.end(page, run);
  assert.equal((await set.client.whenRun(assignment.run.id, "COMPLETED")).isSuccess, true);
});

test("a turn ends with what it has read, and takes the turn before with it", async (t) => {
  const { page } = await set.begin(t, agent);
  await turn(page, "one", () => puppet.answer("First."));
  const [before] = (await records(page)).filter(isTurn);
  assert.equal(header(before, "session-in-event-id"), "0");
  await turn(page, "two", () => puppet.answer("Second."));
  // The trim comes after the page has seen the end.
  await until(async () => (await records(page))[0].seqNum === before.seqNum, "the trim");
  const kept = await records(page);
  assert.deepEqual(kept.filter(isTurn).map((record) => header(record, "session-in-event-id")), ["0", "1"]);
  assert.deepEqual(kept.filter(({ data }) => data.type === "text-delta").map(({ data }) => data.delta), ["Second."]);
});

test("every turn brings the page a token of its own", async (t) => {
  const { page } = await set.begin(t, agent);
  const given = page.stored.publicAccessToken;
  await turn(page, "one", () => puppet.answer("First."));
  const token = page.stored.publicAccessToken;
  assert.notEqual(token, given);
  const { scopes } = JSON.parse(Buffer.from(token.split(".")[1], "base64url"));
  const { currentRunId } = await set.session(page);
  assert.ok(scopes.includes(`write:sessions:${page.id}`) && scopes.includes(`read:runs:${currentRunId}`), `${scopes}`);
  await turn(page, "two", () => puppet.answer("Second."));
  assert.equal(page.refreshed, 0);
  assert.equal((await new Client(set.server, token).call("GET", `/api/v3/runs/${currentRunId}`)).status, 200);
});

test("stop in mid-answer: the model is called off, and the conversation keeps what was said", async (t) => {
  const { page } = await set.begin(t, agent);
  const sending = page.chat.sendMessage({ text: "Count" });
  const call = await puppet.next();
  call.say("One two ");
  await shows(page, "One two ");
  await page.transport.stopGeneration(page.id);
  await call.aborted;
  await within(sending, "the end of the answer");
  const next = await turn(page, "Go on", () => puppet.answer("three."));
  assert.deepEqual(next.told, ["user: Count", "assistant: One two ", "user: Go on"]);
  assert.deepEqual(texts(page), ["Count", "One two ", "Go on", "three."]);
});

test("a reload in mid-answer reads on, and the agent does not notice", async (t) => {
  const { page } = await set.begin(t, agent);
  const sending = page.chat.sendMessage({ text: "Tell me" });
  const call = await puppet.next();
  call.say("Once upon ");
  await shows(page, "Once upon ");
  const again = page.reload(set.server, { task: agent.id, messages: page.chat.messages.slice(0, 1) });
  t.after(() => again.close());
  const resuming = again.chat.resumeStream();
  await shows(again, "Once upon ");
  call.say("a time.").end();
  await within(Promise.all([sending, resuming]), "the turn");
  assert.deepEqual(texts(again), ["Tell me", "Once upon a time."]);
  assert.deepEqual(texts(page), texts(again));
});

test("regenerate: the model is asked again without its last answer", async (t) => {
  const { page } = await set.begin(t, agent);
  await turn(page, "Name a colour", () => puppet.answer("Red."));
  const again = page.chat.regenerate();
  const call = await puppet.answer("Blue.");
  await within(again, "the turn");
  assert.deepEqual(call.told, ["user: Name a colour"]);
  assert.deepEqual(texts(page), ["Name a colour", "Blue."]);
});

test("a model that fails ends the turn, not the run", async (t) => {
  const { page } = await set.begin(t, agent);
  const sending = page.chat.sendMessage({ text: "one" });
  (await puppet.next()).abort(new Error("the model is out"));
  await within(sending, "the end of the turn");
  assert.equal(page.chat.status, "error");
  await turn(page, "two", () => puppet.answer("Back again."));
  assert.equal(page.text, "Back again.");
});
