// Streaming bodies frame by frame, over HTTP/2 without any client of the protocol in between.
import { once } from "node:events";
import { connect } from "node:http2";

/** A frame; `announced` overrides the length. */
export function frame(payload, { flags = 0, announced = payload.length + 1 } = {}) {
  return Buffer.concat([Buffer.from([announced >> 16, (announced >> 8) & 255, announced & 255, flags]), payload]);
}

/** `AppendInput` of one record with this body (under 16 384 bytes). */
export function appendInput(text) {
  const body = Buffer.from(text);
  const field = (tag, bytes) => Buffer.concat([Buffer.from([(tag << 3) | 2, ...varint(bytes.length)]), bytes]);
  return field(1, field(3, body));
}

const varint = (n) => (n < 128 ? [n] : [(n & 127) | 128, n >> 7]);

/** The frames of an answer: how many acknowledgements, and the last word if there is one. */
export function parse(bytes) {
  const answer = { acks: 0 };
  while (bytes.length > 0) {
    const length = bytes.readUIntBE(0, 3);
    const payload = bytes.subarray(4, 3 + length);
    if (bytes[3] & 0x80) answer.terminal = { status: payload.readUInt16BE(0), ...JSON.parse(payload.subarray(2)) };
    else answer.acks += 1;
    bytes = bytes.subarray(3 + length);
  }
  return answer;
}

/** An append session on a connection of its own. */
export class Session {
  constructor(server, path, token = server.key) {
    this.connection = connect(server.url);
    this.request = this.connection.request({
      ":method": "POST",
      ":path": path,
      authorization: `Bearer ${token}`,
      "content-type": "s2s/proto",
    });
    this.received = Buffer.alloc(0);
    this.failure = undefined;
    this.request.on("data", (chunk) => (this.received = Buffer.concat([this.received, chunk])));
    for (const it of [this.request, this.connection]) it.on("error", (error) => (this.failure = error));
    this.headers = once(this.request, "response").then(([headers]) => headers);
    this.closed = new Promise((resolve) => this.request.once("close", resolve));
  }

  send(bytes) {
    this.request.write(bytes);
  }

  /** Waits for so many acknowledgements. */
  async acknowledged(count) {
    while (parse(this.received).acks < count) await once(this.request, "data");
  }

  /** Ends the request if it is not ended, and gives the whole answer. */
  async end() {
    if (!this.request.writableEnded && !this.request.closed) this.request.end();
    await this.closed;
    this.connection.close();
    return parse(this.received);
  }

  /** Goes away in the middle. */
  async abandon() {
    this.connection.destroy();
    await this.closed;
  }
}
