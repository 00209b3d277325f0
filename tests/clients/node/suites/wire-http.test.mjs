// What holds for every route: cross-origin rules, methods, unknown paths.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Client, channelPath } from "../support/http.mjs";
import { startServer } from "../support/server.mjs";

const ORIGIN = "https://app.example";

let server;
let client;
let id;
before(async () => {
  client = new Client((server = await startServer("serve")));
  ({ id } = await client.createSession());
});
after(() => server?.stop());

const routes = () => [
  ["POST", "/api/v1/sessions"],
  ["GET", "/api/v1/sessions"],
  ["GET", `/api/v1/sessions/${id}`],
  ["PATCH", `/api/v1/sessions/${id}`],
  ["POST", `/api/v1/sessions/${id}/close`],
  ["POST", `/api/v1/sessions/${id}/end-and-continue`],
  ["PUT", channelPath(id, "out")],
  ["GET", channelPath(id, "out")],
  ["POST", `${channelPath(id, "in")}/append`],
  ["GET", `${channelPath(id, "out")}/records`],
  ["GET", channelPath(id, "out", "tools")],
  ["POST", `${channelPath(id, "in", "tools")}/append`],
];

test("a preflight is answered for every route and needs no credentials", async () => {
  const wanted = "authorization,content-type,x-part-id,last-event-id,x-trigger-client,x-my-own";
  for (const [method, path] of routes()) {
    const answer = await client.call("OPTIONS", path, {
      token: null,
      headers: { origin: ORIGIN, "access-control-request-method": method, "access-control-request-headers": wanted },
    });
    assert.equal(answer.status, 200, path);
    assert.equal(answer.text, "{}");
    const header = (name) => answer.headers.get(name);
    assert.equal(header("access-control-allow-origin"), ORIGIN);
    assert.equal(header("access-control-allow-headers"), wanted);
    assert.equal(header("access-control-allow-methods"), "GET,HEAD,PUT,PATCH,POST,DELETE");
    assert.equal(header("access-control-max-age"), "300");
    assert.equal(header("access-control-allow-credentials"), null);
    assert.match(header("vary"), /Origin/);
    assert.match(header("vary"), /Access-Control-Request-Headers/);
  }
});

test("every answer may be read by the page that asked, refusals too", async () => {
  const asked = (method, path, options = {}) =>
    client.call(method, path, { ...options, headers: { ...options.headers, origin: ORIGIN } });
  const answers = [
    [200, await asked("GET", `/api/v1/sessions/${id}`)],
    [404, await asked("GET", "/api/v1/sessions/session_nowhere")],
    [401, await asked("GET", `/api/v1/sessions/${id}`, { token: null })],
    [401, await asked("GET", `/api/v1/sessions/${id}`, { token: "tr_dev_wrong" })],
    [400, await asked("POST", "/api/v1/sessions", { body: "{" })],
    [413, await asked("POST", "/api/v1/sessions", { body: "x".repeat(40_000) })],
    [405, await asked("POST", `/api/v1/sessions/${id}`, { json: {} })],
    [404, await asked("GET", "/api/v1/nothing-here")],
  ];
  for (const [status, answer] of answers) {
    assert.equal(answer.status, status, answer.text);
    assert.equal(answer.headers.get("access-control-allow-origin"), ORIGIN, `${status}`);
    const exposed = answer.headers.get("access-control-expose-headers");
    for (const name of ["x-trigger-jwt", "x-trigger-jwt-claims", "x-should-retry"]) assert.ok(exposed.includes(name), name);
  }
});

test("without an origin no origin is named", async () => {
  const answer = await client.call("GET", `/api/v1/sessions/${id}`);
  assert.equal(answer.headers.get("access-control-allow-origin"), null);
});

test("a method that a route does not have is a 405 that names those it has", async () => {
  for (const [method, path, allowed] of [
    ["GET", `/api/v1/sessions/${id}/close`, "POST"],
    ["DELETE", `${channelPath(id, "in")}/append`, "POST"],
    ["PUT", `/api/v1/sessions/${id}/end-and-continue`, "POST"],
  ]) {
    const { status, headers, body } = await client.call(method, path);
    assert.equal(status, 405, path);
    assert.equal(body.error, "Method not allowed");
    assert.ok(headers.get("allow").split(/,\s*/).includes(allowed), headers.get("allow"));
  }
});

test("a route that is not there is a 404 that names it", async () => {
  for (const path of ["/api/v1/deployments", "/realtime/v2/x", "/nothing"]) {
    const { status, body } = await client.call("GET", path);
    assert.equal(status, 404, path);
    assert.ok(JSON.stringify(body).includes(path), JSON.stringify(body));
  }
});

test("a trailing slash leads to the path without it", async () => {
  const answer = await client.fetch("GET", `/api/v1/sessions/${id}/`);
  await answer.arrayBuffer();
  assert.equal(answer.status, 301);
  assert.equal(new URL(answer.headers.get("location"), server.url).pathname, `/api/v1/sessions/${id}`);
});

test("a backward page holds the nearest newer sessions, newest first", async () => {
  const made = [];
  for (let i = 1; i <= 11; i++) made.push((await client.createSession({ tags: ["paged"] })).id);
  const list = async (query) => (await client.call("GET", `/api/v1/sessions?filter[tags]=paged&page[size]=3${query}`)).body;
  const named = (page) => page.data.map((item) => `c${made.indexOf(item.id) + 1}`);
  // Up to the page that begins with c7: its `previous` stands before c7.
  let page = (await client.call("GET", `/api/v1/sessions?filter[tags]=paged&page[size]=4`)).body;
  assert.deepEqual(named(page), ["c11", "c10", "c9", "c8"]);
  page = await list(`&page[after]=${page.pagination.next}`);
  assert.deepEqual(named(page), ["c7", "c6", "c5"]);
  const back = await list(`&page[before]=${page.pagination.previous}`);
  assert.deepEqual(named(back), ["c10", "c9", "c8"]);
  assert.deepEqual(named(await list(`&page[after]=${back.pagination.next}`)), ["c7", "c6", "c5"]);
  const first = await list(`&page[before]=${back.pagination.previous}`);
  assert.deepEqual(named(first), ["c11"]);
  assert.equal(first.pagination.previous, undefined, "there is nothing newer");
  assert.deepEqual(named(await list(`&page[after]=${first.pagination.next}`)), ["c10", "c9", "c8"], "a short page leads back too");
});

test("a run that is not there is a 404 and no 403", async () => {
  assert.equal((await client.call("POST", "/api/v2/runs/run_nowhere/cancel")).status, 404);
});

test("all the headers that today's clients send are tolerated", async () => {
  const { status } = await client.call("GET", `/api/v1/sessions/${id}`, {
    headers: {
      "trigger-version": "4.8.3", "x-trigger-source": "sdk", "x-trigger-client": "browser",
      "x-trigger-api-version": "2025-07-16", "x-trigger-realtime-streams-version": "v2", "x-trigger-worker": "true",
      "x-trigger-engine-version": "V2", "x-trigger-span-parent-as-link": "1", "x-trigger-sdk-operation": "retrieveSession",
      "x-trigger-request-idempotency-key": "5b1f7f5e-0000-4000-8000-000000000000", "x-trigger-branch": "default",
      traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", tracestate: "a=b",
    },
  });
  assert.equal(status, 200);
});
