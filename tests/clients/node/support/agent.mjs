// An agent that the test plays itself: it takes one input at a time and says exactly what it is told to say.
import { randomUUID } from "node:crypto";
import { Client, channelPath } from "./http.mjs";
import { service } from "./grpc.mjs";
import { subscribe } from "./sse.mjs";
import { within } from "./wait.mjs";

/** The task of such sessions: no worker knows it, so that nobody else answers. */
export const PLAYED = "played-by-the-test";

export class Agent {
  constructor(server, session) {
    this.session = session;
    this.client = new Client(server);
    this.channels = service(server, "ChannelService");
    this.records = [];
  }

  /** The next input on `.in`, with its number. */
  async next() {
    this.reader ??= await subscribe(this.client, channelPath(this.session, "in"));
    while (this.records.length === 0) {
      const frame = await within(this.reader.nextOf("batch"), `an input of ${this.session}`);
      this.records.push(...frame.json.records);
    }
    const { seq_num: seqNum, body } = this.records.shift();
    const { data, id } = JSON.parse(body);
    return { seqNum, partId: id, ...JSON.parse(data) };
  }

  /** Writes chunks of a message, as they are. */
  async say(...chunks) {
    const envelope = (data) => JSON.stringify({ data, id: randomUUID() });
    return this.#append(chunks.map((data) => ({ headers: [], body: Buffer.from(envelope(data)) })));
  }

  async control(subtype, headers = []) {
    const all = [["trigger-control", subtype], ...headers];
    const bytes = ([name, value]) => ({ name: Buffer.from(name), value: Buffer.from(String(value)) });
    return this.#append([{ headers: all.map(bytes), body: Buffer.alloc(0) }]);
  }

  /** The turn is over that answered this input. */
  turnComplete(input, headers = []) {
    return this.control("turn-complete", [["session-in-event-id", input.seqNum], ...headers]);
  }

  /** A whole turn. */
  async answer(input, text, headers) {
    const id = `answer-${input.seqNum}`;
    await this.say(...begin(id), ...words(id, text), ...end(id));
    return this.turnComplete(input, headers);
  }

  async #append(records) {
    const channel = { session: this.session, direction: "DIRECTION_OUT" };
    const { start } = await this.channels.call("Append", { channel, records });
    return start.seqNum;
  }

  close() {
    this.reader?.close();
    this.channels.close();
  }
}

/** The chunks of one message with one text. */
export const begin = (id) => [{ type: "start", messageId: id }, { type: "start-step" }, { type: "text-start", id }];
export const words = (id, text) => text.match(/\S+\s*/g).map((delta) => ({ type: "text-delta", id, delta }));
export const end = (id) => [{ type: "text-end", id }, { type: "finish-step" }, { type: "finish" }];
