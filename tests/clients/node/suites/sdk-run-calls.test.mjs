// What a task calls from inside its run, through the published SDK.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Client } from "../support/http.mjs";
import { sessions } from "../support/sdk.mjs";
import { insideSession } from "../support/run-context.mjs";
import { startServer } from "../support/server.mjs";

let server;
let client;
before(async () => {
  server = await startServer("serve");
  client = new Client(server);
});
after(() => server?.stop());

const MESSAGE = '{"kind":"message","payload":{"n":1}}';

test("session.in.wait suspends the run and wakes it with the record", async () => {
  await insideSession(server, client, async ({ created, ctx }) => {
    const handle = sessions.open(created.id);
    void client.whenRun(ctx.run.id, "WAITING").then(() => client.append(created.id, "in", MESSAGE));
    const answer = await handle.in.wait({ timeout: "1m" });
    assert.deepEqual(answer, { ok: true, output: { kind: "message", payload: { n: 1 } } });
    assert.equal(handle.in.lastDispatchedSeqNum(), 0);
  });
});
