// A worker: serves the sessions of a task by repeating what is said, word by word.
//
//     npx tsx worker.ts my-task
//
// With nothing to do for a second, a run waits without holding a place. `/hand-over` makes it hand the session to a new run,
// as for an upgrade; `/close` makes it close the session. When the network breaks or the server restarts, the worker comes
// back under its name, and asks again for what was left open, as long as the run's lease is held.
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

const KEY = process.env.CONTINUO_SECRET_KEY!;
const IDLE_MS = 1000;
const PAUSE_MS = 100;
/** With these there is no point in coming back with the same key and task. */
const FINAL = [Code.Unauthenticated, Code.PermissionDenied, Code.InvalidArgument, Code.Unimplemented];
// Pings find out that a connection is dead.
const transport = createGrpcTransport({ baseUrl: process.env.CONTINUO_URL!, pingIntervalMs: 10_000 });
const workers = createClient(WorkerService, transport);
const channels = createClient(ChannelService, transport);
const runs = createClient(RunService, transport);
const sessions = createClient(SessionService, transport);

const report = (event: string, fields = {}) => console.log(JSON.stringify({ event, ...fields }));
const bearer = (token: string) => ({ headers: { authorization: `Bearer ${token}` } });
const bytes = (text: string) => new TextEncoder().encode(text);

/** The reason that the server gave; without one it was the network. */
const errorInfo = (error: ConnectError) => error.findDetails(ErrorInfoSchema)[0];
const mayRetry = (error: ConnectError) => error.code === Code.Unavailable || errorInfo(error) === undefined;

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

class Worker {
  #hello: { workerId: string; taskIdentifiers: string[]; capacity: number };
  #outgoing = new Outgoing<{ message: WorkMessage }>();
  #held = new Map<string, Held>();

  constructor(task: string) {
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
      void this.#serve(held);
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
  async #serve(held: Held) {
    const { lease } = held;
    const run = held.assignment.run!;
    try {
      if (held.assignment.resumedBy) {
        report("resumed", { run: run.id });
      } else {
        report("took", { run: run.id, continuation: JSON.parse(run.payload).continuation ?? false });
        this.#tell(held, { case: "started", value: { lease } });
      }
      const output = await converse(held);
      if (output === undefined) this.#tell(held, { case: "suspended", value: { lease } });
      else this.#tell(held, { case: "completed", value: { lease, output: JSON.stringify(output) } });
    } catch (cause) {
      const { name, message } = cause as Error;
      report("failed", { run: run.id, error: message });
      this.#tell(held, { case: "failed", value: { lease, error: { name, message } } });
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
      for (const word of said.split(" ")) attachment.append({ body: bytes(word) });
      attachment.append({ headers: turnComplete(record.seqNum) });
      await attachment.flush();
      if (said === "/hand-over") {
        const request = { session, callingRunId: run, reason: "upgrade" };
        const { runId: next } = await held.persist((asRun) => sessions.endAndContinue(request, asRun));
        report("handed over", { run, next });
        return "handed over";
      }
      if (said === "/close") {
        const request = { session, reason: "said so", callingRunId: run };
        await held.persist(() => sessions.closeSession(request, bearer(KEY)));
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
  const wait = { runId, session, direction: Direction.IN, lastSeqNum, idempotencyKey };
  const { waitpoint } = await held.persist((asRun) => runs.waitOnChannel(wait, asRun));
  if (waitpoint!.completedAt) return false;
  const suspend = { runId, waitpointId: waitpoint!.id, lease };
  await held.persist((asRun) => runs.suspendOnWaitpoint(suspend, asRun));
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
  #unacknowledged: Append[] = [];
  #outgoing = new Outgoing<{ message: AttachMessage }>();
  #incoming?: AsyncIterator<AttachResponse>;

  constructor(readonly held: Held) {
    this.#nextSeqNum = held.assignment.inSeqNum;
  }

  #attach(asRun: CallOptions) {
    this.#outgoing = new Outgoing();
    const session = this.held.assignment.session!.id;
    const start = { start: { case: "seqNum", value: this.#nextSeqNum } } as const;
    this.#send({ case: "open", value: { session, start, heartbeatMs: IDLE_MS } });
    for (const value of this.#unacknowledged) this.#send({ case: "append", value });
    return channels.attach(this.#outgoing, asRun)[Symbol.asyncIterator]();
  }

  #send(message: AttachMessage) {
    this.#outgoing.send({ message });
  }

  append(record: { body?: Uint8Array; headers?: { name: Uint8Array; value: Uint8Array }[] }) {
    const value = { records: [record], partId: `${this.held.name}.${++this.#parts}` };
    this.#unacknowledged.push(value);
    this.#send({ case: "append", value });
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

/** The end of a turn. It also tells the server how far `.in` was read, so that nothing is answered twice. */
const turnComplete = (inSeqNum: bigint) => [
  { name: bytes("trigger-control"), value: bytes("turn-complete") },
  { name: bytes("session-in-event-id"), value: bytes(`${inSeqNum}`) },
];

try {
  await new Worker(process.argv[2]).work();
} catch (cause) {
  const error = ConnectError.from(cause);
  const info = errorInfo(error);
  report("refused", { code: error.code, reason: info?.reason, metadata: info?.metadata ?? {} });
  process.exit(1);
}
