// The SDK's agent loop has its run's own token: nothing of a run that lost its session counts.
import assert from "node:assert/strict";
import { test } from "node:test";
import { streamText } from "ai";
import { chat, textOf } from "../support/chat.mjs";
import { stage, turn } from "../support/conversation.mjs";
import { Puppet } from "../support/model.mjs";
import { until, within } from "../support/wait.mjs";

const puppet = new Puppet();
const agent = chat.agent({
  id: "own-token-agent",
  idleTimeoutInSeconds: 0,
  preloadIdleTimeoutInSeconds: 0,
  run: async ({ messages, signal }) => streamText({ model: puppet.model, messages, abortSignal: signal }),
});
const set = stage(agent);

const texts = (page) => page.chat.messages.map(textOf);

for (const credentials of ["run", "run and key", "key"]) {
  test(`with ${credentials} it boots, answers, sleeps, wakes and answers again`, async (t) => {
    const page = await set.open(t, agent);
    const run = set.next(t, page, { credentials });
    const { currentRunId } = await set.session(page);
    for (const [at, text] of ["one", "two", "three"].entries()) {
      await set.client.whenRun(currentRunId, "WAITING");
      const { told } = await turn(page, text, () => puppet.answer(`Answer ${text}.`));
      assert.equal(told.length, 2 * at + 1);
    }
    assert.deepEqual(texts(page), ["one", "Answer one.", "two", "Answer two.", "three", "Answer three."]);
    await set.end(page, run);
    await set.client.whenRun(currentRunId, "COMPLETED");
  });
}

test("what a run says after it was canceled is not in the conversation, and its message is answered", async (t) => {
  const page = await set.open(t, agent);
  const run = set.next(t, page);
  const sending = page.chat.sendMessage({ text: "one" });
  const call = await puppet.next();
  call.say("Half an ");
  await until(() => page.text === "Half an ", "the half");
  const { currentRunId } = await set.session(page);
  await set.client.call("POST", `/api/v2/runs/${currentRunId}/cancel`);
  // It does not know yet: it takes the turn for a failed one, and would keep that in its snapshot.
  call.say("answer of a ghost. ").end();
  await within(run.catch(() => {}), "the end of the run");

  set.next(t, page);
  const { told } = await puppet.answer("A whole answer.");
  assert.ok(told.includes("user: one"), told.join("\n"));
  await within(sending, "the turn");
  assert.match(page.text, /A whole answer\.$/);
  const said = (await set.client.records(page.id, "out")).map(({ data }) => data.delta ?? "").join("");
  assert.doesNotMatch(said, /ghost/);
});
