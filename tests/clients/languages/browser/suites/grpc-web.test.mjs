// gRPC-Web from a page of another origin: what goes through, what its script may read, and how it goes on.
import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { startBrowser } from "../../../browser/support/browser.mjs";
import { Network } from "../../../browser/support/network.mjs";
import { Client, unique } from "../../../node/support/http.mjs";
import { startServer } from "../../../node/support/server.mjs";
import { until } from "../../../node/support/wait.mjs";
import { scoped, sign, claimsOf } from "../../../node/support/tokens.mjs";
import { bundle, startSite } from "../site.mjs";

const IN = 1;
const OUT = 2;

let server, client, site, browser, page, network, session;
const renewed = [];
before(async () => {
  server = await startServer("serve");
  client = new Client(server);
  site = await startSite({
    "/": ["text/html", '<!doctype html><script type="module" src="/probe.js"></script>'],
    "/probe.js": ["text/javascript", await bundle("suites/probe.ts")],
    "/token": async () => {
      renewed.push(session.externalId);
      return ["text/plain", await reader()];
    },
  });
  browser = await startBrowser();
});
after(async () => {
  await browser?.close();
  site?.stop();
  await server?.stop();
});
beforeEach(async () => {
  session = await client.createSession({ externalId: unique("web"), taskIdentifier: "nobody" });
  page = await browser.newPage();
  network = await Network.of(page);
  await page.goto(site.origin);
  await page.waitForFunction(() => window.probe);
});

const reader = () => scoped(client, `read:sessions:${session.externalId}`);
const where = (token = session.publicAccessToken) => ({ url: server.url, token });

/** A call of the page's script. */
const script = (name, ...given) => page.evaluate(([name, given]) => window.probe[name](...given), [name, given]);
const write = (text) => client.append(session.externalId, "out", text);

/** The page follows `.out` from now on. */
const follow = (place) =>
  page.evaluate(([place, session]) => void window.probe.follow(place, session, window.log), [place, session.externalId]);
const log = () => page.evaluate(() => window.log);
const seen = async () => (await log()).filter(({ seq }) => seq !== undefined);
const errors = async () => (await log()).flatMap(({ error }) => error ?? []);
const whenSeen = (text) =>
  page.waitForFunction((text) => window.log.some((entry) => entry.text?.includes(text)), text, { polling: 20 });

/** The stream has ended by itself, and its page has asked for a new token. */
async function whenRenewed() {
  await page.waitForFunction(() => window.log.some((entry) => entry.error), undefined, { polling: 20 });
  await until(() => renewed.length > 0, "the renewal");
}

/** Every number once and in order, and each reconnect at the number after the last one. */
async function assertExact() {
  let next = 0;
  for (const { from, seq } of await log()) {
    if (from !== undefined) assert.equal(from, next);
    if (seq === undefined) continue;
    assert.equal(seq, next);
    next++;
  }
}

test("a unary call goes through, after a preflight that says what a page needs and asks for no key", async () => {
  const { answer } = await script("get", where(), session.externalId, 5_000);
  assert.equal(answer, session.id);
  const [preflight] = network.to("/GetSession", { preflight: true });
  const asked = preflight.request["access-control-request-headers"].split(",");
  for (const name of ["authorization", "content-type", "grpc-timeout", "x-grpc-web"]) assert.ok(asked.includes(name), name);
  assert.equal(preflight.request.authorization, undefined);
  assert.ok(preflight.status < 300, `${preflight.status}`);
  assert.equal(preflight.response["access-control-allow-methods"], "POST");
  assert.deepEqual(preflight.response["access-control-allow-headers"].split(","), asked);
  assert.equal(preflight.response["access-control-max-age"], "300");
  const [call] = network.to("/GetSession");
  assert.equal(call.request.origin, site.origin);
  assert.notEqual(new URL(server.url).origin, site.origin);
  assert.equal(call.response["content-type"], "application/grpc-web+proto");
  assert.equal(call.response["access-control-allow-origin"], "*");
  assert.equal(call.response["access-control-allow-credentials"], undefined);
});

test("a page appends what it may, and is told what it may not", async () => {
  assert.equal((await script("append", where(), session.externalId, IN, "hello")).answer, 0);
  const refused = await script("append", where(), session.externalId, OUT, "not mine");
  assert.deepEqual([refused.code, refused.reason], ["PermissionDenied", "OUT_NEEDS_SECRET_KEY"]);
});

test("refusals have their reason, their metadata and their fields, whether or not the session exists", async () => {
  const key = where(server.key);
  for (const [made, code, reason] of [
    [script("get", key, unique("nowhere")), "NotFound", "SESSION_NOT_FOUND"],
    [script("get", where("no-such-token"), session.id), "Unauthenticated", "UNAUTHENTICATED"],
    [script("get", where(await reader()), unique("other")), "PermissionDenied", "PERMISSION_DENIED"],
  ]) {
    const told = await made;
    assert.deepEqual([told.code, told.reason], [code, reason]);
    assert.equal(told.metadata.side_effects, "none");
    assert.notEqual(told.text, "");
    assert.equal(told.mayRetry, false);
  }
  const bad = await script("list", key, -1, "nonsense");
  assert.deepEqual([bad.code, bad.reason], ["InvalidArgument", "INVALID_ARGUMENT"]);
  assert.ok(bad.fields.includes("page_token") || bad.fields.includes("page_size"), bad.fields.join());
  await client.call("POST", `/api/v1/sessions/${session.externalId}/close`, { json: { reason: "solved" } });
  const closed = await script("append", where(), session.externalId, IN, "late");
  assert.deepEqual([closed.code, closed.reason, closed.metadata.closed_reason], ["FailedPrecondition", "SESSION_CLOSED", "solved"]);
});

test("records come as they are written, and a page whose server was killed goes on where it was", async () => {
  await follow(where(await reader()));
  for (const text of ["one", "two"]) await write(text).then(() => whenSeen(text));
  await server.restart("SIGKILL");
  await write("three");
  await whenSeen("three");
  await assertExact();
  const broken = await errors();
  assert.ok(broken.length > 0 && broken.every(({ reason }) => reason === undefined), "no server said why");
});

test("a server that stops says so at the end of the stream, and that trying again helps", async () => {
  await follow(where(await reader()));
  await write("one");
  await whenSeen("one");
  await server.restart("SIGTERM");
  await write("two");
  await whenSeen("two");
  await assertExact();
  const [first] = await errors();
  assert.deepEqual([first.code, first.reason, first.mayRetry], ["Unavailable", "SERVER_STOPPING", true]);
});

test("a settled read ends by itself, and script may read the header that says so", async () => {
  await write("done");
  await write(JSON.stringify({ type: "trigger:turn-complete" }));
  const { header, seen } = await script("settled", where(), session.externalId);
  assert.equal(header, "true");
  assert.equal(seen.at(-1), "settled");
});

test("a token that ends while its stream is open is renewed once, and nothing is lost or doubled", async () => {
  const exp = Math.floor(Date.now() / 1000) + 2;
  const scopes = [`read:sessions:${session.externalId}`];
  const short = sign(server.key, { ...(await claimsOf(client)), exp, scopes });
  renewed.length = 0;
  await follow(where(short));
  await write("while it was good");
  await whenSeen("while it was good");
  await whenRenewed();
  await write("after its end");
  await whenSeen("after its end");
  await assertExact();
  assert.deepEqual(renewed, [session.externalId]);
  const [ended, ...more] = await errors();
  assert.deepEqual([ended.code, ended.reason, ended.text], ["Unauthenticated", "UNAUTHENTICATED", "Public Access Token is invalid"]);
  assert.deepEqual(more, []);
});

test("a token that is revoked while its stream is open ends the stream, and a new one goes on", async () => {
  await follow(where());
  await write("while it counted");
  await whenSeen("while it counted");
  renewed.length = 0;
  await script("revoke", where(server.key), session.externalId);
  await whenRenewed();
  await write("after its end");
  await whenSeen("after its end");
  await assertExact();
  assert.deepEqual(renewed, [session.externalId]);
  assert.deepEqual((await errors()).map(({ reason }) => reason), ["UNAUTHENTICATED"]);
});
