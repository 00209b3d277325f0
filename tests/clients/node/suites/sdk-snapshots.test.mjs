// Snapshots as an agent's run keeps them, and the transcript that is read out of them: written and read by the SDK's own code.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { apiClientManager, serializeTranscriptSnapshot, TRANSCRIPT_BLOB_CONTENT_TYPE } from "@trigger.dev/core/v3";
import { Client, sessionBody, unique } from "../support/http.mjs";
import { as, auth, errorOf, requestsOf, sessions, use } from "../support/sdk.mjs";
import { startServer } from "../support/server.mjs";

// What the agent loop calls between two turns; the package does not export it by itself.
const inside = (file) => import(new URL(`../node_modules/@trigger.dev/sdk/dist/esm/v3/${file}`, import.meta.url).href);
const { readChatSnapshot, writeChatSnapshot } = await inside("chatSnapshotIo.js");
const { snapshotTranscriptStorage } = await inside("transcriptStorage.js");

let server;
before(async () => use((server = await startServer("serve"))));
after(() => server?.stop());

const client = () => apiClientManager.clientOrThrow();
const started = () => sessions.start(sessionBody({ externalId: unique("chat") }));
const message = (id, text = `words of ${id} ü 🙂`) => ({ id, role: "user", parts: [{ type: "text", text }] });
const messages = (count) => Array.from({ length: count }, (_, i) => message(`m${i}`));
const entries = (list, final = true) => list.map((item) => ({ id: item.id, final, message: item }));
const ids = (list) => list.map((item) => item.id);

async function putRaw(session, body, contentType) {
  const { presignedUrl } = await client().createChatSnapshotUploadUrl(session);
  const answer = await fetch(presignedUrl, { method: "PUT", headers: { "content-type": contentType }, body });
  assert.equal(answer.status, 200, await answer.text());
}
async function getRaw(session) {
  return fetch((await client().getChatSnapshotUrl(session)).presignedUrl);
}
const saved = (list) => ({
  version: 2,
  savedAt: 1_700_000_000_000,
  messages: entries(list),
  state: { v: 1, compaction: { modelMessages: [{ role: "user", content: "secret lane" }], throughId: "m0" } },
  lastOutEventId: "41",
  lastInEventId: "7",
});

test("what the SDK writes is what it reads, under either id and for a session token", async () => {
  const session = await started();
  assert.equal(await readChatSnapshot(session.id), undefined, "nothing yet");
  assert.equal((await getRaw(session.id)).status, 404);
  const snapshot = saved(messages(5));
  await writeChatSnapshot(session.externalId, snapshot);
  assert.deepEqual(await readChatSnapshot(session.id), snapshot);
  const raw = await getRaw(session.externalId);
  assert.equal(raw.headers.get("content-type"), TRANSCRIPT_BLOB_CONTENT_TYPE);
  assert.equal(await raw.text(), serializeTranscriptSnapshot(snapshot), "byte for byte");

  const token = await auth.createPublicToken({ scopes: { read: { sessions: session.externalId } } });
  await as(server, token, async () => {
    assert.deepEqual(ids((await readChatSnapshot(session.id)).messages), ["m0", "m1", "m2", "m3", "m4"]);
    assert.equal((await errorOf(client().createChatSnapshotUploadUrl(session.id))).status, 403, "it may only read");
    await writeChatSnapshot(session.id, saved(messages(1)));
  });
  assert.deepEqual(await readChatSnapshot(session.id), snapshot, "nothing was replaced");
});

for (const version of [1, 2]) {
  test(`the transcript of a snapshot of version ${version} comes in pages`, async () => {
    const session = await started();
    const all = messages(25);
    if (version === 2) {
      await writeChatSnapshot(session.id, saved(all));
    } else {
      const body = { version: 1, savedAt: 1, messages: all, lastOutEventId: "41", lastInEventId: "7" };
      await putRaw(session.id, JSON.stringify(body), "application/json");
    }
    const cursors = { lastOutEventId: "41", lastInEventId: "7" };
    assert.deepEqual(await client().getSessionTranscript(session.externalId), { messages: all, cursors });
    let seen = [];
    for (let before, pages = 0; ; pages += 1) {
      const page = await client().getSessionTranscript(session.id, { limit: 10, before });
      assert.deepEqual(page.cursors, cursors);
      seen = [...page.messages, ...seen];
      before = page.nextCursor;
      if (before === undefined) {
        assert.equal(pages, 2);
        break;
      }
      assert.equal(before, page.messages[0].id);
    }
    assert.deepEqual(seen, all);
    for (const before of ["m0", "nobody"]) {
      const none = await client().getSessionTranscript(session.id, { limit: 10, before });
      assert.deepEqual([none.messages, none.nextCursor], [[], undefined], before);
    }
    const page = await new Client(server, server.key).call("GET", `/api/v1/sessions/${session.id}/transcript?limit=1`);
    assert.ok(!page.text.includes("secret lane"), "what only the model sees stays in the snapshot");
  });
}

test("the SDK's own storage pages through the transcript route and never falls back to the blob", async () => {
  const session = await started();
  const storage = snapshotTranscriptStorage();
  const scope = { chatId: session.id };
  assert.deepEqual((await storage.load(scope, { limit: 5 })).messages, []);
  const all = messages(12);
  const transcript = { entries: entries(all), state: null };
  await storage.save({ chatId: session.id }, { transcript, changes: [], cursors: { lastOutEventId: "3" } });
  const { result: page, sent } = await requestsOf(() => storage.load(scope, { limit: 5 }));
  assert.deepEqual([ids(page.messages), page.nextCursor, sent], [["m7", "m8", "m9", "m10", "m11"], "m7", 1]);
  const older = await requestsOf(() => storage.load(scope, { limit: 5, before: page.nextCursor }));
  assert.deepEqual([ids(older.result.messages), older.sent], [["m2", "m3", "m4", "m5", "m6"], 1]);
  const gone = await requestsOf(() => storage.load(scope, { limit: 5, before: "compacted away" }));
  assert.deepEqual([gone.result.messages, gone.sent], [[], 1]);
  assert.deepEqual((await storage.load(scope)).messages, all, "whole");
});

test("a conversation of many megabytes is paged from its end", async () => {
  const session = await started();
  const all = Array.from({ length: 600 }, (_, i) => message(`m${i}`, `${i} ${"🙂".repeat(5_000)}`));
  await writeChatSnapshot(session.id, saved(all));
  const page = await client().getSessionTranscript(session.id, { limit: 20, before: "m300" });
  assert.deepEqual(page.messages, all.slice(280, 300));
  assert.equal(page.nextCursor, "m280");
  const most = await client().getSessionTranscript(session.id, { limit: 1_000 });
  assert.ok(most.messages.length > 100 && most.messages.length < 200, "as much as a page may have");
  assert.equal(most.nextCursor, most.messages[0].id);
});

test("a snapshot of another form is 502, and the SDK reads the blob itself", async () => {
  const session = await started();
  const whole = serializeTranscriptSnapshot(saved(messages(9)));
  const path = `/api/v1/sessions/${session.id}/transcript?limit=2`;
  for (const body of [whole.slice(0, -1), whole.slice(0, whole.length / 2), '{"version":3,"messages":[]}', "words", ""]) {
    await putRaw(session.id, body, TRANSCRIPT_BLOB_CONTENT_TYPE);
    const answer = await new Client(server, server.key).call("GET", path);
    assert.equal(answer.status, 502, body.slice(-30));
    assert.deepEqual(answer.body, { error: "Failed to read transcript" });
  }
  await putRaw(session.id, whole.slice(0, -1), TRANSCRIPT_BLOB_CONTENT_TYPE);
  const page = await snapshotTranscriptStorage().load({ chatId: session.id }, { limit: 2 });
  assert.deepEqual(ids(page.messages), ["m7", "m8"]);
});

test("readers see one snapshot or the other, whole", async () => {
  const session = await started();
  const variants = ["a", "b"].map((letter) => saved([message("m0", letter.repeat(2_000_000))]));
  await writeChatSnapshot(session.id, variants[0]);
  const whole = variants.map(serializeTranscriptSnapshot);
  const writing = (async () => {
    for (let i = 0; i < 10; i += 1) await writeChatSnapshot(session.id, variants[(i + 1) % 2]);
  })();
  for (let i = 0; i < 20; i += 1) {
    assert.ok(whole.includes(await (await getRaw(session.id)).text()), "not mixed");
    const { messages } = await client().getSessionTranscript(session.id, { limit: 1 });
    assert.ok(variants.some((variant) => variant.messages[0].message.parts[0].text === messages[0].parts[0].text));
  }
  await writing;
});

test("a deleted session takes its snapshot along", async () => {
  const session = await started();
  await writeChatSnapshot(session.id, saved(messages(1)));
  const { presignedUrl } = await client().getChatSnapshotUrl(session.id);
  assert.equal((await new Client(server, server.key).call("DELETE", `/api/v1/sessions/${session.id}`)).status, 204);
  assert.equal((await fetch(presignedUrl)).status, 404);
});
