// The loop that a worker stands on, to be copied as it is: `work(task, serve)` takes the runs of a task, and calls `serve(run)`
// for each.
//
// It promises that a worker comes back when the network breaks or the server restarts, under its name and with the leases that
// it holds, and that what was said of a run is said again until the server knows. A run attaches again where it was, and appends
// again what was not acknowledged, so that it counts once. Once its lease is over, what it asks for next throws. Only what no
// other try would change ends the loop, and is thrown: a key or a task that is refused.
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { type CallOptions, Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { Direction, type Record } from "./gen/continuo/v1/channel_pb.ts";
import {
  type AttachRequestSchema,
  type AttachResponse,
  type ChannelAppendSchema,
  ChannelService,
} from "./gen/continuo/v1/channel_service_pb.ts";
import { RunService } from "./gen/continuo/v1/run_service_pb.ts";
import { SessionService } from "./gen/continuo/v1/session_service_pb.ts";
import {
  type Assignment,
  type LeaseRef,
  type WorkRequestSchema,
  type WorkResponse,
  WorkerService,
} from "./gen/continuo/v1/worker_service_pb.ts";
import { ErrorInfoSchema } from "./gen/google/rpc/error_details_pb.ts";
import { Outgoing } from "./outgoing.ts";

type WorkMessage = MessageInitShape<typeof WorkRequestSchema>["message"];
type AttachMessage = MessageInitShape<typeof AttachRequestSchema>["message"];
type Append = MessageInitShape<typeof ChannelAppendSchema>;
type Lease = Pick<LeaseRef, "runId" | "lease">;
type Serve = (run: RunContext) => Promise<unknown>;

export const KEY = process.env.CONTINUO_SECRET_KEY!;
const IDLE_MS = 1000;
const PAUSE_MS = 100;
/** With these there is no point in coming back with the same key and task. */
const FINAL = [Code.Unauthenticated, Code.PermissionDenied, Code.InvalidArgument, Code.Unimplemented];
// Pings find out that a connection is dead.
const transport = createGrpcTransport({ baseUrl: process.env.CONTINUO_URL!, pingIntervalMs: 10_000 });
const workers = createClient(WorkerService, transport);
const channels = createClient(ChannelService, transport);
const runs = createClient(RunService, transport);
export const sessions = createClient(SessionService, transport);

/**
 * Calls `serve` for a fresh run, and again whenever a run that waited goes on. What it returns, anything that JSON can say, is the
 * run's output; nothing means that the run was suspended. What it throws fails the attempt.
 */
export const work = (task: string, serve: Serve) => new WorkLoop(task, serve).work();

export const report = (event: string, fields = {}) => console.log(JSON.stringify({ event, ...fields }));
export const bearer = (token: string) => ({ headers: { authorization: `Bearer ${token}` } });
export const bytes = (text: string) => new TextEncoder().encode(text);

/** The reason that the server gave; without one it was the network. */
export const errorInfo = (error: ConnectError) => error.findDetails(ErrorInfoSchema)[0];
const mayRetry = (error: ConnectError) => error.code === Code.Unavailable || errorInfo(error) === undefined;

class WorkLoop {
  #serve: Serve;
  #hello: { workerId: string; taskIdentifiers: string[]; capacity: number };
  #outgoing = new Outgoing<{ message: WorkMessage }>();
  #held = new Map<string, Held>();

  constructor(task: string, serve: Serve) {
    this.#serve = serve;
    this.#hello = { workerId: randomUUID(), taskIdentifiers: [task], capacity: 10 };
  }

  async work() {
    for (;;) {
      let beat: NodeJS.Timeout | undefined;
      try {
        for await (const { message } of this.#connect()) {
          if (message.case === "welcome") beat = setInterval(() => this.#beat(), message.value.heartbeatMs);
          else this.#take(message);
        }
      } catch (cause) {
        const error = ConnectError.from(cause);
        if (FINAL.includes(error.code)) throw error;
        report("lost", { code: error.code });
      }
      clearInterval(beat);
      this.#outgoing.end();
      await sleep(PAUSE_MS);
    }
  }

  /** Says what is still held: the server renews the leases that live on, and revokes the others. */
  #connect() {
    this.#outgoing = new Outgoing();
    this.#send({ case: "hello", value: { ...this.#hello, heldLeases: this.#leases() } });
    for (const { said } of this.#held.values()) if (said) this.#send(said);
    return workers.work(this.#outgoing, bearer(KEY));
  }

  #leases() {
    return [...this.#held.values()].map(({ lease }) => lease);
  }

  #send(message: WorkMessage) {
    this.#outgoing.send({ message });
  }

  #tell(held: Held, message: WorkMessage) {
    held.said = message;
    this.#send(message);
  }

  #take(message: WorkResponse["message"]) {
    if (message.case === "assignment") {
      const held = new Held(message.value);
      this.#held.set(held.name, held);
      void this.#attempt(held);
    } else if (message.case === "renewed") {
      for (const { lease, runToken } of message.value.leases) {
        const held = this.#held.get(nameOf(lease!));
        if (held) held.token = runToken;
      }
    } else if (message.case === "revoked") {
      const name = nameOf(message.value.lease!);
      const held = this.#held.get(name);
      if (held) held.isOver = true;
      this.#held.delete(name);
    }
  }

  #beat() {
    this.#send({ case: "heartbeat", value: { leases: this.#leases() } });
  }

  /** One lease of a run, from its assignment to its end. */
  async #attempt(held: Held) {
    const { lease } = held;
    const run = new RunContext(held);
    try {
      if (!run.isResumed) this.#tell(held, { case: "started", value: { lease } });
      const output = await this.#serve(run).finally(() => run.leave());
      if (output === undefined) this.#tell(held, { case: "suspended", value: { lease } });
      else this.#tell(held, { case: "completed", value: { lease, output: JSON.stringify(output) } });
    } catch (cause) {
      const { name, message } = cause as Error;
      report("failed", { run: run.id, error: message });
      this.#tell(held, { case: "failed", value: { lease, error: { name, message } } });
    }
  }
}

/** A lease of a run, from its assignment until the server revokes it; it does so too when it knows of the run's end. */
class Held {
  readonly lease: Lease;
  readonly name: string;
  token: string;
  /** The newest report. */
  said?: WorkMessage;
  isOver = false;

  constructor(readonly assignment: Assignment) {
    this.lease = { runId: assignment.run!.id, lease: assignment.lease };
    this.name = nameOf(this.lease);
    this.token = assignment.runToken;
  }

  /** Repeats what a broken network leaves open, with the newest token, until it is answered or the lease is over. */
  async persist<A>(call: (asRun: CallOptions) => Promise<A>) {
    while (!this.isOver) {
      try {
        return await call(bearer(this.token));
      } catch (cause) {
        if (!mayRetry(ConnectError.from(cause))) throw cause;
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
  #unacknowledged: Append[] = [];
  #outgoing = new Outgoing<{ message: AttachMessage }>();
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
  persist<A>(call: (asRun: CallOptions) => Promise<A>) {
    return this.#held.persist(call);
  }

  /** The next message, or nothing once there was none for a while. */
  async next() {
    while (this.#inbox.length === 0) {
      if ((await this.#take()) === "heartbeat") return undefined;
    }
    return this.#inbox.shift();
  }

  append(record: { body?: Uint8Array; headers?: { name: Uint8Array; value: Uint8Array }[] }) {
    const value = { records: [record], partId: `${this.#held.name}.${++this.#parts}` };
    this.#unacknowledged.push(value);
    this.#send({ case: "append", value });
  }

  /** The end of a turn. It also tells the server how far `.in` was read, so that nothing is answered twice. */
  turnComplete(inSeqNum: bigint) {
    const headers = [
      { name: bytes("trigger-control"), value: bytes("turn-complete") },
      { name: bytes("session-in-event-id"), value: bytes(`${inSeqNum}`) },
    ];
    this.append({ headers });
  }

  /** Until everything appended is durable. */
  async flush() {
    while (this.#unacknowledged.length > 0) await this.#take();
  }

  /** Gives the place back until there is input; false if there is some already. */
  async waitForInput(nextSeqNum: bigint) {
    const { runId, lease } = this.#held.lease;
    const lastSeqNum = nextSeqNum > 0n ? nextSeqNum - 1n : undefined;
    // A repeat after a lost answer finds the same waitpoint.
    const idempotencyKey = `${this.#held.name}.${nextSeqNum}`;
    const wait = { runId, session: this.session, direction: Direction.IN, lastSeqNum, idempotencyKey };
    const { waitpoint } = await this.persist((asRun) => runs.waitOnChannel(wait, asRun));
    if (waitpoint!.completedAt) return false;
    const suspend = { runId, waitpointId: waitpoint!.id, lease };
    await this.persist((asRun) => runs.suspendOnWaitpoint(suspend, asRun));
    return true;
  }

  /** Hands the session over to a new run; its id. */
  async endAndContinue(reason: string) {
    const request = { session: this.session, callingRunId: this.id, reason };
    const { runId } = await this.persist((asRun) => sessions.endAndContinue(request, asRun));
    return runId;
  }

  #attach(asRun: CallOptions) {
    this.#outgoing = new Outgoing();
    const start = { start: { case: "seqNum", value: this.#nextSeqNum } } as const;
    this.#send({ case: "open", value: { session: this.session, start, heartbeatMs: IDLE_MS } });
    for (const value of this.#unacknowledged) this.#send({ case: "append", value });
    return channels.attach(this.#outgoing, asRun)[Symbol.asyncIterator]();
  }

  #send(message: AttachMessage) {
    this.#outgoing.send({ message });
  }

  async #take() {
    const { message } = await this.persist((asRun) => this.#receive(asRun));
    if (message.case === "ack") this.#unacknowledged.shift();
    for (const record of message.case === "batch" ? message.value.records : []) {
      this.#nextSeqNum = record.seqNum + 1n;
      if (!isCommand(record)) this.#inbox.push(record);
    }
    return message.case;
  }

  async #receive(asRun: CallOptions) {
    try {
      this.#incoming ??= this.#attach(asRun);
      const { done, value } = await this.#incoming.next();
      if (done) throw new ConnectError("the server ended the stream", Code.Unavailable);
      return value;
    } catch (cause) {
      this.leave();
      throw cause;
    }
  }

  leave() {
    this.#outgoing.end();
    this.#incoming = undefined;
  }
}

const nameOf = ({ runId, lease }: Lease) => `${runId}.${lease}`;

/** A record with one header without a name is a command of the log itself. */
const isCommand = ({ headers }: Record) => headers.length === 1 && headers[0].name.length === 0;
