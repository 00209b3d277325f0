// Payloads that are too large to travel with their run: the SDK puts them into packets and takes them out again.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { tasks, runs } from "@trigger.dev/sdk";
import { apiClientManager, conditionallyExportPacket, conditionallyImportPacket } from "@trigger.dev/core/v3";
import { Client, unique } from "../support/http.mjs";
import { as, auth, errorOf, requestsOf, use } from "../support/sdk.mjs";
import { startServer } from "../support/server.mjs";

let server;
before(async () => use((server = await startServer("serve"))));
after(() => server?.stop());

const KIB = 1024;
const payloadOf = (kib) => ({ at: new Date(1_700_000_000_000), words: "ü🙂".repeat((kib * KIB) / 6), kib });
const api = () => apiClientManager.clientOrThrow();
const plain = () => new Client(server, server.key);
const stored = async (id) => (await plain().call("GET", `/api/v3/runs/${id}`)).body;

for (const [kib, isStored] of [[100, false], [129, true], [600, true], [5_000, true]]) {
  test(`a payload of ${kib} KiB comes back from runs.retrieve`, async () => {
    const payload = payloadOf(kib);
    const { result: run, sent } = await requestsOf(() => tasks.trigger("nobody-takes-it", payload));
    assert.equal(sent, isStored ? 3 : 1, "presign, put, trigger");
    const raw = await stored(run.id);
    assert.deepEqual([raw.payload === undefined, raw.payloadPresignedUrl !== undefined], [isStored, isStored]);
    const { payload: found } = await runs.retrieve(run.id);
    assert.deepEqual(found, isStored ? payload : JSON.parse(JSON.stringify(payload)));
    assert.equal((await runs.list({ taskIdentifier: "nobody-takes-it", limit: 1 })).data[0].payloadPresignedUrl, undefined);
  });
}

test("who may read the run may fetch its payload, and nobody else", async () => {
  const payload = payloadOf(200);
  const run = await tasks.trigger("t", payload);
  const reader = (id) => auth.createPublicToken({ scopes: { read: { runs: id } } });
  await as(server, run.publicAccessToken, async () => {
    assert.deepEqual((await runs.retrieve(run.id)).payload, payload, "the token that came with the trigger");
    const packet = { dataType: "application/store", data: "not asked for" };
    const imported = await conditionallyImportPacket(packet, undefined, api(), { runId: run.id, field: "payload" });
    assert.equal(imported.dataType, "application/super+json");
    assert.equal((await errorOf(api().createUploadPayloadUrl("mine.json"))).status, 401, "packets are for keys");
  });
  const path = (field, id = run.id) => `/api/v1/runs/${id}/packets/${field}`;
  const status = async (token, ...of) => (await new Client(server, token).call("GET", path(...of))).status;
  assert.equal(await status(await reader(run.id), "payload"), 200);
  assert.equal(await status(await reader("run_other"), "payload"), 403);
  assert.equal(await status(server.otherKey, "payload"), 404, "another environment");
  assert.equal(await status(server.key, "output"), 404, "none yet");
  assert.equal(await status(server.key, "payload", "run_nowhere"), 404);
  assert.equal(await status(server.key, "metadata"), 400);
  const small = await tasks.trigger("t", { small: true });
  assert.equal(await status(server.key, "payload", small.id), 404, "it travels with its run");
});

test("a browser's token cannot name a packet that is not its own", async () => {
  const { presignedUrl, storagePath } = await api().createUploadPayloadUrl(`${unique("theirs")}.json`);
  assert.equal((await fetch(presignedUrl, { method: "PUT", body: "{}" })).status, 200);
  const json = { payload: storagePath, options: { payloadType: "application/store" } };
  const trigger = (token) => new Client(server, token).call("POST", "/api/v1/tasks/t/trigger", { json });
  const browser = await auth.createTriggerPublicToken("t");
  const refused = await trigger(browser);
  assert.equal(refused.status, 400, refused.text);
  assert.equal((await trigger(server.key)).status, 200);
});

test("a packet keeps its bytes, its type and its name", async () => {
  const name = `${unique("run")}/output with ü.json`;
  const data = JSON.stringify({ json: { a: "x".repeat(200 * KIB) } });
  const packet = await conditionallyExportPacket({ data, dataType: "application/super+json" }, name, undefined, api());
  assert.deepEqual(packet, { data: `${name}.json`, dataType: "application/store" });
  assert.deepEqual(await conditionallyImportPacket(packet, undefined, api()), { data, dataType: "application/super+json" });
  const { presignedUrl } = await api().getPayloadUrl(packet.data);
  const head = await fetch(presignedUrl, { method: "HEAD" });
  assert.deepEqual([head.status, head.headers.get("content-length")], [200, String(data.length)]);
  assert.equal((await fetch(presignedUrl, { method: "PUT", body: "x" })).status, 403, "a URL to get is none to put");
  await as(server, server.otherKey, async () => {
    const foreign = await api().getPayloadUrl(packet.data);
    assert.equal((await fetch(foreign.presignedUrl)).status, 404, "the other environment's packet of that name");
  });
});
