// The playground: a conversation that goes on, whatever is done to its page and its runs.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Visitor, open } from "../support/console.mjs";

let all;
before(async () => (all = await open({ CONTINUO_DEMO_TOKEN_MS: "80" })));
after(() => all?.stop());

async function begin(t, options) {
  const visitor = await Visitor.enter(t, all, { path: "#/playground", ...options });
  await visitor.button("New conversation").click();
  await visitor.page.locator("#composer").waitFor();
  return visitor;
}

test("an answer is seen as it is said, and is whole at its end", async (t) => {
  const visitor = await begin(t);
  await visitor.say("Hello, who is there?");
  const early = await visitor.whenSpeaking();
  await visitor.shot("playground");
  const whole = await visitor.whenEnded();
  assert.ok(whole.startsWith(early) && whole.length > early.length);
  assert.match(whole, /^You said: “Hello, who is there\?”\. This is message 1 .* hand over to the next\.$/);
  await visitor.assertQuiet();
});

test("a page that is reloaded in mid-answer has what was said and gets the rest", async (t) => {
  const visitor = await begin(t);
  await visitor.say("Tell me a story");
  const before = await visitor.whenSpeaking();
  await visitor.button("Reload page").click();
  const after = await visitor.whenSpeaking(0, before.length);
  assert.ok(after.startsWith(before));
  const whole = await visitor.whenEnded();
  assert.ok(whole.startsWith(after));
  assert.equal(await visitor.answers().count(), 1, "once, not twice");
  assert.equal(await visitor.page.locator('[data-role="user"]').count(), 1);
  await visitor.assertQuiet();
});

test("a run that is killed in mid-answer is followed by another one in the same conversation", async (t) => {
  const visitor = await begin(t);
  await visitor.say("Tell me a story");
  await visitor.whenSpeaking();
  await visitor.button("Kill run").click();
  await visitor.page.locator(".pill", { hasText: "canceled" }).waitFor();
  await visitor.say("Are you still there?");
  const last = visitor.answers().last();
  await last.getByText("You said: “Are you still there?”").waitFor();
  assert.ok((await visitor.answers().count()) >= 2, "what the first run said stays");
  await visitor.page.locator('.timeline li:has-text("v2")').waitFor();
  await visitor.page
    .locator('[data-role="assistant"][data-state="done"]')
    .last()
    .getByText("hand over to the next.")
    .waitFor();
  await visitor.shot("playground-killed");
  await visitor.assertQuiet();
});

test("a session that is handed over goes on with another run, for the reason that was given", async (t) => {
  const visitor = await begin(t);
  await visitor.say("Hello");
  await visitor.whenEnded();
  await visitor.button("Hand over").click();
  await visitor.page.locator('.timeline li.current:has-text("v2")', { hasText: "manual" }).waitFor();
  await visitor.say("And now?");
  assert.match(await visitor.whenEnded(1), /You said: “And now\?”/);
  await visitor.assertQuiet();
});

test("an answer can be stopped", async (t) => {
  const visitor = await begin(t);
  await visitor.say("Tell me everything");
  await visitor.whenSpeaking();
  await visitor.button("Stop").click();
  const whole = await visitor.whenEnded();
  assert.ok(!whole.endsWith("hand over to the next."));
  await visitor.page.locator(".chat-event", { hasText: "asked to stop" }).waitFor();
});
