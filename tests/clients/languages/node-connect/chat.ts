// A chat on a session: says each line of standard input and prints what happens, one JSON object a line.
//
//     npx tsx chat.ts my-chat my-task
//
// What a broken network leaves open is asked for again: the read goes on after the last number seen, and an append that was not
// acknowledged is repeated with its part id, so that it counts once.
import { randomUUID } from "node:crypto";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import type { Record } from "./gen/continuo/v1/channel_pb.ts";
import { type AttachRequestSchema, type AttachResponse, ChannelService } from "./gen/continuo/v1/channel_service_pb.ts";
import { SessionService } from "./gen/continuo/v1/session_service_pb.ts";
import { ErrorInfoSchema } from "./gen/google/rpc/error_details_pb.ts";
import { Outgoing } from "./outgoing.ts";

const transport = createGrpcTransport({ baseUrl: process.env.CONTINUO_URL! });

const report = (event: string, fields = {}) => console.log(JSON.stringify({ event, ...fields }));
const bearer = (token: string) => ({ headers: { authorization: `Bearer ${token}` } });
const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

/** The reason that the server gave; without one it was the network. */
const errorInfo = (error: ConnectError) => error.findDetails(ErrorInfoSchema)[0];
const mayRetry = (error: ConnectError) => error.code === Code.Unavailable || errorInfo(error) === undefined;

/** Makes the session, or finds it; a token for it alone. */
async function create(session: string, task: string) {
  const created = await createClient(SessionService, transport).createSession(
    { externalId: session, type: "chat", taskIdentifier: task, triggerConfig: { basePayloadJson: "{}" } },
    bearer(process.env.CONTINUO_SECRET_KEY!),
  );
  report("created", { session: created.session!.id, run: created.runId, cached: created.isCached });
  return created.publicAccessToken;
}

class Chat {
  #channels: Client<typeof ChannelService> = createClient(ChannelService, transport);
  #nextSeqNum = 0n;
  #outgoing?: Outgoing<MessageInitShape<typeof AttachRequestSchema>>;
  #incoming?: AsyncIterator<AttachResponse>;

  constructor(
    readonly session: string,
    readonly token: string,
  ) {}

  #attach() {
    report("attached", { start: Number(this.#nextSeqNum) });
    const start = { start: { case: "seqNum", value: this.#nextSeqNum } } as const;
    this.#outgoing = new Outgoing();
    this.#outgoing.send({ message: { case: "open", value: { session: this.session, start } } });
    this.#incoming = this.#channels.attach(this.#outgoing, bearer(this.token))[Symbol.asyncIterator]();
  }

  /** Says it, and reads on until the turn that answers it is complete. */
  async ask(line: string) {
    const append = { records: [{ body: new TextEncoder().encode(line) }], partId: randomUUID() };
    let asked: bigint | undefined;
    let answered = -1n;
    const isOver = () => asked !== undefined && answered >= asked;
    while (!isOver()) {
      try {
        if (this.#incoming === undefined) this.#attach();
        if (asked === undefined) this.#outgoing!.send({ message: { case: "append", value: append } });
        while (!isOver()) {
          const { message } = (await this.#incoming!.next()).value as AttachResponse;
          if (message.case === "ack") {
            asked = message.value.start!.seqNum;
            report("acknowledged", { seq: Number(asked), repeated: message.value.repeated });
          } else if (message.case === "batch") {
            for (const record of message.value.records) answered = this.#read(record) ?? answered;
          }
        }
      } catch (cause) {
        const error = ConnectError.from(cause);
        this.#incoming = undefined;
        if (!mayRetry(error)) throw error;
        report("lost", { code: error.code });
        await sleep(100);
      }
    }
    report("answered");
  }

  /** The number of the message that the turn answered, if the record completes a turn. */
  #read(record: Record) {
    this.#nextSeqNum = record.seqNum + 1n;
    const headers = new Map(record.headers.map(({ name, value }) => [text(name), text(value)]));
    // A control record says what happened, and a record with one header without a name is a command of the log itself.
    const control = headers.get("trigger-control") ?? headers.get("");
    report("record", { seq: Number(record.seqNum), text: text(record.body), control: control ?? null });
    const number = headers.get("session-in-event-id");
    return number === undefined ? undefined : BigInt(number);
  }

  leave() {
    this.#outgoing?.end();
  }
}

try {
  const [session, task] = process.argv.slice(2);
  const chat = new Chat(session, await create(session, task));
  for await (const line of createInterface({ input: process.stdin })) await chat.ask(line);
  chat.leave();
} catch (cause) {
  const error = ConnectError.from(cause);
  const info = errorInfo(error);
  report("refused", { code: error.code, reason: info?.reason, metadata: info?.metadata ?? {} });
  process.exitCode = 1;
}
