// The server goes away and comes back, at the same address and with the same data, while a page is open on it.
import assert from "node:assert/strict";
import { test } from "node:test";
import { unique } from "../../node/support/http.mjs";
import { startServer } from "../../node/support/server.mjs";
import { ChatPage, answersOf, startBrowser } from "../support/browser.mjs";
import { Site } from "../support/site.mjs";

const SLOW_MS = 150;

/** A page on a server, which it may reach through a gateway; all of it ends with the test. */
async function open(t, { settings, throughGateway = false, tokenDelayMs = SLOW_MS } = {}) {
  const server = await startServer("dev", settings);
  t.after(() => server.stop());
  const gateway = throughGateway && (await startServer("gateway", { CONTINUO_UPSTREAM: server.url }));
  if (gateway) t.after(() => gateway.stop());
  const site = await Site.start(server, gateway ? { url: gateway.url } : {});
  t.after(() => site.stop());
  site.tokenDelayMs = tokenDelayMs;
  const browser = await startBrowser();
  t.after(() => browser.close());
  const chatId = unique("chat");
  const chat = await ChatPage.open(await browser.newContext(), site, chatId);
  const hush = () => site.client.append(chatId, "in", JSON.stringify({ kind: "stop" }));
  const inputs = async () => (await site.client.records(chatId, "in")).map(({ data }) => JSON.parse(data).kind);
  return { server, gateway, site, chat, chatId, hush, inputs };
}

test("an answer goes on where it was when the gateway was killed and is back", async (t) => {
  const { gateway, site, chat, chatId, hush } = await open(t, { throughGateway: true });
  await chat.send("Tell me a story");
  const before = await chat.whenSpeaking();
  await gateway.restart("SIGKILL");
  await chat.whenLonger(before);
  await hush();
  await chat.whenAnswered();
  assert.deepEqual(await chat.answers(), await answersOf(site.client, chatId), "nothing is lost or doubled");
  assert.equal(chat.network.appends().length, 1);
  const last = chat.network.reads().at(-1);
  assert.ok(Number(last.request["last-event-id"]) > 0, "it asked for the rest only");
});

test("an answer that dies with a killed server is given again, on the same stream, and the next turn works", async (t) => {
  const settings = { CONTINUO_WORKER_LEASE_MS: "2000", CONTINUO_WORKER_HEARTBEAT_MS: "500" };
  const { server, site, chat, chatId, hush, inputs } = await open(t, { settings });
  await chat.send("Tell me a story");
  const before = await chat.whenSpeaking();
  await server.restart("SIGKILL");
  await chat.when(() => /An earlier attempt.*You said/.test(document.querySelector("ol").textContent));
  await hush();
  await chat.when(() => document.querySelector("[role=status]").textContent === "ready");
  const [whole] = await answersOf(site.client, chatId);
  assert.equal((await chat.answers()).at(-1), whole, "nothing is lost or doubled");
  assert.ok(whole.startsWith(before));
  const count = (await chat.answers()).length;
  await chat.send("And now?");
  assert.match(await chat.whenSpeaking(count), /^You said: “And now\?”\. This is message 2/);
  await hush();
  await chat.whenAnswered(count);
  assert.equal((await chat.answers()).at(-1), (await answersOf(site.client, chatId))[1]);
  assert.deepEqual(await inputs(), ["message", "stop", "message", "stop"], "nothing was sent twice");
});

test("a page between two turns does not notice that the server was stopped and started", async (t) => {
  const { server, site, chat, chatId } = await open(t, { tokenDelayMs: 0 });
  await chat.ask("Before");
  await server.restart("SIGTERM");
  assert.match(await chat.ask("After"), /You said: “After”\. This is message 2 of this session/);
  assert.deepEqual(await chat.answers(), await answersOf(site.client, chatId));
});
