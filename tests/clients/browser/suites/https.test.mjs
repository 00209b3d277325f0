// The same page on a server that speaks TLS: HTTP/2, as browsers speak it.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { channelPath, unique } from "../../node/support/http.mjs";
import { startServer } from "../../node/support/server.mjs";
import { ChatPage, answersOf, startBrowser } from "../support/browser.mjs";
import { Site } from "../support/site.mjs";

// The certificate signs itself, and this process has nobody else to talk to.
process.env.NODE_TLS_REJECT_UNAUTHORIZED = "0";

let directory, server, site, browser;
before(async () => {
  directory = mkdtempSync(join(tmpdir(), "continuo-tls-"));
  const [cert, key] = [join(directory, "cert.pem"), join(directory, "key.pem")];
  const subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"];
  const curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
  execFileSync("openssl", ["req", "-x509", ...curve, "-keyout", key, "-out", cert, ...subject], { stdio: "ignore" });
  server = await startServer("dev", { CONTINUO_TLS_CERT: cert, CONTINUO_TLS_KEY: key });
  site = await Site.start(server);
  browser = await startBrowser("--ignore-certificate-errors");
});
after(async () => {
  await browser?.close();
  site?.stop();
  await server?.stop();
  rmSync(directory, { recursive: true, force: true });
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
