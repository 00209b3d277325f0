// Public tokens as the SDK makes and uses them.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, test } from "node:test";
import { service } from "../support/grpc.mjs";
import { Client, channelPath, sessionBody, unique } from "../support/http.mjs";
import { as, auth, errorOf, requestsOf, runs, sessions, tasks, use } from "../support/sdk.mjs";
import { startServer } from "../support/server.mjs";

let server;
let mine;
let foreign;
const adminKey = randomUUID();
before(async () => {
  use((server = await startServer("serve", { CONTINUO_ADMIN_KEY: adminKey })));
  mine = await sessions.start(sessionBody({ externalId: unique("mine") }));
  foreign = await sessions.start(sessionBody({ externalId: unique("foreign") }));
});
after(() => server?.stop());

const FORBIDDEN = { error: "Unauthorized", code: "unauthorized", param: "access_token", type: "authorization" };
const token = (scopes) => auth.createPublicToken({ scopes });

/** The status of each call with this token. */
async function statuses(accessToken, ...calls) {
  const client = new Client(server, accessToken);
  const answers = await Promise.all(calls.map(([method, path, options]) => client.call(method, path, options)));
  return answers.map((answer) => answer.status);
}
const row = (session) => ["GET", `/api/v1/sessions/${session}`];
const records = (session, io, name) => ["GET", `${channelPath(session, io, name)}/records`];
const append = (session, io, name) => ["POST", `${channelPath(session, io, name)}/append`, { body: "x" }];
const close = (session) => ["POST", `/api/v1/sessions/${session}/close`, { json: {} }];
const put = (session, io) => ["PUT", channelPath(session, io)];

test("a token signed by the SDK itself reads what it names and nothing more", async () => {
  const made = await token({ read: { sessions: mine.externalId } });
  await as(server, made, async () => {
    assert.equal((await sessions.retrieve(mine.externalId)).id, mine.id);
    assert.equal((await sessions.retrieve(mine.id)).id, mine.id, "by either name");
    for (const call of [
      () => sessions.retrieve(foreign.id),
      () => sessions.retrieve("session_nowhere"),
      () => sessions.retrieve(unique("nowhere")),
      () => sessions.update(mine.id, { tags: [] }),
      () => sessions.close(mine.id),
      () => sessions.open(mine.id).in.send("x"),
      () => sessions.list(),
    ]) {
      const error = await errorOf(call());
      assert.equal(error.status, 403);
      assert.deepEqual(error.body, FORBIDDEN);
    }
  });
});

test("what a wide token may do", async () => {
  await as(server, await token({ read: { sessions: true } }), async () => {
    assert.equal((await sessions.retrieve(foreign.id)).id, foreign.id);
    assert.ok((await sessions.list()).data.length >= 2);
  });
  await as(server, await token({ admin: true }), async () => {
    assert.deepEqual((await sessions.update(mine.id, { tags: ["by admin"] })).tags, ["by admin"]);
  });
});

test("a token for one task lists that task only", async () => {
  await as(server, await token({ read: { tasks: "demo-agent" } }), async () => {
    assert.ok((await sessions.list({ taskIdentifier: "demo-agent" })).data.length >= 2);
    assert.equal((await errorOf(sessions.list())).status, 403);
    assert.equal((await errorOf(sessions.list({ taskIdentifier: ["demo-agent", "other"] }))).status, 403);
  });
});

test("sessions are started with the key only", async () => {
  const made = await token({ write: { sessions: true, tasks: true } });
  await as(server, made, async () => {
    const error = await errorOf(sessions.start(sessionBody({ externalId: mine.externalId })));
    assert.equal(error.status, 401);
  });
});

test("the session's token writes .in and reads .out of that session, under both its names", async () => {
  for (const session of [mine.id, mine.externalId]) {
    const got = await statuses(
      mine.publicAccessToken,
      row(session), append(session, "in"), records(session, "out"), records(session, "in"), append(session, "out"),
      put(session, "out"), close(session),
    );
    assert.deepEqual(got, [200, 200, 200, 403, 403, 403, 403], session);
  }
  const got = await statuses(mine.publicAccessToken, row(foreign.id), append(foreign.id, "in"), records(foreign.id, "out"));
  assert.deepEqual(got, [403, 403, 403]);
});

test("the words of the refusals on .out and .in", async () => {
  const browser = new Client(server, mine.publicAccessToken);
  const out = await browser.append(mine.id, "out", "x");
  assert.deepEqual(out.body, { ok: false, error: "Appending to the out channel requires secret key authentication" });
  const reading = await browser.call("GET", channelPath(mine.id, "in"));
  assert.deepEqual(reading.body, { ok: false, error: "Reading the in channel requires secret key authentication" });
  const init = await browser.call("PUT", channelPath(mine.id, "out"));
  assert.equal(init.text, "Initializing the out channel requires secret key authentication");
});

test("the token follows its session to a new name, and not the name", async () => {
  const made = await sessions.start(sessionBody({ externalId: unique("before") }));
  const renamed = await sessions.update(made.id, { externalId: unique("after") });
  const heir = await sessions.start(sessionBody({ externalId: made.externalId }));
  const got = await statuses(made.publicAccessToken, append(renamed.externalId, "in"), append(made.id, "in"), append(heir.externalId, "in"));
  assert.deepEqual(got, [200, 200, 403]);
});

test("the session's token hands over, once, under either name", async () => {
  const made = await sessions.start(sessionBody({ externalId: unique("swap") }));
  const browser = new Client(server, made.publicAccessToken);
  const swap = (session) => {
    const json = { callingRunId: made.runId, reason: "manual" };
    return browser.call("POST", `/api/v1/sessions/${session}/end-and-continue`, { json });
  };
  const first = await swap(made.id);
  assert.deepEqual([first.status, first.body.swapped], [200, true], first.text);
  const second = await swap(made.externalId);
  assert.deepEqual(second.body, { runId: first.body.runId, swapped: false }, "the winner, and never the caller");
  assert.equal((await sessions.retrieve(made.id)).currentRunId, first.body.runId);
});

test("a direction of a token opens that side only", async () => {
  const made = await token({ read: { sessions: `${mine.externalId}:out` } });
  const got = await statuses(made, records(mine.id, "out"), row(mine.id), records(mine.id, "in"), records(mine.id, "out", "tools"), append(mine.id, "in"));
  assert.deepEqual(got, [200, 403, 403, 403, 403]);
});

test("a channel's token opens that channel only", async () => {
  const key = `${mine.externalId}:channels:tools`;
  const made = await token({ read: { sessions: key }, write: { sessions: key } });
  const got = await statuses(
    made,
    records(mine.id, "out", "tools"), records(mine.id, "in", "tools"), append(mine.id, "in", "tools"),
    records(mine.id, "out", "other"), append(mine.id, "in"), records(mine.id, "out"), row(mine.id),
  );
  assert.deepEqual(got, [200, 200, 200, 403, 403, 403, 403]);
});

test("under-scoped callers cannot tell what exists", async () => {
  const made = await token({ read: { sessions: "somebody-else" } });
  const calls = (session) => [row(session), records(session, "out"), append(session, "in"), close(session)];
  for (const session of [mine.id, "session_nowhere", unique("nowhere")]) {
    assert.deepEqual(await statuses(made, ...calls(session)), [403, 403, 403, 403], session);
  }
  assert.deepEqual(await statuses(server.key, ...calls("session_nowhere")), [404, 404, 404, 404], "the key sees the truth");
});

const claimsIn = (token) => JSON.parse(Buffer.from(token.split(".")[1], "base64url"));

/** A key beside the root key, as an operator makes one. */
async function additionalKey(...scopes) {
  const admin = service(server, "AdminService");
  const { body } = await new Client(server).call("POST", "/api/v1/auth/jwt/claims");
  const request = { environmentId: body.sub, name: "backend", scopes };
  return admin.call("CreateApiKey", request, adminKey).finally(admin.close).then(({ secret }) => secret);
}

test("a token lives as long as it is told to", async () => {
  const soon = Math.floor(Date.now() / 1000) + 600;
  for (const expirationTime of ["10m", soon, new Date(soon * 1000)]) {
    const made = await auth.createPublicToken({ scopes: { read: { sessions: mine.id } }, expirationTime });
    assert.ok(Math.abs(claimsIn(made).exp - soon) <= 5, String(expirationTime));
    assert.deepEqual(await statuses(made, row(mine.id)), [200]);
  }
  const over = await auth.createPublicToken({ scopes: { read: { sessions: mine.id } }, expirationTime: soon - 1_000 });
  assert.deepEqual(await statuses(over, row(mine.id)), [401]);
});

test("a token without scopes opens nothing", async () => {
  assert.deepEqual(await statuses(await auth.createPublicToken(), row(mine.id), append(mine.id, "in")), [403, 403]);
});

test("with an additional key the server makes the token, within that key's rights", async () => {
  const key = await additionalKey("read:sessions", "write:sessions");
  assert.match(key, /^tr_dev_sk_/);
  await as(server, key, async () => {
    assert.equal((await sessions.retrieve(mine.id)).id, mine.id);
    const scopes = { read: { sessions: mine.externalId }, write: { sessions: mine.externalId } };
    const { result: made, sent } = await requestsOf(() => auth.createPublicToken({ scopes, expirationTime: "1h" }));
    assert.equal(sent, 1);
    const { exp, iat, scopes: given } = claimsIn(made);
    assert.deepEqual([exp - iat, given], [3_600, [`read:sessions:${mine.externalId}`, `write:sessions:${mine.externalId}`]]);
    assert.deepEqual(await statuses(made, row(mine.id), append(mine.id, "in"), row(foreign.id)), [200, 200, 403]);

    const error = await errorOf(auth.createPublicToken({ scopes: { read: { sessions: true, runs: true } } }));
    assert.equal(error.status, 403);
    assert.equal(error.code, "scopes_exceed_key_access");
    assert.deepEqual(error.body.deniedScopes, ["read:runs"]);
    assert.match((await errorOf(auth.createPublicToken())).message, /requires at least one scope/);
    assert.equal((await errorOf(auth.createPublicToken({ scopes, expirationTime: "31d" }))).status, 400);
  });
});

test("an additional key is held to its scopes, and admin is everything", async () => {
  const reader = await additionalKey("read:sessions");
  await as(server, reader, async () => {
    assert.equal((await sessions.retrieve(mine.id)).id, mine.id);
    assert.equal((await errorOf(sessions.open(mine.id).in.send("x"))).status, 403);
    assert.equal((await errorOf(sessions.start(sessionBody()))).status, 403);
  });
  await as(server, await additionalKey("admin"), async () => {
    const made = await sessions.start(sessionBody({ externalId: unique("by-admin") }));
    assert.equal((await sessions.close(made.id)).closedReason, null);
  });
});

test("a token to trigger one task, by each kind of key", async () => {
  for (const key of [server.key, await additionalKey("trigger:tasks:mine")]) {
    const made = await as(server, key, () => auth.createTriggerPublicToken("mine", { multipleUse: true, expirationTime: "1h" }));
    assert.deepEqual(claimsIn(made).scopes, ["trigger:tasks:mine"]);
    await as(server, made, async () => {
      const handles = [await tasks.trigger("mine", { n: 1 }), await tasks.trigger("mine", { n: 2 })];
      assert.notEqual(handles[0].id, handles[1].id);
      assert.equal((await errorOf(tasks.trigger("other", {}))).status, 403);
      const shown = await as(server, handles[1].publicAccessToken, () => runs.retrieve(handles[1].id));
      assert.deepEqual(shown.payload, { n: 2 });
    });
  }
});

test("with tokens made for a moment", async () => {
  const seen = [];
  await auth.withPublicToken({ scopes: { read: { sessions: mine.id } } }, async () => {
    seen.push((await sessions.retrieve(mine.id)).id, (await errorOf(sessions.retrieve(foreign.id))).status);
  });
  await auth.withTriggerPublicToken("mine", {}, async () => void seen.push((await tasks.trigger("mine", {})).isCached));
  const made = await auth.withAuth({ baseURL: server.url, accessToken: server.otherKey }, () => sessions.start(sessionBody()));
  seen.push((await errorOf(sessions.retrieve(made.id))).status);
  assert.deepEqual(seen, [mine.id, 403, false, 404], "and after it the key of before");
});
