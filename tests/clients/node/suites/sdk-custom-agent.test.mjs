// Agents that write their own loop: the SDK's session iterator, and a loop by hand that hands itself over.
import assert from "node:assert/strict";
import { test } from "node:test";
import { streamText } from "ai";
import { chat, textOf } from "../support/chat.mjs";
import { stage, turn } from "../support/conversation.mjs";
import { Puppet } from "../support/model.mjs";
import { until, within } from "../support/wait.mjs";

const puppet = new Puppet();

const iterating = chat.customAgent({
  id: "iterating-agent",
  run: async (payload, { signal }) => {
    for await (const turn of chat.createSession(payload, { signal, idleTimeoutInSeconds: 0 })) {
      if (turn.trigger === "close") break;
      await turn.complete(streamText({ model: puppet.model, messages: turn.messages, abortSignal: turn.signal }));
    }
  },
});

/** Answers one message, then the next run has the conversation. */
const relaying = chat.customAgent({
  id: "relaying-agent",
  run: async () => {
    const next = await chat.messages.waitWithIdleTimeout({ idleTimeoutInSeconds: 60, timeout: "1h" });
    if (!next.ok || next.output.trigger === "close") return;
    const messages = [{ role: "user", content: textOf(next.output.message) }];
    await chat.pipeAndCapture(streamText({ model: puppet.model, messages }));
    await chat.writeTurnComplete();
    await chat.endAndContinue();
  },
});

const set = stage(iterating, relaying);
const texts = (page) => page.chat.messages.map(textOf);

test("the iterator gives turn after turn, over sleeps and a stop", async (t) => {
  const { page } = await set.begin(t, iterating);
  await turn(page, "one", () => puppet.answer("First."));
  const { currentRunId } = await set.session(page);
  await set.client.whenRun(currentRunId, "WAITING");
  const sending = page.chat.sendMessage({ text: "two" });
  const call = await puppet.next();
  call.say("Half an ");
  await until(() => page.text === "Half an ", "the half");
  await page.transport.stopGeneration(page.id);
  await call.aborted;
  await within(sending, "the end of the answer");
  const last = await turn(page, "three", () => puppet.answer("Third."));
  assert.deepEqual(last.told.slice(0, 3), ["user: one", "assistant: First.", "user: two"]);
  assert.equal(last.told.at(-1), "user: three");
  assert.deepEqual(texts(page), ["one", "First.", "two", "Half an ", "three", "Third."]);
  assert.equal((await set.session(page)).currentRunId, currentRunId);
});

test("a loop by hand hands over after every turn, and no message is answered twice", async (t) => {
  const { page, run } = await set.begin(t, relaying);
  const served = [];
  let current = run;
  for (const text of ["one", "two", "three"]) {
    await turn(page, text, async () => {
      const call = await puppet.answer(`Answer ${text}.`);
      assert.deepEqual(call.told, [`user: ${text}`]);
    });
    served.push((await within(current, "the end of the run")).assignment.run.id);
    current = set.next(t, page);
  }
  assert.equal(new Set(served).size, 3);
  assert.deepEqual(texts(page), ["one", "Answer one.", "two", "Answer two.", "three", "Answer three."]);
  const { data } = (await set.client.call("GET", `/api/v1/sessions/${page.id}/runs`)).body;
  assert.deepEqual(data.slice(0, 3).map(({ runId }) => runId), served);
});
