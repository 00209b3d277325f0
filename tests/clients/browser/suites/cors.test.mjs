// What script in a page of another origin may read of the server's answers, the refusals before all.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { channelPath, unique } from "../../node/support/http.mjs";
import { scoped } from "../../node/support/tokens.mjs";
import { startServer } from "../../node/support/server.mjs";
import { startBrowser } from "../support/browser.mjs";
import { Site } from "../support/site.mjs";

let server, site, browser, page;
before(async () => {
  server = await startServer("serve");
  site = await Site.start(server);
  browser = await startBrowser();
  page = await browser.newPage();
  await page.goto(`${site.origin}/empty`);
});
after(async () => {
  await browser?.close();
  site?.stop();
  await server?.stop();
});

/** What script sees of an answer; a failure of CORS is a fetch that throws. `bytes` makes a body of that size. */
async function script(method, path, { token = server.key, headers = {}, body, bytes } = {}) {
  const url = new URL(path, server.url).href;
  const call = async ({ url, method, headers, body, bytes }) => {
    const content = bytes === undefined ? body : "x".repeat(bytes);
    const answer = await fetch(url, { method, headers, body: content });
    return { status: answer.status, headers: Object.fromEntries(answer.headers), text: await answer.text() };
  };
  const authorization = token === null ? {} : { authorization: `Bearer ${token}` };
  const answer = await page.evaluate(call, { url, method, headers: { ...authorization, ...headers }, body, bytes });
  return { ...answer, json: () => JSON.parse(answer.text) };
}

const session = (more) => site.client.createSession({ externalId: unique("cors"), ...more });
const append = (name) => `${channelPath(name, "in")}/append`;

test("the headers that steer a subscription are readable", async () => {
  const { externalId, publicAccessToken: token } = await session();
  await site.client.append(externalId, "out", JSON.stringify({ type: "trigger:turn-complete" }));
  const read = await script("GET", channelPath(externalId, "out"), { token, headers: { "X-Peek-Settled": "1" } });
  assert.equal(read.status, 200);
  assert.equal(read.headers["x-session-settled"], "true");
  assert.equal(read.headers["x-stream-version"], "v2");
  assert.equal(read.headers["content-type"], "text/event-stream");
  assert.match(read.text, /event: batch/);
});

test("a refused key, a missing scope and a session that is not there can be told apart by script", async () => {
  const { externalId } = await session();
  const reader = await scoped(site.client, `read:sessions:${externalId}`);
  const writer = await scoped(site.client, "write:sessions");
  for (const [status, path, token, error] of [
    [401, append(externalId), "no-such-key", "Invalid API key"],
    [401, append(externalId), null, "Invalid or Missing API key"],
    [403, append(externalId), reader, "Unauthorized"],
    [404, append(unique("nowhere")), writer, "Resource not found"],
  ]) {
    const answer = await script("POST", path, { token, body: "hello" });
    assert.equal(answer.status, status, answer.text);
    assert.equal(answer.json().error, error);
  }
  for (const token of ["no-such-key", await scoped(site.client, "read:sessions:other")]) {
    const answer = await script("GET", channelPath(externalId, "out"), { token });
    assert.equal(answer.status, token === "no-such-key" ? 401 : 403);
    assert.notEqual(answer.json().error, "");
  }
});

test("an append to a closed session says so to script, and that it is final", async () => {
  const { externalId, publicAccessToken: token } = await session();
  await site.client.call("POST", `/api/v1/sessions/${externalId}/close`, { json: { reason: "done" } });
  const answer = await script("POST", append(externalId), { token, body: "late" });
  assert.equal(answer.status, 409);
  assert.equal(answer.headers["x-should-retry"], "false");
  assert.equal(answer.json().code, "session_closed");
  assert.equal(answer.json().closedReason, "done");
});

test("a body that is too large is refused in words, however large it is", async () => {
  const { externalId, publicAccessToken: token } = await session();
  for (const bytes of [(1 << 20) + 1, 4 << 20, 16 << 20]) {
    const answer = await script("POST", append(externalId), { token, bytes });
    assert.equal(answer.status, 413, `${bytes} bytes`);
    assert.equal(answer.json().error, "Request body too large");
  }
});

test("also what nobody provides is readable", async () => {
  const { externalId } = await session();
  const unknown = await script("GET", "/api/v1/nothing");
  assert.equal(unknown.status, 404);
  assert.match(unknown.json().error, /GET \/api\/v1\/nothing/);
  const method = await script("DELETE", channelPath(externalId, "out"));
  assert.equal(method.status, 405);
});

test("a page puts and gets the snapshot of its session", async () => {
  const { externalId, publicAccessToken: token } = await session();
  const path = `/api/v1/sessions/${externalId}/snapshot-url`;
  const { presignedUrl: put } = (await script("PUT", path, { token })).json();
  const content = JSON.stringify({ messages: ["kept"] });
  const stored = await script("PUT", put, { token: null, headers: { "content-type": "application/json" }, body: content });
  assert.equal(stored.status, 200, stored.text);
  const { presignedUrl: get } = (await script("GET", path, { token })).json();
  assert.equal((await script("GET", get, { token: null })).text, content);
});
