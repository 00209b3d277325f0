// Direct writes over TLS, with the published client of the stream API: HTTP/2 as the handshake agrees on it.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Client } from "../support/http.mjs";
import { startServer } from "../support/server.mjs";
import { credentials, input, open } from "../support/stream.mjs";
import { selfSigned } from "../support/tls.mjs";

let certificate;
let server;
before(async () => {
  certificate = selfSigned();
  server = await startServer("serve", certificate.settings);
});
after(async () => {
  await server?.stop();
  certificate?.remove();
});

test("a session of appends over TLS is told of by PUT, acknowledged in order and read back", async () => {
  const client = new Client(server);
  const { id } = await client.createSession();
  const told = await credentials(client, id, "out");
  assert.match(told.endpoint, /^https:/);
  const session = await open(told, { retry: { maxAttempts: 1 } }).appendSession();
  const tickets = [];
  for (let i = 0; i < 50; i++) tickets.push(await session.submit(input(`{"data":${i},"id":"p${i}"}`)));
  const acks = await Promise.all(tickets.map((ticket) => ticket.ack()));
  await session.close();
  const first = acks[0].start.seqNum;
  assert.deepEqual(acks.map((ack) => ack.start.seqNum - first), Array.from({ length: 50 }, (_, i) => i));
  assert.deepEqual((await client.records(id, "out")).map((record) => record.data), Array.from({ length: 50 }, (_, i) => i));
});
