// The server goes away and comes back while clients write: they send again what was not acknowledged, and readers know it.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Session, appendInput, frame } from "../support/frames.mjs";
import { Client } from "../support/http.mjs";
import { startServer } from "../support/server.mjs";
import { credentials, data, input, open, recordsPath } from "../support/stream.mjs";

let server;
let client;
before(async () => (client = new Client((server = await startServer("serve", { CONTINUO_SHUTDOWN_GRACE_MS: "1000" })))));
after(() => server?.stop());

const envelope = (i) => JSON.stringify({ data: i, id: `r${i}` });

for (const signal of ["SIGTERM", "SIGKILL"]) {
  test(`a session of appends outlives a server that ends with ${signal}`, async () => {
    const { id } = await client.createSession();
    const stream = open(await credentials(client, id, "out"), {
      retry: { maxAttempts: 100, minBaseDelayMillis: 50, maxBaseDelayMillis: 200 },
    });
    const session = await stream.appendSession();
    const acks = [];
    const write = async (from, to) => {
      for (let i = from; i < to; i++) acks.push((await session.submit(input(envelope(i)))).ack());
    };
    await write(0, 50);
    await Promise.all(acks);
    const restarted = server.restart(signal);
    await write(50, 150);
    await restarted;
    await write(150, 200);
    const positions = (await Promise.all(acks)).map((ack) => ack.start.seqNum);
    await session.close();
    assert.deepEqual(positions, [...positions].sort((a, b) => a - b), "acknowledged in order");

    // What was sent twice is known by the id of its envelope; nothing is missing, nothing out of order.
    const seen = new Set();
    const once = (await data(stream)).map((r) => JSON.parse(r.body)).filter(({ id }) => !seen.has(id) && seen.add(id));
    assert.deepEqual(once.map((r) => r.data), Array.from({ length: 200 }, (_, i) => i));
    // The SDK reads through the other door, and drops the repeats itself.
    assert.ok((await client.records(id, "out")).length >= 200);
  });
}

test("an idle session is told that the server stops", async () => {
  const { id } = await client.createSession();
  const session = new Session(server, recordsPath(`${id}/out`));
  await session.headers;
  session.send(frame(appendInput("a")));
  await session.acknowledged(1);
  const restarted = server.restart();
  await session.closed;
  const { acks, terminal } = await session.end();
  await restarted;
  assert.deepEqual([acks, terminal?.status, terminal?.code], [1, 503, "server_draining"]);
});
