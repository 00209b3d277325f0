// Input that means harm, or is merely large or strange: it is shown as what it is.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { channelPath, unique } from "../../node/support/http.mjs";
import { Visitor, each, open } from "../support/console.mjs";

let all;
before(async () => (all = await open()));
after(() => all?.stop());

const SCRIPT = '<script>window.harm=1</script><img src=x onerror="window.harm=1"><svg onload=window.harm=1>';
const LINK = "javascript:window.harm=1";

test("markup in every field that a user fills is text", async (t) => {
  const name = `${unique("<b>x</b>")}"'><img src=x onerror=window.harm=1>`;
  await all.client.createSession({
    externalId: name,
    type: "<script>window.harm=1</script>",
    taskIdentifier: SCRIPT,
    tags: [SCRIPT, LINK, "&lt;i&gt;"],
    metadata: { [SCRIPT]: SCRIPT, link: LINK },
    triggerConfig: { basePayload: { [SCRIPT]: [SCRIPT] } },
  });
  const out = (value) => all.client.append(name, "out", typeof value === "string" ? value : JSON.stringify(value));
  await all.client.append(
    name,
    "in",
    JSON.stringify({
      kind: "message",
      payload: { message: { role: "user", parts: [{ type: "text", text: SCRIPT }] } },
    }),
  );
  await all.client.append(name, "in", SCRIPT);
  for (const chunk of [
    { type: "start", messageId: SCRIPT, messageMetadata: { runId: SCRIPT } },
    { type: "text-start", id: "t" },
    { type: "text-delta", id: "t", delta: SCRIPT },
    { type: "reasoning-delta", id: "r", delta: SCRIPT },
    { type: "tool-input-available", toolCallId: "c", toolName: SCRIPT, input: { [SCRIPT]: SCRIPT } },
    { type: "file", url: LINK, mediaType: SCRIPT },
    { type: "source-url", url: LINK, title: SCRIPT },
    { type: `data-${SCRIPT}`, data: SCRIPT },
    { type: "error", errorText: SCRIPT },
    { __proto__: null, type: "start", messageId: "__proto__" },
    { type: "text-delta", id: "constructor", delta: "end" },
  ])
    await out(chunk);
  await out('{"__proto__":{"polluted":true},"type":"data-x","data":{"constructor":1}}');
  const visitor = await Visitor.enter(t, all);
  await visitor.page.getByRole("link", { name }).waitFor();
  await visitor.page.getByRole("link", { name }).click();
  await visitor.page.getByRole("heading", { level: 1, name }).waitFor();
  await visitor.pane(".out").locator(".entry", { hasText: "__proto__" }).last().click();
  await visitor.page.getByRole("group", { name: /^Record \d/ }).waitFor();
  await visitor.button("Chat").click();
  for (const fold of await visitor.page.locator(".fold > button").all()) await fold.click();
  await visitor.shot("hostile-chat");
  await visitor.button("Details").click();
  await visitor.text("Metadata").waitFor();
  await all.client.call("POST", `/api/v1/sessions/${encodeURIComponent(name)}/close`, { json: { reason: SCRIPT } });
  await visitor.page.locator(".note", { hasText: "Closed" }).waitFor();
  await visitor.button("Copy as").click();
  await visitor.shot("hostile-details");
  const harm = await visitor.page.evaluate(() => ({
    harm: window.harm,
    polluted: {}.polluted,
    foreign: [...document.querySelectorAll("#console :is(script, img, iframe, object, b, i)")].length,
    links: [...document.querySelectorAll("a")].filter((link) => link.protocol === "javascript:").length,
  }));
  assert.deepEqual(harm, { harm: undefined, polluted: undefined, foreign: 0, links: 0 });
  await visitor.assertQuiet();
});

test("a record of a mebibyte is a row, opens, and is shown piece by piece", async (t) => {
  const name = unique("large");
  await all.client.createSession({ externalId: name, taskIdentifier: "nobody" });
  const answer = await all.client.append(name, "out", "x".repeat(1_048_000));
  assert.equal(answer.status, 200, answer.text);
  await all.client.append(
    name,
    "out",
    JSON.stringify({ type: "data-wide", data: Array.from({ length: 40_000 }, (_, i) => i) }),
  );
  const visitor = await Visitor.enter(t, all, { path: `#/sessions/${name}` });
  const out = visitor.pane(".out");
  await out.locator(".entry", { hasText: "xxxx" }).click();
  const detail = visitor.page.getByRole("group", { name: /^Record \d/ });
  await detail.getByRole("button", { name: /1,040,000 more characters/ }).click();
  await detail.getByRole("button", { name: /1,016,000 more characters/ }).waitFor();
  await out.locator(".entry", { hasText: "data-wide" }).click();
  await detail.getByRole("button", { name: "39,900 more" }).click();
  await detail.getByRole("button", { name: "39,800 more" }).waitFor();
  await visitor.button("Chat").click();
  await visitor.page.locator(".fold > button").waitFor();
  await visitor.assertQuiet();
});

test("a row says what was said: of long words their beginning, in one line, and nothing that turns its letters", async (t) => {
  const name = unique("rows");
  await all.client.createSession({ externalId: name, taskIdentifier: "nobody" });
  const message = { role: "user", parts: [{ type: "text", text: `long words ${"and more ".repeat(100)}` }] };
  await all.client.append(name, "in", JSON.stringify({ kind: "message", payload: { message } }));
  await all.client.append(name, "out", `"said"\n${"again ".repeat(1_000)}`);
  await all.client.append(name, "out", "first\r\nsecond \u202eturned");
  const visitor = await Visitor.enter(t, all, { path: `#/sessions/${name}` });
  await visitor
    .pane(".in")
    .locator(".line", { hasText: /^long words and more/ })
    .waitFor();
  const line = (seq) => visitor.pane(".out").locator(`.entry[data-seq="${seq}"] .line`);
  await line(2).waitFor();
  assert.match(await line(1).textContent(), /^"said"\\nagain again/);
  assert.equal(await line(2).textContent(), "first⏎⏎second \\u202eturned");
  await visitor.assertQuiet();
});

test("one that is too large is refused in words, stays in the field, and nothing was stored", async (t) => {
  const name = unique("larger");
  await all.client.createSession({ externalId: name, taskIdentifier: "nobody" });
  const visitor = await Visitor.enter(t, all, { path: `#/sessions/${name}` });
  await visitor.button("Raw record").click();
  const text = "y".repeat(1_048_576);
  await visitor.say(text);
  await visitor.page.getByRole("alert").getByText("RECORD_TOO_LARGE").waitFor();
  assert.equal((await visitor.page.locator("#composer").inputValue()).length, text.length);
  assert.deepEqual(await all.client.records(name, "in"), []);
});

test("bytes that are no text are shown as bytes", async (t) => {
  const name = unique("bytes");
  await all.client.createSession({ externalId: name, taskIdentifier: "nobody" });
  const { headers } = await all.client.call("PUT", channelPath(name, "out"));
  const bytes = Buffer.from([0, 1, 2, 0xff, 0xfe, 0x41, 0x80, 0xc3, 0x28]);
  const stored = await fetch(
    `${headers.get("x-s2-endpoint")}/streams/${encodeURIComponent(headers.get("x-s2-stream-name"))}/records`,
    {
      method: "POST",
      headers: {
        authorization: `Bearer ${headers.get("x-s2-access-token")}`,
        "content-type": "application/json",
        "s2-format": "base64",
      },
      body: JSON.stringify({
        records: [
          {
            headers: [[Buffer.from([0xff]).toString("base64"), Buffer.from([0x80]).toString("base64")]],
            body: bytes.toString("base64"),
          },
        ],
      }),
    },
  );
  assert.equal(stored.status, 200, await stored.text());
  const visitor = await Visitor.enter(t, all, { path: `#/sessions/${name}` });
  await visitor.pane(".out").locator(".entry.binary").click();
  const detail = visitor.page.getByRole("group", { name: /^Record \d/ });
  assert.match(await detail.innerText(), /00000 {2}00 01 02 ff fe 41 80 c3 28 +···+A/);
  await visitor.shot("bytes");
  await visitor.assertQuiet();
});

test("ten thousand tags are in use, and ten thousand are asked for", async (t) => {
  await each(1_000, (i) =>
    all.client.createSession({
      externalId: `tagged-${i}`,
      taskIdentifier: "nobody",
      tags: Array.from({ length: 10 }, (_, j) => `tag-${i * 10 + j}`),
    }),
  );
  const visitor = await Visitor.enter(t, all);
  await visitor.page.getByLabel("Tag", { exact: true }).fill("tag-999");
  await visitor.page.waitForFunction(() => document.querySelectorAll("#tags-in-use option").length === 11);
  await visitor.page.keyboard.press("Enter");
  await visitor.page.getByRole("link", { name: "tagged-99", exact: true }).waitFor();
  const query = new URLSearchParams(Array.from({ length: 10_000 }, (_, i) => ["tag", `tag-${i}`]));
  await visitor.page.evaluate((query) => (location.hash = `#/sessions?${query}`), query.toString());
  await visitor.page.locator('.note[role="alert"], .session-row .name').first().waitFor();
  await visitor.button("Clear").click();
  await visitor.page.locator(".session-row .name").first().waitFor();
  await visitor.assertQuiet();
});

test("of very many channels, and of names as long as they may be, each is found", async (t) => {
  const name = unique("channels");
  await all.client.createSession({ externalId: name, taskIdentifier: "nobody" });
  await each(150, (i) => all.client.append(name, "out", `n${i}`, { name: `channel-${String(i).padStart(3, "0")}` }));
  const long = "z".repeat(128);
  for (const io of ["in", "out"]) await all.client.append(name, io, `long ${io}`, { name: long });
  const visitor = await Visitor.enter(t, all, { path: `#/sessions/${name}?view=records`, width: 390, height: 844 });
  await visitor.page.getByRole("button", { name: /^Channels \d+\+$/ }).click();
  await visitor.button("List more").click();
  await visitor.text(/^And \d+ more; type to find them/).waitFor();
  await visitor.page.getByLabel("Name of a channel").fill(long);
  await visitor.page
    .getByRole("dialog")
    .getByRole("button", { name: `${long}.in, 1 written` })
    .waitFor();
  await visitor.shot("channels-long-phone");
  const over = await visitor.page.evaluate(() => {
    const dialog = document.querySelector("dialog");
    return dialog.scrollWidth - dialog.clientWidth;
  });
  assert.ok(over <= 0, `${over} pixels too wide`);
  await visitor.page
    .getByRole("dialog")
    .getByRole("button", { name: `${long}.in, 1 written` })
    .click();
  await visitor.pane(`${long}.in`).getByText("long in").waitFor();
  await visitor.assertQuiet();
});

test("what is no key is refused in words and leaves nothing behind", async (t) => {
  const visitor = await Visitor.enter(t, all, { key: null });
  for (const key of ["tr_dev_wrong", "ключ", "a b", "x".repeat(20_000)]) {
    await visitor.page.getByLabel("Secret key or scoped token").fill(key);
    await visitor.page.keyboard.press("Enter");
    await visitor.page.getByRole("alert").waitFor();
    assert.equal(await visitor.page.evaluate(() => sessionStorage.length), 0);
  }
  await visitor.giveKey(all.server.key);
  assert.ok(!visitor.page.url().includes(all.server.key));
});
