// Everyone can use it: axe finds nothing serious, in light and dark; on a phone nothing runs over the edge; the health page is there.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";
import { Visitor, open } from "../support/console.mjs";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
let all;
before(async () => {
  all = await open();
  await all.client.createSession({ externalId: "chat", tags: ["one", "two"], metadata: { a: 1 } });
  await all.client.append("chat", "in", JSON.stringify({ kind: "message", payload: { message: "Hello" } }));
  await all.client.createSession({ externalId: "closed", taskIdentifier: "nobody" });
  await all.client.call("POST", "/api/v1/sessions/closed/close", { json: { reason: "done" } });
});
after(() => all?.stop());

const PAGES = [
  ["sessions", "#/sessions", ".session-row .name"],
  ["session", "#/sessions/chat?view=records", ".entry"],
  ["chat", "#/sessions/chat?view=chat", '[data-role="assistant"][data-state="done"]'],
  ["details", "#/sessions/chat?view=about", ".about dl"],
  ["closed", "#/sessions/closed?view=records", ".note"],
  ["playground", "#/playground", ".lead"],
  ["talk", "#/playground/chat", '[data-role="assistant"][data-state="done"]'],
  ["health", "#/health", ".card canvas"],
  ["docs", "#/docs/readme", ".docs article h1"],
  ["client", "#/docs/clients-go", ".docs article h1"],
  ["rest", "#/docs/rest/createSession", ".docs .operation"],
  ["grpc", "#/docs/grpc-session-service", ".docs article h1"],
];

async function assertAccessible(visitor, what) {
  // Through the debugger: the page's policy would not let a script in.
  await visitor.page.evaluate(AXE);
  const found = await visitor.page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  const serious = found.violations.filter(({ impact }) => impact === "serious" || impact === "critical");
  assert.deepEqual(
    serious.map(
      ({ id, nodes }) =>
        `${what}: ${id}: ${nodes
          .slice(0, 3)
          .map(({ html, failureSummary }) => `${html} ${failureSummary}`)
          .join(" | ")}`,
    ),
    [],
  );
}

for (const dark of [false, true]) {
  test(`axe finds nothing serious in ${dark ? "dark" : "light"}`, async (t) => {
    const visitor = await Visitor.enter(t, all, { dark, key: null });
    await assertAccessible(visitor, "entry");
    await visitor.giveKey(all.server.key);
    for (const [name, path, there] of PAGES) {
      await visitor.page.goto(`${all.url}${path}`);
      await visitor.page.locator(there).first().waitFor();
      await assertAccessible(visitor, name);
      await visitor.shot(`${name}-${dark ? "dark" : "light"}`);
    }
    await visitor.page.goto(`${all.url}#/sessions/chat`);
    for (const [button, title] of [
      ["Channels", "Named channels"],
      ["Tokens", "Scoped tokens"],
      ["Copy as", "Copy as"],
      ["Close", "Close the session"],
    ]) {
      await visitor.button(button).click();
      await visitor.page.getByRole("dialog", { name: title }).waitFor();
      await assertAccessible(visitor, title);
      await visitor.page.keyboard.press("Escape");
    }
    await visitor.assertQuiet();
  });
}

test("everything is reached with Tab and seen to be, and a dialog keeps the focus and gives it back", async (t) => {
  const visitor = await Visitor.enter(t, all, { path: "#/sessions/chat?view=records" });
  const { page } = visitor;
  await page.locator(".entry").first().waitFor();
  await visitor.button("End and continue").waitFor();
  const wanted = await page.evaluate(() => {
    const seen = [...document.querySelectorAll("a, button, input, select, textarea")].filter(
      (element) => !element.disabled && element.checkVisibility(),
    );
    return seen.map((element) => (element.ariaLabel ?? element.textContent).trim());
  });
  const focused = () =>
    page.evaluate(() => {
      const element = document.activeElement;
      const isSeen = getComputedStyle(element).outlineStyle !== "none";
      return { name: (element.ariaLabel ?? element.textContent).trim(), isSeen, isBody: element === document.body };
    });
  const reached = new Set();
  for (let i = 0; i < 80; i++) {
    await page.keyboard.press("Tab");
    const { name, isSeen, isBody } = await focused();
    if (isBody) continue;
    assert.ok(isSeen, `the focus on ${name} is not seen`);
    reached.add(name);
  }
  assert.deepEqual(
    wanted.filter((name) => !reached.has(name)),
    [],
  );
  for (const name of ["Keyboard shortcuts", "Channels", "Tokens", "Copy as", "Close"]) {
    await visitor.button(name).focus();
    await page.keyboard.press("Enter");
    const dialog = page.getByRole("dialog");
    await dialog.waitFor();
    for (let i = 0; i < 12; i++) {
      await page.keyboard.press(i % 3 ? "Tab" : "Shift+Tab");
      const isInside = await page.evaluate(() => document.activeElement.matches("body, dialog, dialog *"));
      assert.ok(isInside, `the focus left ${name}`);
    }
    await page.keyboard.press("Escape");
    await dialog.waitFor({ state: "detached" });
    assert.equal((await focused()).name, name, "the focus is back");
  }
  await visitor.assertQuiet();
});

test("on a phone nothing runs over the edge, and everything is within reach", async (t) => {
  const visitor = await Visitor.enter(t, all, { width: 390, height: 844 });
  for (const [name, path, there] of [...PAGES, ["runs", "#/sessions/chat?view=runs", ".timeline li"]]) {
    await visitor.page.goto(`${all.url}${path}`);
    await visitor.page.locator(there).first().waitFor();
    await visitor.shot(`${name}-phone`);
    const over = await visitor.page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(over <= 0, `${name} is ${over} pixels too wide`);
  }
  await visitor.page.goto(`${all.url}#/playground/chat`);
  await visitor.say("From a phone");
  await visitor.answers().last().getByText("From a phone").waitFor();
  await visitor.assertQuiet();
});

test("the health page measures, and says when the server is not ready", async (t) => {
  const visitor = await Visitor.enter(t, all, { path: "#/health" });
  await visitor.page
    .locator(".headline", { hasText: /^[\d.]+ ms$/ })
    .nth(2)
    .waitFor();
  await visitor.page.locator(".head").getByText("ready", { exact: true }).waitFor();
  await visitor.page.getByRole("rowheader", { name: "task/nobody" }).waitFor();
  await visitor.page.route("**/readyz", (route) =>
    route.fulfill({ status: 503, body: "the database cannot be reached" }),
  );
  await visitor.text("the database cannot be reached").waitFor();
});
