// The same page on a server that speaks TLS: HTTP/2, as browsers speak it.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { channelPath, unique } from "../../node/support/http.mjs";
import { startServer } from "../../node/support/server.mjs";
import { selfSigned } from "../../node/support/tls.mjs";
import { ChatPage, answersOf, startBrowser } from "../support/browser.mjs";
import { Site } from "../support/site.mjs";

let certificate, server, site, browser;
before(async () => {
  certificate = selfSigned();
  server = await startServer("dev", certificate.settings);
  site = await Site.start(server);
  browser = await startBrowser("--ignore-certificate-errors");
});
after(async () => {
  await browser?.close();
  site?.stop();
  await server?.stop();
  certificate?.remove();
});

test("a conversation over https goes over HTTP/2, preflights and streams alike", async () => {
  assert.match(server.url, /^https:/);
  const chatId = unique("chat");
  const chat = await ChatPage.open(await browser.newContext(), site, chatId);
  assert.match(await chat.ask("Hello over TLS"), /You said: “Hello over TLS”/);
  assert.match(await chat.ask("Again"), /message 2 of this session/);
  assert.deepEqual(await chat.answers(), await answersOf(site.client, chatId));
  const calls = chat.network.calls.filter(({ url }) => url.origin === server.url);
  assert.ok(calls.some(({ preflight }) => preflight));
  assert.deepEqual(new Set(calls.map(({ protocol }) => protocol)), new Set(["h2"]));
});

test("more subscriptions than a browser opens connections leave room for an append", async () => {
  const page = await browser.newPage();
  await page.goto(`${site.origin}/empty`);
  const { externalId, publicAccessToken } = await site.client.createSession({ externalId: unique("many") });
  const [out, append] = ["out", "in"].map((io) => server.url + channelPath(externalId, io));
  const status = await page.evaluate(
    async ({ out, append, token }) => {
      const headers = { authorization: `Bearer ${token}` };
      const streams = await Promise.all(Array.from({ length: 12 }, () => fetch(out, { headers })));
      const appended = await fetch(`${append}/append`, { method: "POST", headers, body: "hello" });
      await Promise.all(streams.map(({ body }) => body.cancel()));
      return appended.status;
    },
    { out, append, token: publicAccessToken },
  );
  assert.equal(status, 200);
});
