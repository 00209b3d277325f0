// Append sessions as bytes on the wire: what is read, what is refused and how, and that the server goes on.
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:net";
import { after, afterEach, before, test } from "node:test";
import { gzipSync } from "node:zlib";
import { Session, appendInput, frame } from "../support/frames.mjs";
import { Client, assertHealthy } from "../support/http.mjs";
import { startServer } from "../support/server.mjs";
import { recordsPath } from "../support/stream.mjs";

const FRAME_BYTES_MAX = 2_097_152;
const GZIP = 0x40;
const ZSTD = 0x20;
const TERMINAL = 0x80;

let server;
let client;
before(async () => (client = new Client((server = await startServer("serve")))));
after(() => server?.stop());
afterEach(() => assertHealthy(server));

async function made() {
  const { id } = await client.createSession();
  const bodies = async () => {
    const { body } = await client.call("GET", `${recordsPath(`${id}/out`)}?seq_num=0`);
    return body.records.filter((r) => !r.headers).map((r) => r.body);
  };
  return { id, bodies, path: recordsPath(`${id}/out`) };
}

test("headers come before anything is said, and an idle session stays", async () => {
  const { path, bodies } = await made();
  const session = new Session(server, path);
  const headers = await session.headers;
  assert.deepEqual([headers[":status"], headers["content-type"]], [200, "s2s/proto"]);
  session.send(frame(appendInput("a")));
  await session.acknowledged(1);
  session.send(frame(appendInput("b")));
  await session.acknowledged(2);
  assert.deepEqual(await session.end(), { acks: 2 });
  assert.deepEqual(await bodies(), ["a", "b"]);
});

test("a half-close in the middle of the work is answered to the end", async () => {
  const { path, bodies } = await made();
  const session = new Session(server, path);
  for (let i = 0; i < 50; i++) session.send(frame(appendInput(`${i}`)));
  assert.deepEqual(await session.end(), { acks: 50 });
  assert.deepEqual(await bodies(), Array.from({ length: 50 }, (_, i) => `${i}`));
});

test("letters and frames split anywhere", async () => {
  const { path, bodies } = await made();
  const bytes = Buffer.concat(["straße 😀", "漢字"].map((text) => frame(appendInput(text))));
  const session = new Session(server, path);
  for (const byte of bytes) session.send(Buffer.from([byte]));
  assert.deepEqual(await session.end(), { acks: 2 });
  assert.deepEqual(await bodies(), ["straße 😀", "漢字"]);
});

test("bits for later are ignored, compressed frames are read", async () => {
  const { path, bodies } = await made();
  const session = new Session(server, path);
  session.send(frame(appendInput("later"), { flags: 0x1f }));
  session.send(frame(gzipSync(appendInput("gzip")), { flags: GZIP }));
  // A frame of zstd with its content as it is: magic, one segment of this size, one raw block, the last.
  const raw = appendInput("zstd");
  const zstd = Buffer.concat([Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x20, raw.length, (raw.length << 3) | 1, 0, 0]), raw]);
  session.send(frame(zstd, { flags: ZSTD }));
  assert.deepEqual(await session.end(), { acks: 3 });
  assert.deepEqual(await bodies(), ["later", "gzip", "zstd"]);
});

test("what is no frame ends the session, after everything before it was made", async () => {
  const bomb = gzipSync(Buffer.alloc(64 * 1_048_576));
  for (const [name, broken, code] of [
    ["a length of 0", Buffer.from([0, 0, 0]), "bad_frame"],
    ["a length over the limit", Buffer.from([0x20, 0, 1]), "bad_frame"],
    ["the largest length there is", Buffer.from([0xff, 0xff, 0xff, 0]), "bad_frame"],
    ["text", Buffer.from("GET / HTTP/1.1\r\n\r\n"), "bad_frame"],
    ["a terminal frame", frame(Buffer.from([1, 0xf4, 0x7b, 0x7d]), { flags: TERMINAL }), "bad_frame"],
    ["a compression that is none", frame(appendInput("x"), { flags: GZIP | ZSTD }), "bad_frame"],
    ["gzip that is none", frame(appendInput("x"), { flags: GZIP }), "bad_frame"],
    ["zstd that is none", frame(appendInput("x"), { flags: ZSTD }), "bad_frame"],
    ["a bomb", frame(bomb, { flags: GZIP }), "bad_frame"],
    ["protobuf that is none", frame(Buffer.from([0xff, 0xff])), "bad_proto"],
    ["no records", frame(Buffer.alloc(0)), "invalid"],
    ["half a frame", frame(appendInput("half")).subarray(0, 6), "bad_frame"],
  ]) {
    const { path, bodies } = await made();
    const session = new Session(server, path);
    session.send(Buffer.concat([frame(appendInput("good")), broken]));
    const { acks, terminal } = await session.end();
    assert.deepEqual([acks, terminal?.code], [1, code], name);
    assert.ok([400, 422].includes(terminal.status) && terminal.message.length > 20, name);
    assert.deepEqual(await bodies(), ["good"], name);
  }
});

test("a frame of the largest size is read; what it holds is judged as an append", async () => {
  const { path } = await made();
  const session = new Session(server, path);
  session.send(frame(Buffer.alloc(FRAME_BYTES_MAX - 1)));
  assert.equal((await session.end()).terminal.code, "bad_proto");
});

test("whoever goes away in the middle of a frame leaves what was acknowledged and nothing else", async () => {
  const { path, bodies } = await made();
  const session = new Session(server, path);
  session.send(frame(appendInput("whole")));
  await session.acknowledged(1);
  session.send(frame(appendInput("half")).subarray(0, 5));
  await session.abandon();
  assert.deepEqual(await bodies(), ["whole"]);
});

test("30 MB from a client that does not read arrive as soon as it does, with every acknowledgement", async () => {
  const { path } = await made();
  const session = new Session(server, path);
  await session.headers;
  // Acknowledgements that nobody takes fill their window, and then the server reads no further.
  session.request.pause();
  const bytes = frame(appendInput("x".repeat(10_000)));
  for (let i = 0; i < 3_000; i++) session.request.write(bytes);
  session.request.end();
  await once(session.request, "readable");
  session.request.resume();
  assert.deepEqual(await session.end(), { acks: 3_000 });
  const { body } = await client.call("GET", `${path}/tail`);
  assert.ok(body.tail.seq_num >= 3_000);
});

test("over HTTP/1.1 too, and a refusal arrives while the client still sends", async () => {
  const { path, bodies } = await made();
  const exchange = async (token, chunks) => {
    const { hostname, port } = new URL(server.url);
    const socket = connect({ host: hostname, port });
    let received = Buffer.alloc(0);
    socket.on("data", (data) => (received = Buffer.concat([received, data])));
    socket.on("error", () => {});
    const ended = new Promise((resolve) => socket.once("close", resolve));
    socket.write(`POST ${path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${token}\r\ncontent-type: s2s/proto\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n`);
    for (const chunk of chunks) socket.write(Buffer.concat([Buffer.from(`${chunk.length.toString(16)}\r\n`), chunk, Buffer.from("\r\n")]));
    socket.write("0\r\n\r\n");
    await ended;
    return received.toString("latin1");
  };
  const good = await exchange(server.key, [frame(appendInput("a")), frame(appendInput("b"))]);
  assert.match(good, /^HTTP\/1\.1 200 /);
  assert.deepEqual(await bodies(), ["a", "b"]);
  const broken = await exchange(server.key, [Buffer.from([0, 0, 0]), Buffer.alloc(3_000_000)]);
  assert.match(broken, /"code":"bad_frame"/);
  const refused = await exchange("tr_dev_nonsense", [frame(appendInput("c"))]);
  assert.match(refused, /^HTTP\/1\.1 401 [^]*"code":"authn"/);
});

test("a session is known by its token before a byte of it is read", async () => {
  const { path } = await made();
  const session = new Session(server, path, "tr_dev_nonsense");
  assert.equal((await session.headers)[":status"], 401);
  await session.closed;
  assert.equal(JSON.parse(session.received).code, "authn");
  session.connection.close();
  
});
