// The list of sessions: what is in it, what is looked for, and what is new.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { unique } from "../../node/support/http.mjs";
import { until } from "../../node/support/wait.mjs";
import { Visitor, each, open } from "../support/console.mjs";

const MANY = 260;
let all;
before(async () => {
  all = await open();
  await each(MANY, (i) =>
    all.client.createSession({
      externalId: `many-${i}`,
      taskIdentifier: `task-${i % 3}`,
      type: i % 2 ? "odd.kind" : "even.kind",
      tags: ["many", `seventh-${i % 7}`],
    }),
  );
});
after(() => all?.stop());

const rows = (visitor) => visitor.page.locator(".session-row:not(.session-heads)");
const total = (visitor, text) => visitor.page.locator(".head", { hasText: text }).waitFor();

test("filters narrow the list, together, and survive a reload", async (t) => {
  const visitor = await Visitor.enter(t, all);
  await total(visitor, `${MANY} in all`);
  await visitor.page.getByLabel("Task").fill("task-1");
  await visitor.page.getByLabel("Type").fill("odd.kind");
  const expected = Array.from({ length: MANY }, (_, i) => i).filter((i) => i % 3 === 1 && i % 2 === 1);
  await total(visitor, `${expected.length} match`);
  await visitor.page.getByLabel("Tag", { exact: true }).fill("seventh-3");
  await visitor.page.keyboard.press("Enter");
  const names = expected.filter((i) => i % 7 === 3).map((i) => `many-${i}`);
  await total(visitor, `${names.length} match`);
  const seen = async () => (await rows(visitor).locator(".name").allTextContents()).sort();
  assert.deepEqual(await seen(), names.sort());
  await visitor.shot("sessions-filtered");
  await visitor.page.reload();
  await total(visitor, `${names.length} match`);
  assert.deepEqual(await seen(), names);
  await visitor.button("Clear").click();
  await total(visitor, `${MANY} in all`);
  await visitor.assertQuiet();
});

test("by name, status and period", async (t) => {
  const name = unique("closed");
  await all.client.createSession({ externalId: name });
  t.after(() => all.client.call("DELETE", `/api/v1/sessions/${name}`));
  await all.client.call("POST", `/api/v1/sessions/${name}/close`, { json: { reason: "done" } });
  const visitor = await Visitor.enter(t, all);
  await visitor.button("Closed").click();
  await total(visitor, "1 match");
  await visitor.button("All").click();
  await visitor.page.getByLabel("Name", { exact: true }).fill("many-17");
  await total(visitor, "1 match");
  assert.deepEqual(await rows(visitor).locator(".name").allTextContents(), ["many-17"]);
  await visitor.page.getByLabel("Name", { exact: true }).fill("");
  await visitor.page.getByLabel("Created", { exact: true }).selectOption("custom");
  await visitor.page.getByLabel("Created to").fill("2020-01-01T00:00");
  await visitor.text("No session matches").waitFor();
  await visitor.page.getByLabel("Created", { exact: true }).selectOption("1h");
  await total(visitor, "match");
  await rows(visitor).first().waitFor();
});

test("tags in use are suggested, most used first", async (t) => {
  const visitor = await Visitor.enter(t, all);
  const suggested = () =>
    visitor.page.locator("#tags-in-use option").evaluateAll((options) => options.map((option) => option.value));
  await visitor.page.waitForFunction(() => document.querySelectorAll("#tags-in-use option").length >= 8);
  assert.equal((await suggested())[0], "many");
  await visitor.page.getByLabel("Tag", { exact: true }).fill("seventh-5");
  await visitor.page.waitForFunction(() => document.querySelectorAll("#tags-in-use option").length === 1);
  assert.deepEqual(await suggested(), ["seventh-5"]);
});

test("a session that is made, and one that is taken away, are seen without asking", async (t) => {
  const visitor = await Visitor.enter(t, all);
  await rows(visitor).first().waitFor();
  const name = unique("fresh");
  await all.client.createSession({ externalId: name });
  await visitor.page.getByRole("link", { name }).waitFor();
  assert.equal(await rows(visitor).first().locator(".name").textContent(), name, "newest first");
  await all.client.call("DELETE", `/api/v1/sessions/${name}`);
  await visitor.page.getByRole("link", { name }).waitFor({ state: "detached" });
});

test("pages follow each other to the oldest one, while only what is seen exists", async (t) => {
  const visitor = await Visitor.enter(t, all);
  await rows(visitor).first().waitFor();
  const seen = new Set();
  const step = () => {
    const list = document.querySelector(".virtual");
    list.scrollTop += 400;
    return new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
  };
  const expected = Array.from({ length: MANY }, (_, i) => `many-${i}`);
  await until(async () => {
    for (const name of await rows(visitor).locator(".name").allTextContents()) seen.add(name);
    assert.ok((await rows(visitor).count()) < 80);
    await visitor.page.evaluate(step);
    return expected.every((name) => seen.has(name));
  }, "every session");
});

test("keys lead through the list and into a session", async (t) => {
  const visitor = await Visitor.enter(t, all);
  await rows(visitor).first().waitFor();
  await visitor.page.locator(".virtual").focus();
  await visitor.page.keyboard.press("ArrowDown");
  const chosen = visitor.page.locator('.session-row[aria-current="true"] .name');
  const first = await chosen.textContent();
  await visitor.page.keyboard.press("j");
  const second = await chosen.textContent();
  assert.notEqual(first, second);
  await visitor.page.keyboard.press("Enter");
  await visitor.page.getByRole("heading", { level: 1, name: second }).waitFor();
  await visitor.page.keyboard.press("g");
  await visitor.page.keyboard.press("h");
  await visitor.page.getByRole("heading", { level: 1, name: "Health" }).waitFor();
  await visitor.page.keyboard.press("/");
  await visitor.page.waitForFunction(() => document.activeElement?.id === "search");
  await visitor.page.keyboard.press("Escape");
  await visitor.page.keyboard.press("?");
  await visitor.page.getByRole("dialog", { name: "Keyboard" }).waitFor();
});
