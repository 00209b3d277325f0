// A chat on a session: says each line of standard input and prints what happens, one JSON object a line.
//
//     npx tsx chat.ts my-chat my-task
//
// What a broken network leaves open is asked for again: the read goes on after the last number seen, and an append that was not
// acknowledged is repeated with its part id, so that it counts once.
import { randomUUID } from "node:crypto";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { type ClientDuplexStream, credentials, Metadata, type ServiceError, status } from "@grpc/grpc-js";
import { ReadStart, type Record } from "./gen/continuo/v1/channel.ts";
import { AttachRequest, type AttachResponse, ChannelServiceClient } from "./gen/continuo/v1/channel_service.ts";
import {
  CreateSessionRequest,
  type CreateSessionResponse,
  SessionServiceClient,
} from "./gen/continuo/v1/session_service.ts";
import { ErrorInfo } from "./gen/google/rpc/error_details.ts";
import { Status } from "./gen/google/rpc/status.ts";

const address = new URL(process.env.CONTINUO_URL!).host;
const sessions = new SessionServiceClient(address, credentials.createInsecure());
const channels = new ChannelServiceClient(address, credentials.createInsecure());

const report = (event: string, fields = {}) => console.log(JSON.stringify({ event, ...fields }));
const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

function bearer(token: string) {
  const metadata = new Metadata();
  metadata.set("authorization", `Bearer ${token}`);
  return metadata;
}

/** The reason that the server gave; without one it was the network. */
function errorInfo({ metadata }: ServiceError) {
  const [details] = metadata?.get("grpc-status-details-bin") ?? [];
  if (!Buffer.isBuffer(details)) return undefined;
  const info = Status.decode(details).details.find(({ typeUrl }) => typeUrl.endsWith("/google.rpc.ErrorInfo"));
  return info && ErrorInfo.decode(info.value);
}

const mayRetry = (error: ServiceError) => error.code === status.UNAVAILABLE || errorInfo(error) === undefined;

/** Makes the session, or finds it; a token for it alone. */
async function create(session: string, task: string) {
  const request = CreateSessionRequest.fromPartial({
    externalId: session,
    type: "chat",
    taskIdentifier: task,
    triggerConfig: { basePayloadJson: "{}" },
  });
  const created = await new Promise<CreateSessionResponse>((resolve, reject) =>
    sessions.createSession(request, bearer(process.env.CONTINUO_SECRET_KEY!), (error, answer) =>
      error ? reject(error) : resolve(answer),
    ),
  );
  report("created", { session: created.session!.id, run: created.runId, cached: created.isCached });
  return created.publicAccessToken;
}

class Chat {
  #nextSeqNum = 0n;
  #stream?: ClientDuplexStream<AttachRequest, AttachResponse>;
  #incoming?: AsyncIterator<AttachResponse>;

  constructor(
    readonly session: string,
    readonly token: string,
  ) {}

  #attach() {
    report("attached", { start: Number(this.#nextSeqNum) });
    const start = ReadStart.fromPartial({ start: { $case: "seqNum", value: this.#nextSeqNum } });
    this.#stream = channels.attach(bearer(this.token));
    this.#incoming = this.#stream[Symbol.asyncIterator]();
    this.#send({ $case: "open", value: { session: this.session, start, name: "", heartbeatMs: 0 } });
  }

  #send(message: AttachRequest["message"]) {
    this.#stream!.write(AttachRequest.fromPartial({ message }));
  }

  /** Says it, and reads on until the turn that answers it is complete. */
  async ask(line: string) {
    const append = { records: [{ body: Buffer.from(line), headers: [] }], partId: randomUUID(), boot: 0 };
    let asked: bigint | undefined;
    let answered = -1n;
    const isOver = () => asked !== undefined && answered >= asked;
    while (!isOver()) {
      try {
        if (this.#stream === undefined) this.#attach();
        if (asked === undefined) this.#send({ $case: "append", value: append });
        while (!isOver()) {
          const { message } = (await this.#incoming!.next()).value as AttachResponse;
          if (message?.$case === "ack") {
            asked = message.value.start!.seqNum;
            report("acknowledged", { seq: Number(asked), repeated: message.value.repeated });
          } else if (message?.$case === "batch") {
            for (const record of message.value.records) answered = this.#read(record) ?? answered;
          }
        }
      } catch (cause) {
        const error = cause as ServiceError;
        this.#stream = undefined;
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
}

try {
  const [session, task] = process.argv.slice(2);
  const chat = new Chat(session, await create(session, task));
  for await (const line of createInterface({ input: process.stdin })) await chat.ask(line);
} catch (cause) {
  const error = cause as ServiceError;
  const info = errorInfo(error);
  report("refused", { code: error.code, reason: info?.reason, metadata: info?.metadata ?? {} });
  process.exitCode = 1;
} finally {
  for (const client of [sessions, channels]) client.close();
}
