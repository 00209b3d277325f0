// What an application's server does for its browsers: start a chat's session and hand out a token for it.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, test } from "node:test";
import { chat, use } from "../support/chat.mjs";
import { service } from "../support/grpc.mjs";
import { Client, channelPath, unique } from "../support/http.mjs";
import { as, errorOf, requestsOf } from "../support/sdk.mjs";
import { startServer } from "../support/server.mjs";

let server;
let client;
const adminKey = randomUUID();
before(async () => {
  use((server = await startServer("serve", { CONTINUO_ADMIN_KEY: adminKey })));
  client = new Client(server);
});
after(() => server?.stop());

const claims = (token) => JSON.parse(Buffer.from(token.split(".")[1], "base64url"));

/** The token reads and writes this chat, and no other. */
async function assertOpens(token, chatId) {
  const browser = new Client(server, token);
  assert.equal((await browser.append(chatId, "in", '{"kind":"stop"}')).status, 200);
  assert.equal((await browser.call("GET", `${channelPath(chatId, "out")}/records`)).status, 200);
  const other = await client.createSession({ externalId: unique("other") });
  assert.equal((await browser.append(other.externalId, "in", "{}")).status, 403);
}

test("the session is made, with its first run, and the token opens it", async () => {
  const triggerConfig = { idleTimeoutInSeconds: 60, tags: ["vip"] };
  const start = chat.createStartSessionAction("my-agent", { triggerConfig });
  const chatId = unique("chat");
  const asked = { chatId, clientData: { userId: "u1" }, metadata: { theme: "dark" } };
  const { result, sent } = await requestsOf(() => start(asked));
  assert.equal(sent, 1);
  const session = (await client.call("GET", `/api/v1/sessions/${chatId}`)).body;
  assert.equal(session.id, result.sessionId);
  assert.equal(session.currentRunId, result.runId);
  assert.equal(session.type, "chat.agent");
  assert.equal(session.taskIdentifier, "my-agent");
  assert.deepEqual(session.metadata, { theme: "dark" });
  assert.deepEqual(session.triggerConfig.tags, [`chat:${chatId}`, "vip"]);
  const payload = { messages: [], trigger: "preload", metadata: { userId: "u1" }, chatId };
  assert.deepEqual(session.triggerConfig.basePayload, payload);
  const run = (await client.call("GET", `/api/v3/runs/${result.runId}`)).body;
  assert.deepEqual(run.payload, { ...payload, idleTimeoutInSeconds: 60, sessionId: session.id });
  await assertOpens(result.publicAccessToken, chatId);
});

test("a repeat finds the session and its run", async () => {
  const start = chat.createStartSessionAction("my-agent");
  const chatId = unique("chat");
  const [first, second] = [await start({ chatId }), await start({ chatId })];
  assert.equal(second.sessionId, first.sessionId);
  assert.equal(second.runId, first.runId);
});

test("with a life of its own the token is signed here, with the root key", async () => {
  const start = chat.createStartSessionAction("my-agent", { tokenTTL: "2h" });
  const chatId = unique("chat");
  const { result, sent } = await requestsOf(() => start({ chatId }));
  assert.equal(sent, 2, "the session and the claims");
  const { exp, iat, scopes } = claims(result.publicAccessToken);
  assert.equal(exp - iat, 7_200);
  assert.deepEqual(scopes, [`read:sessions:${chatId}`, `write:sessions:${chatId}`]);
  await assertOpens(result.publicAccessToken, chatId);
});

/** A key beside the root key, as an operator makes one. */
async function additionalKey(t, scopes) {
  const admin = service(server, "AdminService");
  t.after(() => admin.close());
  const { sub } = (await client.call("POST", "/api/v1/auth/jwt/claims")).body;
  const { secret } = await admin.call("CreateApiKey", { environmentId: sub, name: "backend", scopes }, adminKey);
  return secret;
}

test("an additional key has the token minted by the server", async (t) => {
  const key = await additionalKey(t, ["trigger:tasks:my-agent", "read:sessions", "write:sessions"]);
  assert.match(key, /^tr_dev_sk_/);
  const start = chat.createStartSessionAction("my-agent", { tokenTTL: "30m" });
  const chatId = unique("chat");
  const { result, sent } = await requestsOf(() => as(server, key, () => start({ chatId })));
  assert.equal(sent, 2, "the session and the token");
  const { exp, iat, scopes } = claims(result.publicAccessToken);
  assert.equal(exp - iat, 1_800);
  assert.deepEqual(scopes, [`read:sessions:${chatId}`, `write:sessions:${chatId}`]);
  await assertOpens(result.publicAccessToken, chatId);
});

test("an additional key hands out no more than it has", async (t) => {
  const key = await additionalKey(t, ["trigger:tasks:my-agent", "write:sessions"]);
  const start = chat.createStartSessionAction("my-agent", { tokenTTL: "30m" });
  const error = await errorOf(as(server, key, () => start({ chatId: unique("chat") })));
  assert.equal(error.status, 403);
  assert.match(error.message, /exceed the API key's access/);
});

test("with a fetch and a base URL of its own, every call goes through them", async () => {
  const seen = [];
  const start = chat.createStartSessionAction("my-agent", {
    tokenTTL: "5m",
    baseURL: ({ endpoint }) => (endpoint === "auth" ? `${server.url}/` : server.url),
    fetch: (url, init, { endpoint }) => {
      seen.push(`${endpoint} ${new URL(url).pathname}`);
      return fetch(url, init);
    },
  });
  const chatId = unique("chat");
  const { publicAccessToken } = await start({ chatId });
  assert.deepEqual(seen, ["sessions /api/v1/sessions", "auth /api/v1/auth/jwt/claims"]);
  await assertOpens(publicAccessToken, chatId);
});

test("a chat that is closed is not started again", async () => {
  const start = chat.createStartSessionAction("my-agent");
  const chatId = unique("chat");
  const { sessionId } = await start({ chatId });
  await client.call("POST", `/api/v1/sessions/${sessionId}/close`, { json: { reason: "done" } });
  const { result, sent } = await requestsOf(() => errorOf(start({ chatId })));
  assert.equal(result.status, 409);
  assert.equal(sent, 1, "and not asked for again and again");
});
