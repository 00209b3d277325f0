// An agent that the test plays itself: it takes one input at a time and says exactly what it is told to say.
import { Client, channelPath } from "./http.mjs";
import { sessions } from "./sdk.mjs";
import { streamOf } from "./source.mjs";
import { subscribe } from "./sse.mjs";
import { within } from "./wait.mjs";

/** The task of such sessions: no worker knows it, so that nobody else answers. */
export const PLAYED = "played-by-the-test";

export class Agent {
  constructor(server, session) {
    this.session = session;
    this.client = new Client(server);
    this.out = sessions.open(session).out;
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

  /** Writes chunks of a message, as they are; the number of the last. */
  async say(...chunks) {
    const { lastEventId } = await this.out.pipe(streamOf(chunks)).waitUntilComplete();
    return Number(lastEventId);
  }

  control(subtype, headers = []) {
    return this.out.writeControl(subtype, headers);
  }

  /** The turn is over that answered this input. */
  turnComplete(input, headers = []) {
    return this.control("turn-complete", [["session-in-event-id", String(input.seqNum)], ...headers]);
  }

  /** A whole turn. */
  async answer(input, text, headers) {
    const id = `answer-${input.seqNum}`;
    await this.say(...begin(id), ...words(id, text), ...end(id));
    return this.turnComplete(input, headers);
  }

  close() {
    this.reader?.close();
  }
}

/** The chunks of one message with one text. */
export const begin = (id) => [{ type: "start", messageId: id }, { type: "start-step" }, { type: "text-start", id }];
export const words = (id, text) => text.match(/\S+\s*/g).map((delta) => ({ type: "text-delta", id, delta }));
export const end = (id) => [{ type: "text-end", id }, { type: "finish-step" }, { type: "finish" }];
