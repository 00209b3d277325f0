// One conversation, several runs of the SDK's agent loop: continued, taken over after a crash, handed over, closed.
import assert from "node:assert/strict";
import { test } from "node:test";
import { streamText } from "ai";
import { chat, defaultStorage, textOf } from "../support/chat.mjs";
import { stage, turn } from "../support/conversation.mjs";
import { Client } from "../support/http.mjs";
import { Puppet } from "../support/model.mjs";
import { until, within } from "../support/wait.mjs";

const puppet = new Puppet();
/** What the agent is to do when it is called, beside answering; by the message. */
const orders = {
  "end the run": () => chat.endRun(),
  "upgrade after this": () => chat.requestUpgrade(),
  "close it": () => chat.close({ reason: "said so" }),
};
const recovered = [];
const agent = chat.agent({
  id: "succeeding-agent",
  onTurnStart: ({ messages, continuation }) => {
    if (lastOf(messages) === "upgrade first" && !continuation) chat.requestUpgrade();
  },
  onRecoveryBoot: ({ partialAssistant, inFlightUsers, previousRunId }) => {
    recovered.push({ partial: textOf(partialAssistant), users: inFlightUsers.map(textOf), previousRunId });
  },
  run: async ({ messages, signal }) => {
    orders[lastOf(messages)]?.();
    return streamText({ model: puppet.model, messages, abortSignal: signal });
  },
});
const lastOf = (messages) => [messages.at(-1).content].flat().map((part) => part.text ?? part).join("");

const set = stage(agent);

const texts = (page) => page.chat.messages.map(textOf);
const reasons = async (page) =>
  (await set.client.call("GET", `/api/v1/sessions/${page.id}/runs`)).body.data.map(({ reason }) => reason);
const controls = async (page) =>
  (await set.client.records(page.id, "out")).flatMap(({ headers = [] }) =>
    headers.filter(([name]) => name === "trigger-control").map(([, value]) => value),
  );

test("the next run knows the conversation", async (t) => {
  const { page, run } = await set.begin(t, agent);
  await turn(page, "one", () => puppet.answer("First."));
  await turn(page, "end the run", () => puppet.answer("As you say."));
  const { assignment } = await within(run, "the end of the run");
  assert.equal((await set.client.whenRun(assignment.run.id, "COMPLETED")).isSuccess, true);

  const third = turn(page, "three", () => puppet.answer("Third."));
  const next = set.next(t, page);
  const call = await third;
  const before = ["user: one", "assistant: First.", "user: end the run", "assistant: As you say."];
  assert.deepEqual(call.told, [...before, "user: three"]);
  assert.deepEqual(texts(page).slice(-2), ["three", "Third."]);
  const { assignment: second } = await set.end(page, next);
  const payload = JSON.parse(second.run.payload);
  assert.equal(payload.continuation, true);
  assert.equal(payload.previousRunId, assignment.run.id);
  assert.deepEqual((await reasons(page)).slice(0, 2), ["initial", "continuation"]);
});

test("without a snapshot the next run has what is left in the channels", async (t) => {
  const { page, run } = await set.begin(t, agent);
  await turn(page, "one", () => puppet.answer("First."));
  await turn(page, "end the run", () => puppet.answer("As you say."));
  await within(run, "the end of the run");
  const { presignedUrl } = (await set.client.call("PUT", `/api/v1/sessions/${page.id}/snapshot-url`)).body;
  await fetch(presignedUrl, { method: "PUT", body: "no snapshot" });

  const third = turn(page, "three", () => puppet.answer("Third."));
  set.next(t, page);
  const { told } = await third;
  assert.deepEqual(told.slice(-2), ["assistant: As you say.", "user: three"]);
});

test("a run that dies in mid-answer: the next one gets the half and answers", async (t) => {
  const { page, run } = await set.begin(t, agent);
  await turn(page, "one", () => puppet.answer("First."));
  const sending = page.chat.sendMessage({ text: "two" });
  const call = await puppet.next();
  call.say("Half an ");
  await until(() => page.text === "Half an ", "the half");
  const { currentRunId } = await set.session(page);
  recovered.length = 0;
  await set.client.call("POST", `/api/v2/runs/${currentRunId}/cancel`);
  run.abort();
  await within(run.catch(() => {}), "the end of the run");

  const next = set.next(t, page);
  const again = await puppet.answer("A whole answer.");
  await within(sending, "the turn");
  assert.deepEqual(recovered, [{ partial: "Half an ", users: ["two"], previousRunId: currentRunId }]);
  assert.ok(again.told.includes("user: one") && again.told.includes("user: two"), again.told.join("\n"));
  assert.match(page.text, /A whole answer\.$/);
  await set.end(page, next);
});

test("an upgrade before the turn: the next run answers", async (t) => {
  const { page, run } = await set.begin(t, agent);
  await turn(page, "one", () => puppet.answer("First."));
  const before = (await set.session(page)).currentRunId;
  const sending = page.chat.sendMessage({ text: "upgrade first" });
  await within(run, "the end of the run");
  const after = (await set.session(page)).currentRunId;
  assert.notEqual(after, before);
  set.next(t, page);
  const call = await puppet.answer("Here is the new one.");
  await within(sending, "the turn");
  assert.deepEqual(call.told, ["user: one", "assistant: First.", "user: upgrade first"]);
  assert.deepEqual(texts(page).slice(-2), ["upgrade first", "Here is the new one."]);
  assert.deepEqual((await reasons(page)).slice(0, 2), ["initial", "upgrade"]);
  assert.ok((await controls(page)).includes("upgrade-required"));
});

test("an upgrade after the turn: the next run waits for the next message", async (t) => {
  const { page, run } = await set.begin(t, agent);
  await turn(page, "upgrade after this", () => puppet.answer("The last of mine."));
  await within(run, "the end of the run");
  set.next(t, page);
  const call = await turn(page, "two", () => puppet.answer("The first of mine."));
  assert.deepEqual(call.told, ["user: upgrade after this", "assistant: The last of mine.", "user: two"]);
  assert.deepEqual((await reasons(page)).slice(0, 2), ["initial", "upgrade"]);
});

test("close: the page hears it with the turn, and nothing more is taken", async (t) => {
  const { page, run } = await set.begin(t, agent);
  const sending = page.chat.sendMessage({ text: "close it" });
  const call = await puppet.next();
  await call.aborted;
  await within(sending, "the end of the turn");
  await within(run, "the end of the run");
  assert.equal(page.transport.sessionStatus(page.id), "closed");
  assert.equal(page.transport.sessionClosedReason(page.id), "said so");
  const session = await set.session(page);
  assert.ok(session.closedAt);
  assert.equal(session.closedReason, "said so");
  assert.deepEqual(await controls(page), ["turn-complete", "session-closed"]);
  const answer = await set.client.append(page.id, "in", '{"kind":"message"}');
  assert.deepEqual([answer.status, answer.body.code], [409, "session_closed"]);
});

test("the transcript is there for a page that comes later", async (t) => {
  const { page } = await set.begin(t, agent);
  await turn(page, "one", () => puppet.answer("First."));
  await turn(page, "two", () => puppet.answer("Second."));
  const load = chat.createLoadTranscriptAction(defaultStorage);
  const { messages, cursors } = await until(async () => {
    const loaded = await load({ chatId: page.id });
    return loaded.messages.length === 4 && loaded;
  }, "the whole transcript");
  assert.deepEqual(messages.map(textOf), ["one", "First.", "two", "Second."]);
  const late = await set.open(t, agent, { id: page.id, messages });
  late.transport.seedResumeCursor(page.id, cursors.lastOutEventId);
  await turn(late, "three", () => puppet.answer("Third."));
  assert.deepEqual(texts(late), ["one", "First.", "two", "Second.", "three", "Third."]);
});

test("a token to watch reads and does not write", async (t) => {
  const { page } = await set.begin(t, agent);
  const token = await chat.createWatchToken(page.id);
  const watcher = new Client(set.server, token);
  await turn(page, "one", () => puppet.answer("First."));
  const answer = await watcher.call("GET", `/realtime/v1/sessions/${page.id}/out/records`);
  assert.equal(answer.status, 200, answer.text);
  assert.equal((await watcher.append(page.id, "in", "{}")).status, 403);
});
