// The loop that a worker stands on, to be copied as it is: `work(task, serve)` takes the runs of a task, and calls `serve(run)`
// for each.
//
// It promises that a worker comes back when the network breaks or the server restarts, under its name and with the leases that
// it holds, and that what was said of a run is said again until the server knows. A run attaches again where it was, and appends
// again what was not acknowledged, so that it counts once. Once its lease is over, what it asks for next throws. Only what no
// other try would change ends the loop, and is thrown: a key or a task that is refused.
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

type Serve = (run: RunContext) => Promise<unknown>;

export const KEY = process.env.CONTINUO_SECRET_KEY!;
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
export const sessions = new SessionServiceClient(...target);

/**
 * Calls `serve` for a fresh run, and again whenever a run that waited goes on. What it returns, anything that JSON can say, is the
 * run's output; nothing means that the run was suspended. What it throws fails the attempt.
 */
export const work = (task: string, serve: Serve) => new WorkLoop(task, serve).work();

export const report = (event: string, fields = {}) => console.log(JSON.stringify({ event, ...fields }));

export function bearer(token: string) {
  const metadata = new Metadata();
  metadata.set("authorization", `Bearer ${token}`);
  return metadata;
}

/** A unary call as a promise. */
export function answerOf<A>(call: (done: (error: ServiceError | null, answer: A) => void) => unknown) {
  return new Promise<A>((resolve, reject) => call((error, answer) => (error ? reject(error) : resolve(answer))));
}

/** The reason that the server gave; without one it was the network. */
export function errorInfo({ metadata }: ServiceError) {
  const [details] = metadata?.get("grpc-status-details-bin") ?? [];
  if (!Buffer.isBuffer(details)) return undefined;
  const info = Status.decode(details).details.find(({ typeUrl }) => typeUrl.endsWith("/google.rpc.ErrorInfo"));
  return info && ErrorInfo.decode(info.value);
}

const mayRetry = (error: ServiceError) => error.code === status.UNAVAILABLE || errorInfo(error) === undefined;

class WorkLoop {
  #serve: Serve;
  #hello: Partial<WorkerHello>;
  #stream?: ClientDuplexStream<WorkRequest, WorkResponse>;
  #held = new Map<string, Held>();

  constructor(task: string, serve: Serve) {
    this.#serve = serve;
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
      void this.#attempt(held);
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
  async #attempt(held: Held) {
    const { lease } = held;
    const run = new RunContext(held);
    try {
      if (!run.isResumed) this.#tell(held, { $case: "started", value: { lease } });
      const output = await this.#serve(run).finally(() => run.leave());
      if (output === undefined) this.#tell(held, { $case: "suspended", value: { lease } });
      else this.#tell(held, { $case: "completed", value: { lease, output: JSON.stringify(output), outputType: "" } });
    } catch (cause) {
      const { name, message } = cause as Error;
      report("failed", { run: run.id, error: message });
      this.#tell(held, { $case: "failed", value: { lease, error: { name, message }, isFinal: false } });
    }
  }
}

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

/**
 * What a run is served with. What it appends goes to `.out` of its session, and it reads `.in`. After a break it reads on where it
 * was, and appends again what was not acknowledged, under the same part ids, so that it counts once.
 */
export class RunContext {
  readonly id: string;
  readonly payload: string;
  /** Its id; empty where the run has no session. */
  readonly session: string;
  readonly isResumed: boolean;
  /** Where reading begins. */
  readonly inSeqNum: bigint;
  #held: Held;
  #nextSeqNum: bigint;
  #inbox: Record[] = [];
  #parts = 0;
  #unacknowledged: ChannelAppend[] = [];
  #stream?: ClientDuplexStream<AttachRequest, AttachResponse>;
  #incoming?: AsyncIterator<AttachResponse>;

  constructor(held: Held) {
    const { run, session, resumedBy, inSeqNum } = held.assignment;
    this.id = run!.id;
    this.payload = run!.payload;
    this.session = session?.id ?? "";
    this.isResumed = resumedBy !== undefined;
    this.inSeqNum = this.#nextSeqNum = inSeqNum;
    this.#held = held;
  }

  /** Makes a call of the run's, again and again if need be, as long as its lease is held. */
  persist<A>(call: (asRun: Metadata) => Promise<A>) {
    return this.#held.persist(call);
  }

  /** The next message, or nothing once there was none for a while. */
  async next() {
    while (this.#inbox.length === 0) {
      if ((await this.#take()) === "heartbeat") return undefined;
    }
    return this.#inbox.shift();
  }

  append(record: NewRecord) {
    const partId = `${this.#held.name}.${++this.#parts}`;
    const value = ChannelAppend.fromPartial({ records: [record], partId });
    this.#unacknowledged.push(value);
    this.#send({ $case: "append", value });
  }

  /** The end of a turn. It also tells the server how far `.in` was read, so that nothing is answered twice. */
  turnComplete(inSeqNum: bigint) {
    const headers = [
      { name: Buffer.from("trigger-control"), value: Buffer.from("turn-complete") },
      { name: Buffer.from("session-in-event-id"), value: Buffer.from(`${inSeqNum}`) },
    ];
    this.append({ headers, body: Buffer.alloc(0) });
  }

  /** Until everything appended is durable. */
  async flush() {
    while (this.#unacknowledged.length > 0) await this.#take();
  }

  /** Gives the place back until there is input; false if there is some already. */
  async waitForInput(nextSeqNum: bigint) {
    const { session } = this;
    const { runId, lease } = this.#held.lease;
    const lastSeqNum = nextSeqNum > 0n ? nextSeqNum - 1n : undefined;
    // A repeat after a lost answer finds the same waitpoint.
    const idempotencyKey = `${this.#held.name}.${nextSeqNum}`;
    const direction = Direction.DIRECTION_IN;
    const wait = WaitOnChannelRequest.fromPartial({ runId, session, direction, lastSeqNum, idempotencyKey });
    const { waitpoint } = await this.persist((asRun) =>
      answerOf<WaitOnChannelResponse>((done) => runs.waitOnChannel(wait, asRun, done)),
    );
    if (waitpoint!.completedAt) return false;
    const suspend = SuspendOnWaitpointRequest.fromPartial({ runId, waitpointId: waitpoint!.id, lease });
    await this.persist((asRun) => answerOf((done) => runs.suspendOnWaitpoint(suspend, asRun, done)));
    return true;
  }

  /** Hands the session over to a new run; its id. */
  async endAndContinue(reason: string) {
    const request = EndAndContinueRequest.fromPartial({ session: this.session, callingRunId: this.id, reason });
    const { runId } = await this.persist((asRun) =>
      answerOf<EndAndContinueResponse>((done) => sessions.endAndContinue(request, asRun, done)),
    );
    return runId;
  }

  #attach(asRun: Metadata) {
    this.#stream = channels.attach(asRun);
    const { session } = this;
    const start = { start: { $case: "seqNum", value: this.#nextSeqNum } } as const;
    this.#send({ $case: "open", value: AttachOpen.fromPartial({ session, start, heartbeatMs: IDLE_MS }) });
    for (const value of this.#unacknowledged) this.#send({ $case: "append", value });
    return this.#stream[Symbol.asyncIterator]();
  }

  #send(message: AttachRequest["message"]) {
    this.#stream?.write({ message });
  }

  async #take() {
    const { message } = await this.persist((asRun) => this.#receive(asRun));
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
