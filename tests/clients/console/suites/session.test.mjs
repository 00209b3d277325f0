// One session: its records as they are, and everything that can be done with it.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Client, channelPath, unique } from "../../node/support/http.mjs";
import { claimsOf, scoped, secondsAgo, sign } from "../../node/support/tokens.mjs";
import { Visitor, each, open } from "../support/console.mjs";

/** Life of a token that ends while one looks. */
const LIFE_S = 8;

let all;
before(async () => (all = await open()));
after(() => all?.stop());

/** A session that nobody serves, so that its channels hold what a test puts there. */
async function made(more = {}) {
  const name = unique("session");
  await all.client.createSession({ externalId: name, taskIdentifier: "nobody", ...more });
  return name;
}
const enter = (t, name, query = "", more = {}) =>
  Visitor.enter(t, all, { path: `#/sessions/${name}${query}`, ...more });
/** The numbers that are seen. */
const seqs = (pane) =>
  pane.locator(".entry[data-seq]").evaluateAll((rows) => rows.map((row) => Number(row.dataset.seq)));
/** So many records, each number once. */
async function assertWhole(pane, count) {
  assert.equal(await pane.locator(".entry.data").count(), count);
  const numbers = await seqs(pane);
  assert.deepEqual(
    numbers,
    Array.from(numbers, (_, i) => i),
    "without gap or repeat",
  );
}

test("records of both sides arrive while one looks, with their numbers and in full", async (t) => {
  const name = await made();
  const visitor = await enter(t, name);
  await visitor.pane(".out").getByText("live").waitFor();
  await all.client.append(
    name,
    "out",
    JSON.stringify({ type: "data-answer", data: { deep: { list: [1, 2, { three: true }] } } }),
  );
  await all.client.append(name, "in", "plain words");
  await visitor.pane(".in").getByText("plain words").waitFor();
  await visitor.pane(".out").locator(".entry", { hasText: "data-answer" }).click();
  const detail = visitor.page.getByRole("group", { name: /^Record \d/ });
  assert.match(await detail.innerText(), /three: true/);
  await visitor.shot("session");
  await visitor.assertQuiet();
});

test("a raw record, and a chat message, are sent once each", async (t) => {
  const name = await made();
  const visitor = await enter(t, name);
  await visitor.pane(".in").getByText("live").waitFor();
  await visitor.say("a chat message");
  await visitor.pane(".in").getByText("a chat message").waitFor();
  await visitor.button("Raw record").click();
  await visitor.say('{"kind":"approve","by":"me"}');
  await visitor.pane(".in").getByText("approve").first().waitFor();
  const records = await all.client.records(name, "in");
  assert.equal(records.length, 2);
  assert.equal(JSON.parse(records[0].data).payload.message.parts[0].text, "a chat message");
  assert.equal(records[1].data, '{"kind":"approve","by":"me"}');
});

test("one goes to a number near and far, back step by step, and to the newest", async (t) => {
  const name = await made();
  await each(1_300, (i) => all.client.append(name, "out", `r${i}`), 48);
  const visitor = await enter(t, name);
  const out = visitor.pane(".out");
  await out.locator(".entry[data-seq='1300']").waitFor();
  await out.getByRole("button", { name: /^Earlier/ }).click();
  await out.getByRole("button", { name: /before 301/ }).waitFor();
  await out.getByLabel("Go to record number").fill("450");
  await visitor.page.keyboard.press("Enter");
  await out.locator(".entry[data-seq='450'][aria-current]").waitFor();
  await out.getByLabel("Go to record number").fill("7");
  await visitor.page.keyboard.press("Enter");
  await out.locator(".entry[data-seq='7']").waitFor();
  await out.getByRole("button", { name: "↓ Newest" }).click();
  await out.locator(".entry[data-seq='1300']").waitFor();
  await out.getByLabel("Go to record number").fill("7");
  await visitor.page.keyboard.press("Enter");
  await out.locator(".entry[data-seq='1300']").waitFor({ state: "detached" });
  await out.getByLabel("Go to record number").fill("99999");
  await visitor.page.keyboard.press("Enter");
  await out.locator(".entry[data-seq='1300']").waitFor();
  const numbers = await seqs(out);
  assert.deepEqual(
    numbers,
    Array.from(numbers, (_, i) => numbers[0] + i),
    "without gap or repeat",
  );
});

test("what was trimmed away is marked as such", async (t) => {
  const name = await made();
  for (let i = 0; i < 6; i++) await all.client.append(name, "out", `r${i}`);
  const { headers } = await all.client.call("PUT", channelPath(name, "out"));
  const trimmed = await fetch(
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
            headers: [["", Buffer.from("trim").toString("base64")]],
            body: Buffer.from([0, 0, 0, 0, 0, 0, 0, 4]).toString("base64"),
          },
        ],
      }),
    },
  );
  assert.equal(trimmed.status, 200, await trimmed.text());
  const visitor = await enter(t, name);
  const out = visitor.pane(".out");
  await out.locator(".entry.hole", { hasText: "0 to 3 were trimmed" }).waitFor();
  await out.locator(".entry.command", { hasText: "everything before 4" }).waitFor();
  await visitor.shot("session-gap");
});

test("named channels are listed as they come, chosen or typed, read beside the others, and written", async (t) => {
  const name = await made();
  for (const text of ["first", "from the tools"]) await all.client.append(name, "out", text, { name: "tools" });
  await all.client.append(name, "in", "go", { name: "steps" });
  const visitor = await enter(t, name);
  const channels = visitor.page.getByRole("button", { name: /^Channels/ });
  const dialog = visitor.page.getByRole("dialog", { name: "Named channels" });
  await channels.click();
  await dialog.getByRole("button", { name: /^tools\.out, 2 written/ }).waitFor();
  await dialog.getByRole("button", { name: /^steps\.in, 1 written/ }).waitFor();
  await all.client.append(name, "out", "now", { name: "later" });
  await dialog.getByRole("button", { name: /^later\.out, 1 written/ }).waitFor();
  await visitor.shot("session-channels");
  await visitor.page.getByLabel("Name of a channel").fill("too");
  await dialog.getByRole("button", { name: /^steps/ }).waitFor({ state: "detached" });
  await dialog.getByRole("button", { name: /^tools/ }).click();
  await visitor.pane("tools.out").getByText("from the tools").waitFor();
  await channels.click();
  await visitor.page.getByLabel("Name of a channel").fill("not there yet");
  await visitor.page.keyboard.press("Enter");
  assert.equal(await visitor.page.locator(".open-channel input:invalid").count(), 1, "no such name is possible");
  await visitor.page.getByLabel("Name of a channel").fill("nobody-wrote-it");
  await visitor.page.keyboard.press("Enter");
  await visitor.pane("nobody-wrote-it.out").getByText("Nothing here yet").waitFor();
  await visitor.page.getByLabel("Channel", { exact: true }).selectOption({ label: "to nobody-wrote-it.out" });
  await visitor.say("to the new one");
  await visitor.pane("nobody-wrote-it.out").getByText("to the new one").waitFor();
  await visitor.page.reload();
  await visitor.pane("nobody-wrote-it.out").getByText("to the new one").waitFor();
  const target = visitor.page.getByLabel("Channel", { exact: true });
  await target.selectOption({ label: "to nobody-wrote-it.out" });
  await visitor.button("Close tools.out").click();
  await visitor.pane("tools.out").waitFor({ state: "detached" });
  assert.equal(await target.inputValue(), "nobody-wrote-it.out", "what is closed beside it moves no record elsewhere");
  await channels.click();
  await dialog.getByRole("button", { name: /^tools/ }).click();
  await channels.click();
  await visitor.text("Close one to open another").waitFor();
  assert.ok(await dialog.getByRole("button", { name: /^later/ }).isDisabled());
  await dialog.getByRole("button", { name: /^nobody-wrote-it\.out, 1 written/ }).click();
  await visitor.page.keyboard.press("Escape");
  await visitor.pane("nobody-wrote-it.out").waitFor({ state: "detached" });
  await visitor.button("Close tools.out").click();
  await visitor.pane("tools.out").waitFor({ state: "detached" });
  await visitor.assertQuiet();
});

test("a token for one channel opens that channel, and is told that it does not see the session", async (t) => {
  const name = await made();
  const { id } = (await all.client.call("GET", `/api/v1/sessions/${name}`)).body;
  await all.client.append(name, "out", "for everyone");
  await all.client.append(name, "out", "from the tools", { name: "tools" });
  await all.client.append(name, "out", "not for them", { name: "steps" });
  const visitor = await enter(t, id, "", { key: await scoped(all.client, `read:sessions:${id}:channels:tools`) });
  await visitor.text("This token does not see the session").waitFor();
  await visitor.page.getByRole("button", { name: /^Channels/ }).click();
  const listed = visitor.page.getByRole("list", { name: "Channels that were written" }).getByRole("button");
  await listed.first().waitFor();
  assert.deepEqual(await listed.locator("code").allTextContents(), ["tools.out"]);
  await listed.click();
  await visitor.pane("tools.out").getByText("from the tools").waitFor();
  await visitor.shot("session-one-channel");
  await visitor.assertQuiet();
});

test("a session is handed over and closed, and says so", async (t) => {
  const name = unique("served");
  await all.client.createSession({ externalId: name });
  const visitor = await enter(t, name);
  await visitor.button("End and continue").click();
  await visitor.page.locator(".timeline li.current", { hasText: "manual" }).waitFor();
  await visitor.button("Close").click();
  await visitor.page.getByLabel("Reason").fill("all said");
  await visitor.button("Close it").click();
  await visitor.text("Closed just now: all said").waitFor();
  assert.ok(await visitor.page.locator("#composer").isDisabled());
  const { body } = await all.client.call("GET", `/api/v1/sessions/${name}`);
  assert.equal(body.closedReason, "all said");
});

test("a token that was made here reads and writes this session alone, until those of the session are revoked", async (t) => {
  const [name, other] = [await made(), await made()];
  await all.client.append(name, "out", "before");
  const visitor = await enter(t, name);
  await visitor.button("Tokens").click();
  await visitor.button("Make a token").click();
  const token = await visitor.page.getByRole("status", { name: "The token" }).textContent();
  const holder = new Client(all.server, token);
  assert.equal((await holder.append(name, "in", "hello")).status, 200);
  assert.equal((await holder.append(other, "in", "hello")).status, 403);

  const guest = await Visitor.enter(t, all, { key: token });
  await guest.page.getByRole("link", { name: /^Open/ }).click();
  await guest.text(".in is read with a secret key only").waitFor();
  await guest.pane(".out").getByText("before").waitFor();
  await guest.shot("session-guest");

  await visitor.button("Tokens of this session…").click();
  await visitor.button("Revoke now").click();
  await visitor.text("are refused now").waitFor();
  await guest.page.getByRole("dialog", { name: "This token has ended" }).waitFor();
  await guest.shot("session-refused");
  assert.equal((await holder.append(name, "in", "again")).status, 401);
  await all.client.append(name, "out", "meanwhile");
  await guest.giveKey(all.server.key);
  await guest.pane(".out").getByText("meanwhile").waitFor();
  await assertWhole(guest.pane(".out"), 2);
});

test("a token that ends in mid-stream is said to have ended; what is shown stays, and goes on with another one", async (t) => {
  const name = await made();
  const { id } = (await all.client.call("GET", `/api/v1/sessions/${name}`)).body;
  await all.client.append(name, "out", "before");
  const visitor = await enter(t, name, "?view=records", { key: null });
  const claims = { ...(await claimsOf(all.client)), scopes: [`read:sessions:${id}`] };
  await visitor.giveKey(sign(all.server.key, { ...claims, exp: secondsAgo(-LIFE_S) }));
  const out = visitor.pane(".out");
  await out.locator(".entry", { hasText: "before" }).click();
  const reads = [];
  visitor.page.on("request", (request) => reads.push(...(request.url().endsWith("/Read") ? [request] : [])));
  const ended = visitor.page.getByRole("dialog", { name: "This token has ended" });
  await ended.getByText("It was good until").waitFor();
  const asked = reads.length;
  await visitor.page.keyboard.press("Escape");
  await ended.waitFor({ state: "detached" });
  await out.getByText("waits for a key").waitFor();
  await visitor.page.getByRole("group", { name: "Record 1" }).waitFor();
  await visitor.shot("session-ended");
  await all.client.append(name, "out", "meanwhile");
  await visitor.button("Enter another").click();
  await visitor.page
    .getByLabel("Secret key or scoped token")
    .fill(sign(all.server.key, { ...claims, exp: secondsAgo(1) }));
  await visitor.page.keyboard.press("Enter");
  await ended.getByRole("alert").getByText("The server does not accept this key").waitFor();
  assert.equal(reads.length, asked, "nothing was asked for with a token that has ended");
  assert.equal(await out.getByText("meanwhile").count(), 0);
  await visitor.giveKey(sign(all.server.key, claims));
  await out.getByText("meanwhile").waitFor();
  await visitor.page.getByRole("group", { name: "Record 1" }).waitFor();
  await assertWhole(out, 2);
  assert.equal(reads.length, asked + 1, "one connection went on where the other ended");
  await visitor.assertQuiet();
});

test("calls are copied in four ways, without the key", async (t) => {
  const name = await made();
  const visitor = await enter(t, `${name}`);
  await visitor.button("Copy as").click();
  for (const [way, sign] of [
    ["curl", "/realtime/v1/sessions/"],
    ["grpcurl", "continuo.v1.ChannelService/Read"],
    ["SDK", "@trigger.dev/sdk"],
    ["continuo", "continuo sessions send"],
  ]) {
    await visitor.button(way).click();
    const text = (await visitor.page.locator(".snippet pre").allTextContents()).join("\n");
    assert.ok(text.includes(sign) && text.includes(name), way);
    assert.ok(!text.includes(all.server.key));
  }
});

test("a session that does not exist is said not to exist", async (t) => {
  const visitor = await enter(t, "nobody-made-this");
  await visitor.text("There is no such session").waitFor();
});
