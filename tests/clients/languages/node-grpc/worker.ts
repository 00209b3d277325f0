// A worker: serves the sessions of a task by repeating what is said, word by word.
//
//     npx tsx worker.ts my-task
//
// With nothing to do for a second, a run waits without holding a place. `/hand-over` makes it hand the session to a new run,
// as for an upgrade; `/close` makes it close the session. When the network breaks or the server restarts, the worker comes
// back under its name, and asks again for what was left open, as long as the run's lease is held.
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { type ClientDuplexStream, credentials, Metadata, type ServiceError, status } from "@grpc/grpc-js";
import { Direction, type NewRecord, type Record } from "./gen/continuo/v1/channel.ts";
import {
  AttachOpen,
  AttachRequest,
  type AttachResponse,
  ChannelAppend,
  ChannelServiceClient,
} from "./gen/continuo/v1/channel_service.ts";
import {
  RunServiceClient,
  SuspendOnWaitpointRequest,
  WaitOnChannelRequest,
  type WaitOnChannelResponse,
} from "./gen/continuo/v1/run_service.ts";
import {
  CloseSessionRequest,
  EndAndContinueRequest,
  type EndAndContinueResponse,
  SessionServiceClient,
} from "./gen/continuo/v1/session_service.ts";
import {
  type Assignment,
  type LeaseRef,
  WorkerHello,
  WorkRequest,
  type WorkResponse,
  WorkerServiceClient,
} from "./gen/continuo/v1/worker_service.ts";
import { ErrorInfo } from "./gen/google/rpc/error_details.ts";
import { Status } from "./gen/google/rpc/status.ts";

const KEY = process.env.CONTINUO_SECRET_KEY!;
const IDLE_MS = 1000;
const PAUSE_MS = 100;
/** With these there is no point in coming back with the same key and task. */
const FINAL = [status.UNAUTHENTICATED, status.PERMISSION_DENIED, status.INVALID_ARGUMENT, status.UNIMPLEMENTED];
// Pings find out that a connection is dead, and a server that was away is tried again before the leases end.
const options = { "grpc.keepalive_time_ms": 10_000, "grpc.max_reconnect_backoff_ms": 1_000 };
const target = [new URL(process.env.CONTINUO_URL!).host, credentials.createInsecure(), options] as const;
const workers = new WorkerServiceClient(...target);
const channels = new ChannelServiceClient(...target);
const runs = new RunServiceClient(...target);
const sessions = new SessionServiceClient(...target);

const report = (event: string, fields = {}) => console.log(JSON.stringify({ event, ...fields }));

function bearer(token: string) {
  const metadata = new Metadata();
  metadata.set("authorization", `Bearer ${token}`);
  return metadata;
}

/** A unary call as a promise. */
function answerOf<A>(call: (done: (error: ServiceError | null, answer: A) => void) => unknown) {
  return new Promise<A>((resolve, reject) => call((error, answer) => (error ? reject(error) : resolve(answer))));
}

/** The reason that the server gave; without one it was the network. */
function errorInfo({ metadata }: ServiceError) {
  const [details] = metadata?.get("grpc-status-details-bin") ?? [];
  if (!Buffer.isBuffer(details)) return undefined;
  const info = Status.decode(details).details.find(({ typeUrl }) => typeUrl.endsWith("/google.rpc.ErrorInfo"));
  return info && ErrorInfo.decode(info.value);
}

const mayRetry = (error: ServiceError) => error.code === status.UNAVAILABLE || errorInfo(error) === undefined;

/** A lease of a run, from its assignment until the server revokes it; it does so too when it knows of the run's end. */
class Held {
  readonly lease: LeaseRef;
  readonly name: string;
  token: string;
  /** The newest report. */
  said?: WorkRequest["message"];
  isOver = false;

  constructor(readonly assignment: Assignment) {
    this.lease = { runId: assignment.run!.id, lease: assignment.lease };
    this.name = nameOf(this.lease);
    this.token = assignment.runToken;
  }

  /** Repeats what a broken network leaves open, with the newest token, until it is answered or the lease is over. */
  async persist<A>(call: (asRun: Metadata) => Promise<A>) {
    while (!this.isOver) {
      try {
        return await call(bearer(this.token));
      } catch (cause) {
        if (!mayRetry(cause as ServiceError)) throw cause;
        await sleep(PAUSE_MS);
      }
    }
    throw new Error("the lease is over");
  }
}

class Worker {
  #hello: Partial<WorkerHello>;
  #stream?: ClientDuplexStream<WorkRequest, WorkResponse>;
  #held = new Map<string, Held>();

  constructor(task: string) {
    this.#hello = { workerId: randomUUID(), taskIdentifiers: [task], capacity: 10 };
  }

  async work() {
    for (;;) {
      let beat: NodeJS.Timeout | undefined;
      try {
        for await (const { message } of this.#connect() as AsyncIterable<WorkResponse>) {
          if (message?.$case === "welcome") beat = setInterval(() => this.#beat(), message.value.heartbeatMs);
          else this.#take(message);
        }
      } catch (cause) {
        const error = cause as ServiceError;
        if (FINAL.includes(error.code)) throw error;
        report("lost", { code: error.code });
      }
      clearInterval(beat);
      this.#stream = undefined;
      await sleep(PAUSE_MS);
    }
  }

  /** Says what is still held: the server renews the leases that live on, and revokes the others. */
  #connect() {
    this.#stream = workers.work(bearer(KEY));
    this.#send({ $case: "hello", value: WorkerHello.fromPartial({ ...this.#hello, heldLeases: this.#leases() }) });
    for (const { said } of this.#held.values()) if (said) this.#send(said);
    return this.#stream;
  }

  #leases() {
    return [...this.#held.values()].map(({ lease }) => lease);
  }

  #send(message: WorkRequest["message"]) {
    this.#stream?.write({ message });
  }

  #tell(held: Held, message: WorkRequest["message"]) {
    held.said = message;
    this.#send(message);
  }

  #take(message: WorkResponse["message"]) {
    if (message?.$case === "assignment") {
      const held = new Held(message.value);
      this.#held.set(held.name, held);
      void this.#serve(held);
    } else if (message?.$case === "renewed") {
      for (const { lease, runToken } of message.value.leases) {
        const held = this.#held.get(nameOf(lease!));
        if (held) held.token = runToken;
      }
    } else if (message?.$case === "revoked") {
      const name = nameOf(message.value.lease!);
      const held = this.#held.get(name);
      if (held) held.isOver = true;
      this.#held.delete(name);
    }
  }

  #beat() {
    this.#send({ $case: "heartbeat", value: { leases: this.#leases() } });
  }

  /** One lease of a run, from its assignment to its end. */
  async #serve(held: Held) {
    const { lease } = held;
    const run = held.assignment.run!;
    try {
      if (held.assignment.resumedBy) {
        report("resumed", { run: run.id });
      } else {
        report("took", { run: run.id, continuation: JSON.parse(run.payload).continuation ?? false });
        this.#tell(held, { $case: "started", value: { lease } });
      }
      const output = await converse(held);
      if (output === undefined) this.#tell(held, { $case: "suspended", value: { lease } });
      else this.#tell(held, { $case: "completed", value: { lease, output: JSON.stringify(output), outputType: "" } });
    } catch (cause) {
      const { name, message } = cause as Error;
      report("failed", { run: run.id, error: message });
      this.#tell(held, { $case: "failed", value: { lease, error: { name, message }, isFinal: false } });
    }
  }
}

/** Answers until the run is over; its output, or nothing where it was suspended. */
async function converse(held: Held) {
  const { id: run, sessionId: session } = held.assignment.run!;
  let nextSeqNum = held.assignment.inSeqNum;
  const attachment = new Attachment(held);
  try {
    for (;;) {
      const record = await attachment.next();
      if (record === undefined) {
        if (!(await isSuspended(held, nextSeqNum))) continue;
        report("suspended", { run });
        return undefined;
      }
      nextSeqNum = record.seqNum + 1n;
      const said = new TextDecoder().decode(record.body);
      for (const word of said.split(" ")) attachment.append({ headers: [], body: Buffer.from(word) });
      attachment.append({ headers: turnComplete(record.seqNum), body: Buffer.alloc(0) });
      await attachment.flush();
      if (said === "/hand-over") {
        const request = EndAndContinueRequest.fromPartial({ session, callingRunId: run, reason: "upgrade" });
        const { runId: next } = await held.persist((asRun) =>
          answerOf<EndAndContinueResponse>((done) => sessions.endAndContinue(request, asRun, done)),
        );
        report("handed over", { run, next });
        return "handed over";
      }
      if (said === "/close") {
        const request = CloseSessionRequest.fromPartial({ session, reason: "said so", callingRunId: run });
        await held.persist(() => answerOf((done) => sessions.closeSession(request, bearer(KEY), done)));
        report("closed", { run });
        return "closed";
      }
    }
  } finally {
    attachment.leave();
  }
}

/** Gives the place back until there is input; false if there is some already. */
async function isSuspended(held: Held, nextSeqNum: bigint) {
  const { runId, lease } = held.lease;
  const session = held.assignment.session!.id;
  const lastSeqNum = nextSeqNum > 0n ? nextSeqNum - 1n : undefined;
  // A repeat after a lost answer finds the same waitpoint.
  const idempotencyKey = `${held.name}.${nextSeqNum}`;
  const direction = Direction.DIRECTION_IN;
  const wait = WaitOnChannelRequest.fromPartial({ runId, session, direction, lastSeqNum, idempotencyKey });
  const { waitpoint } = await held.persist((asRun) =>
    answerOf<WaitOnChannelResponse>((done) => runs.waitOnChannel(wait, asRun, done)),
  );
  if (waitpoint!.completedAt) return false;
  const suspend = SuspendOnWaitpointRequest.fromPartial({ runId, waitpointId: waitpoint!.id, lease });
  await held.persist((asRun) => answerOf((done) => runs.suspendOnWaitpoint(suspend, asRun, done)));
  return true;
}

/**
 * The run's side of its session: what it appends goes to `.out`, and it reads `.in`. After a break it reads on where it was, and
 * appends again what was not acknowledged, under the same part ids, so that it counts once.
 */
class Attachment {
  #nextSeqNum: bigint;
  #inbox: Record[] = [];
  #parts = 0;
  #unacknowledged: ChannelAppend[] = [];
  #stream?: ClientDuplexStream<AttachRequest, AttachResponse>;
  #incoming?: AsyncIterator<AttachResponse>;

  constructor(readonly held: Held) {
    this.#nextSeqNum = held.assignment.inSeqNum;
  }

  #attach(asRun: Metadata) {
    this.#stream = channels.attach(asRun);
    const session = this.held.assignment.session!.id;
    const start = { start: { $case: "seqNum", value: this.#nextSeqNum } } as const;
    this.#send({ $case: "open", value: AttachOpen.fromPartial({ session, start, heartbeatMs: IDLE_MS }) });
    for (const value of this.#unacknowledged) this.#send({ $case: "append", value });
    return this.#stream[Symbol.asyncIterator]();
  }

  #send(message: AttachRequest["message"]) {
    this.#stream?.write({ message });
  }

  append(record: NewRecord) {
    const partId = `${this.held.name}.${++this.#parts}`;
    const value = ChannelAppend.fromPartial({ records: [record], partId });
    this.#unacknowledged.push(value);
    this.#send({ $case: "append", value });
  }

  /** Until everything appended is durable. */
  async flush() {
    while (this.#unacknowledged.length > 0) await this.#take();
  }

  /** The next message, or nothing once there was none for a while. */
  async next() {
    while (this.#inbox.length === 0) {
      if ((await this.#take()) === "heartbeat") return undefined;
    }
    return this.#inbox.shift();
  }

  async #take() {
    const { message } = await this.held.persist((asRun) => this.#receive(asRun));
    if (message?.$case === "ack") this.#unacknowledged.shift();
    for (const record of message?.$case === "batch" ? message.value.records : []) {
      this.#nextSeqNum = record.seqNum + 1n;
      if (!isCommand(record)) this.#inbox.push(record);
    }
    return message?.$case;
  }

  async #receive(asRun: Metadata) {
    try {
      this.#incoming ??= this.#attach(asRun);
      const { done, value } = await this.#incoming.next();
      if (done) throw new Error("the server ended the stream");
      return value;
    } catch (cause) {
      this.leave();
      throw cause;
    }
  }

  leave() {
    this.#stream?.end();
    this.#stream = this.#incoming = undefined;
  }
}

const nameOf = ({ runId, lease }: LeaseRef) => `${runId}.${lease}`;

/** A record with one header without a name is a command of the log itself. */
const isCommand = ({ headers }: Record) => headers.length === 1 && headers[0].name.length === 0;

/** The end of a turn. It also tells the server how far `.in` was read, so that nothing is answered twice. */
const turnComplete = (inSeqNum: bigint) => [
  { name: Buffer.from("trigger-control"), value: Buffer.from("turn-complete") },
  { name: Buffer.from("session-in-event-id"), value: Buffer.from(`${inSeqNum}`) },
];

try {
  await new Worker(process.argv[2]).work();
} catch (cause) {
  const error = cause as ServiceError;
  const info = errorInfo(error);
  report("refused", { code: error.code, reason: info?.reason, metadata: info?.metadata ?? {} });
  process.exit(1);
}
