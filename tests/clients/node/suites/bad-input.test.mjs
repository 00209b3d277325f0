// Everything that should not come in. Each refusal has its status and says what is wrong, and the server goes on.
import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";
import { Client, assertHealthy, channelPath, segment, sessionBody, unique } from "../support/http.mjs";
import { startServer } from "../support/server.mjs";
import { claimsOf, scoped, secondsAgo, sign, tampered, unsigned } from "../support/tokens.mjs";

let server;
let client;
let id;
before(async () => {
  client = new Client((server = await startServer("serve")));
  ({ id } = await client.createSession());
});
after(() => server?.stop());
afterEach(() => assertHealthy(server));

const create = (json) => client.call("POST", "/api/v1/sessions", { json });
const patch = (json) => client.call("PATCH", `/api/v1/sessions/${id}`, { json });
const list = (query) => client.call("GET", `/api/v1/sessions?${query}`);

function refused(answer, status, ...says) {
  assert.equal(answer.status, status, answer.text);
  assert.match(answer.headers.get("content-type"), /json/);
  assert.equal(typeof answer.body.error, "string", answer.text);
  for (const what of says) assert.match(answer.text, what);
}

describe("bodies", () => {
  test("not JSON", async () => {
    for (const body of ["{", "nonsense", '{"type":}', "{'type':'a'}", '{"type":"a",}', "\u0000", "[".repeat(10_000)]) {
      refused(await client.call("POST", "/api/v1/sessions", { body }), 400, /Invalid JSON/);
    }
  });

  test("bytes that are no text", async () => {
    const body = Buffer.from([0x7b, 0x22, 0xff, 0xfe, 0x22, 0x3a, 0x31, 0x7d]);
    refused(await client.call("POST", "/api/v1/sessions", { body }), 400, /Invalid JSON/);
  });

  test("empty, and what JavaScript calls falsy", async () => {
    refused(await client.call("POST", "/api/v1/sessions"), 400, /Request body is empty/);
    for (const body of ["null", "0", "false", '""']) refused(await client.call("POST", "/api/v1/sessions", { body }), 400, /Invalid JSON/);
  });

  test("no object", async () => {
    for (const body of ["[]", "1", '"text"', "true"]) {
      refused(await client.call("POST", "/api/v1/sessions", { body }), 400, /Validation error: Expected object, received \w+/);
    }
  });

  test("over the cap, with and without its length", async () => {
    const body = JSON.stringify(sessionBody({ metadata: { text: "x".repeat(33_000) } }));
    refused(await client.call("POST", "/api/v1/sessions", { body }), 413, /Request body too large/);
    refused(await client.call("POST", "/api/v1/sessions", { body: new Blob([body]).stream() }), 413, /Request body too large/);
    refused(await client.call("POST", `/api/v1/sessions/${id}/close`, { json: { reason: "r".repeat(1_100) } }), 413, /too large/);
  });

  test("JSON that goes too deep", async () => {
    const deep = `${'{"a":'.repeat(3_000)}1${"}".repeat(3_000)}`;
    const body = JSON.stringify(sessionBody()).replace(/}$/, `,"metadata":${deep}}`);
    const answer = await client.call("POST", "/api/v1/sessions", { body });
    assert.ok([201, 400].includes(answer.status), answer.text);
  });
});

describe("fields of a session", () => {
  test("missing", async () => {
    for (const field of ["type", "taskIdentifier", "triggerConfig"]) {
      refused(await create({ ...sessionBody(), [field]: undefined }), 400, /Validation error: Required/, new RegExp(`"${field}"`.replaceAll('"', '\\\\"')));
    }
    refused(await create(sessionBody({ triggerConfig: {} })), 400, /Required/, /triggerConfig\.basePayload/);
  });

  test("of a wrong type", async () => {
    for (const [more, expected, path] of [
      [{ type: 1 }, "string, received number", "type"],
      [{ taskIdentifier: null }, "string, received null", "taskIdentifier"],
      [{ externalId: {} }, "string, received object", "externalId"],
      [{ tags: "a" }, "array, received string", "tags"],
      [{ tags: ["a", 2] }, "string, received number", "tags.1"],
      [{ metadata: [1] }, "object, received array", "metadata"],
      [{ triggerConfig: "x" }, "object, received string", "triggerConfig"],
      [{ triggerConfig: { basePayload: "x" } }, "object, received string", "triggerConfig.basePayload"],
      [{ triggerConfig: { basePayload: {}, maxAttempts: "3" } }, "number, received string", "triggerConfig.maxAttempts"],
      [{ triggerConfig: { basePayload: {}, maxAttempts: 1.5 } }, "integer, received float", "triggerConfig.maxAttempts"],
    ]) {
      refused(await create(sessionBody(more)), 400, new RegExp(`Validation error: Expected ${expected} at \\\\"${path}\\\\"`));
    }
  });

  test("outside their limits", async () => {
    const config = (more) => ({ triggerConfig: { basePayload: {}, ...more } });
    for (const [more, path] of [
      [{ type: "" }, "type"],
      [{ type: "t".repeat(65) }, "type"],
      [{ taskIdentifier: "" }, "taskIdentifier"],
      [{ taskIdentifier: "t".repeat(129) }, "taskIdentifier"],
      [{ externalId: "" }, "externalId"],
      [{ externalId: "   " }, "externalId"],
      [{ externalId: "e".repeat(257) }, "externalId"],
      [{ externalId: "e".repeat(10_240) }, "externalId"],
      [{ tags: Array.from({ length: 11 }, (_, i) => `t${i}`) }, "tags"],
      [{ tags: ["ok", "t".repeat(129)] }, "tags.1"],
      [{ expiresAt: "tomorrow" }, "expiresAt"],
      [config({ machine: "huge" }), "triggerConfig.machine"],
      [config({ maxAttempts: 0 }), "triggerConfig.maxAttempts"],
      [config({ maxAttempts: 11 }), "triggerConfig.maxAttempts"],
      [config({ maxDuration: 0 }), "triggerConfig.maxDuration"],
      [config({ idleTimeoutInSeconds: 3_601 }), "triggerConfig.idleTimeoutInSeconds"],
      [config({ queue: "q".repeat(129) }), "triggerConfig.queue"],
      [config({ tags: Array.from({ length: 11 }, (_, i) => `t${i}`) }), "triggerConfig.tags"],
      [config({ concurrency: ["a", "b", "c"] }), "triggerConfig.concurrency"],
      [config({ ttl: "soon" }), "triggerConfig.ttl"],
    ]) {
      refused(await create(sessionBody(more)), 400, /Validation error: \S.* at /, new RegExp(`at \\\\"${path}\\\\"`));
    }
  });

  test("exactly at their limits", async () => {
    const answer = await create(sessionBody({
      type: "t".repeat(64),
      externalId: "é".repeat(256 - 36) + unique("").slice(1),
      tags: Array.from({ length: 10 }, (_, i) => `${i}`.padEnd(128, "t")),
    }));
    assert.equal(answer.status, 201, answer.text);
  });

  test("every problem is named at once", async () => {
    refused(await create({ type: 1, taskIdentifier: 2 }), 400, /"type\\?"/, /"taskIdentifier\\?"/, /"triggerConfig\\?"/);
  });

  test("NUL and control characters", async () => {
    for (const char of ["\u0000", "\u0001", "\n", "\u007f", "\u0085"]) {
      for (const [more, path] of [
        [{ externalId: `a${char}b` }, "externalId"],
        [{ type: `a${char}b` }, "type"],
        [{ taskIdentifier: `a${char}b` }, "taskIdentifier"],
        [{ tags: [`a${char}b`] }, "tags.0"],
      ]) {
        refused(await create(sessionBody(more)), 400, /control/, new RegExp(`at \\\\"${path}\\\\"`));
      }
    }
    const kept = await create(sessionBody({ metadata: { text: "a\u0000b\u0001" } }));
    assert.equal(kept.status, 201, "metadata is the caller's own");
    assert.deepEqual(kept.body.metadata, { text: "a\u0000b\u0001" });
  });

  test("half of a surrogate pair", async () => {
    const body = JSON.stringify(sessionBody()).replace("chat.agent", "\\ud800");
    refused(await client.call("POST", "/api/v1/sessions", { body }), 400, /"type\\?"/);
  });

  test("reserved names", async () => {
    refused(await create(sessionBody({ externalId: "session_mine" })), 422, /externalId cannot start with 'session_'/);
    for (const externalId of ["a:channels:b", "a:in", "a:out"]) {
      refused(await create(sessionBody({ externalId })), 422, /externalId cannot contain .*:channels:.* or end in/);
    }
    refused(await patch({ externalId: "session_mine" }), 422, /externalId cannot start with 'session_'/);
  });

  test("of an update and a close", async () => {
    refused(await patch({ tags: 1 }), 400, /Expected array, received number at \\"tags\\"/);
    refused(await patch({ metadata: 1 }), 400, /metadata/);
    refused(await patch({ externalId: "x".repeat(257) }), 400, /256.* at \\"externalId\\"/);
    const close = (json) => client.call("POST", `/api/v1/sessions/${id}/close`, { json });
    refused(await close({ reason: 1 }), 400, /Expected string, received number at \\"reason\\"/);
    refused(await close({ reason: "r".repeat(257) }), 400, /256.* at \\"reason\\"/);
  });

  test("of a hand-over", async () => {
    const swap = (json) => client.call("POST", `/api/v1/sessions/${id}/end-and-continue`, { json });
    refused(await swap({}), 400, /callingRunId/, /reason/);
    refused(await swap({ callingRunId: "run_nowhere", reason: "upgrade" }), 404, /callingRunId not found in this environment/);
    refused(await swap({ callingRunId: "run_nowhere", reason: "r".repeat(65) }), 400, /64.* at \\"reason\\"/);
  });
});

describe("paths", () => {
  const get = (raw) => client.call("GET", `/api/v1/sessions/${raw}`);

  test("names with any character lead to their session, or to none", async () => {
    for (const name of ["a/b", "a:b", "two words", "😀", "a%2Fb", "%", "?&=#", "..", "a\\b"]) {
      refused(await get(segment(`${name}-${unique("no")}`)), 404, /Not found/);
    }
  });

  test("a name of 10 kB", async () => {
    refused(await get("n".repeat(10_240)), 400, /Params Error/, /session/);
    refused(await client.append("n".repeat(10_240), "in", "x"), 400, /session/);
    refused(await get(`session_${"n".repeat(10_240)}`), 400, /Params Error/, /session/);
  });

  test("malformed escapes, NUL and control characters", async () => {
    for (const raw of ["a%", "a%2", "a%zz", "%ff", "a%00b", "a%01b"]) refused(await get(raw), 400, /Params Error/, /session/);
  });

  test("a run id of any shape", async () => {
    for (const raw of ["run_nowhere", "nonsense", segment("a/b c:😀"), "n".repeat(5_000)]) {
      const answer = await client.call("GET", `/api/v3/runs/${raw}`);
      assert.ok([400, 404].includes(answer.status), `${answer.status} ${answer.text}`);
      assert.equal(typeof answer.body.error, "string");
    }
  });
});

describe("queries and headers", () => {
  test("pages", async () => {
    for (const [query, path] of [
      ["page[size]=0", "page[size]"],
      ["page[size]=101", "page[size]"],
      ["page[size]=x", "page[size]"],
      ["page[size]=1.5", "page[size]"],
      ["page[after]=nonsense", "page[after]"],
      ["page[before]=nonsense", "page[before]"],
      [`page[after]=${"A".repeat(2_000)}`, "page[after]"],
      ["page[after]=%00", "page[after]"],
    ]) {
      const answer = await list(query);
      refused(answer, 400, /Query Error/);
      assert.deepEqual(answer.body.details[0].path, [path], query);
      assert.ok(answer.body.details[0].message.length > 0);
    }
    refused(await list("page[after]=a&page[before]=b"), 400, /Cannot pass both page\[after\] and page\[before\] on the same request/);
  });

  test("filters", async () => {
    for (const [query, path] of [
      ["filter[status]=OPEN", "filter[status]"],
      ["filter[status]=ACTIVE,OPEN", "filter[status]"],
      ["filter[createdAt][from]=yesterday", "filter[createdAt][from]"],
      ["filter[createdAt][to]=1.5", "filter[createdAt][to]"],
    ]) {
      const answer = await list(query);
      refused(answer, 400, /Query Error/);
      assert.deepEqual(answer.body.details[0].path, [path], query);
    }
    assert.equal((await list("filter[createdAt][period]=soon")).status, 200, "an unreadable period is ignored");
    assert.equal((await list("filter[nothing]=x&utterly=unknown")).status, 200);
  });

  test("part ids", async () => {
    refused(await client.append(id, "in", "x", { partId: "p".repeat(1_025) }), 400, /X-Part-Id/, /1024/);
    assert.equal((await client.append(id, "in", "x", { partId: "p".repeat(1_024) })).status, 200);
  });
});

describe("credentials", () => {
  const calls = [
    ["GET", () => `/api/v1/sessions/${id}`],
    ["POST", () => `${channelPath(id, "in")}/append`],
    ["GET", () => channelPath(id, "out")],
  ];
  const refusedWith = async (token, text) => {
    for (const [method, path] of calls) {
      const answer = await client.call(method, path(), { token, body: method === "POST" ? "x" : undefined });
      refused(answer, 401);
      assert.equal(answer.body.error, text);
    }
  };
  const BAD_TOKEN = "Public Access Token is invalid";
  const grants = async () => ({ ...(await claimsOf(client)), scopes: [`read:sessions:${id}`, `write:sessions:${id}`] });

  test("a good token is good, so that the others can be bad", async () => {
    const token = sign(server.key, await grants());
    assert.equal((await client.call("GET", `/api/v1/sessions/${id}`, { token })).status, 200);
  });
  test("none", () => refusedWith(null, "Invalid or Missing API key"));
  test("unknown keys", async () => {
    for (const key of ["tr_dev_AAAAAAAAAAAAAAAAAAAAAAAA", "tr_prod_x", "nonsense", "a.b.c", "x".repeat(8_000)]) await refusedWith(key, "Invalid API key");
  });
  test("expired", async () => refusedWith(sign(server.key, { ...(await grants()), exp: secondsAgo(120) }), BAD_TOKEN));
  test("without an end", async () => refusedWith(sign(server.key, { ...(await grants()), exp: undefined }), BAD_TOKEN));
  test("tampered", async () => refusedWith(tampered(sign(server.key, await grants())), BAD_TOKEN));
  test("alg none", async () => refusedWith(unsigned(await grants()), BAD_TOKEN));
  test("another algorithm", async () => {
    for (const alg of ["HS384", "HS512", "RS256", "none"]) await refusedWith(sign(server.key, await grants(), { alg }), BAD_TOKEN);
  });
  test("signed with another key", async () => refusedWith(sign(server.otherKey, await grants()), BAD_TOKEN));
  test("of another issuer, for another audience", async () => {
    await refusedWith(sign(server.key, { ...(await grants()), iss: "https://evil.example" }), BAD_TOKEN);
    await refusedWith(sign(server.key, { ...(await grants()), aud: "https://evil.example" }), BAD_TOKEN);
  });
  test("of an environment that is not there", async () => {
    await refusedWith(sign(server.key, { ...(await grants()), sub: "nowhere" }), "Invalid Public Access Token");
    await refusedWith(sign(server.key, { ...(await grants()), sub: undefined }), "Invalid Public Access Token");
  });

  test("another environment sees nothing of this one", async () => {
    const other = new Client(server, server.otherKey);
    assert.equal((await other.call("GET", `/api/v1/sessions/${id}`)).status, 404);
    assert.equal((await other.append(id, "in", "x")).status, 404);
    const token = await scoped(other, `read:sessions:${id}`, `write:sessions:${id}`);
    for (const [method, path] of calls) {
      const answer = await client.call(method, path(), { token, body: method === "POST" ? "x" : undefined });
      assert.ok([403, 404].includes(answer.status), `${method} ${answer.status}`);
    }
  });

  test("a token without scopes may nothing", async () => {
    for (const scopes of [undefined, [], ["read"], ["nonsense"], [""]]) {
      const token = sign(server.key, { ...(await claimsOf(client)), scopes });
      refused(await client.call("GET", `/api/v1/sessions/${id}`, { token }), 403, /Unauthorized/);
    }
  });
});
