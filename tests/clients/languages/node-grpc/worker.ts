// A worker: serves the sessions of a task by repeating what is said, word by word.
//
//     npx tsx worker.ts my-task
//
// With nothing to do for a second, a run waits without holding a place. `/hand-over` makes it hand the session to a new run,
// as for an upgrade; `/close` makes it close the session.
import { randomUUID } from "node:crypto";
import { type ClientDuplexStream, credentials, Metadata, type ServiceError } from "@grpc/grpc-js";
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
  WorkRequest,
  type WorkResponse,
  WorkerServiceClient,
} from "./gen/continuo/v1/worker_service.ts";

const KEY = process.env.CONTINUO_SECRET_KEY!;
const IDLE_MS = 1000;
const target = [new URL(process.env.CONTINUO_URL!).host, credentials.createInsecure()] as const;
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

/** A lease that is held, with the newest token for what its run does. */
type Held = { assignment: Assignment; lease: LeaseRef; token: string };

class Worker {
  #stream = workers.work(bearer(KEY));
  #held = new Map<string, Held>();

  #send(message: WorkRequest["message"]) {
    this.#stream.write(WorkRequest.fromPartial({ message }));
  }

  async work(task: string) {
    const hello = { workerId: randomUUID(), taskIdentifiers: [task], capacity: 10, version: "1", heldLeases: [] };
    this.#send({ $case: "hello", value: hello });
    for await (const { message } of this.#stream as AsyncIterable<WorkResponse>) {
      if (message?.$case === "welcome") setInterval(() => this.#beat(), message.value.heartbeatMs);
      if (message?.$case === "assignment") void this.#serve(message.value);
      if (message?.$case === "revoked") this.#held.delete(nameOf(message.value.lease!));
      if (message?.$case !== "renewed") continue;
      for (const { lease, runToken } of message.value.leases) {
        const held = this.#held.get(nameOf(lease!));
        if (held) held.token = runToken;
      }
    }
  }

  #beat() {
    this.#send({ $case: "heartbeat", value: { leases: [...this.#held.values()].map(({ lease }) => lease) } });
  }

  /** One lease of a run, from its assignment to its end. */
  async #serve(assignment: Assignment) {
    const run = assignment.run!;
    const lease = { runId: run.id, lease: assignment.lease };
    const held = { assignment, lease, token: assignment.runToken };
    this.#held.set(nameOf(lease), held);
    if (assignment.resumedBy) {
      report("resumed", { run: run.id });
    } else {
      report("took", { run: run.id, continuation: JSON.parse(run.payload).continuation ?? false });
      this.#send({ $case: "started", value: { lease } });
    }
    try {
      const output = await converse(held);
      if (output === undefined) this.#send({ $case: "suspended", value: { lease } });
      else this.#send({ $case: "completed", value: { lease, output: JSON.stringify(output), outputType: "" } });
    } catch (cause) {
      const { name, message } = cause as Error;
      this.#send({ $case: "failed", value: { lease, error: { name, message }, isFinal: false } });
    } finally {
      this.#held.delete(nameOf(lease));
    }
  }
}

/** Answers until the run is over; its output, or nothing where it was suspended. */
async function converse(held: Held) {
  const { id: run, sessionId: session } = held.assignment.run!;
  let nextSeqNum = held.assignment.inSeqNum;
  const attachment = new Attachment(session!, nextSeqNum, held.token);
  try {
    for (;;) {
      const record = await attachment.next();
      if (record === undefined) {
        if (!(await isSuspended(held, nextSeqNum))) continue;
        report("suspended", { run });
        return undefined;
      }
      nextSeqNum = record.seqNum + 1n;
      attachment.send({ $case: "readSeqNum", value: nextSeqNum });
      const said = new TextDecoder().decode(record.body);
      for (const word of said.split(" ")) attachment.append({ headers: [], body: Buffer.from(word) });
      attachment.append({ headers: turnComplete(record.seqNum), body: Buffer.alloc(0) });
      await attachment.flush();
      if (said === "/hand-over") {
        const request = EndAndContinueRequest.fromPartial({ session, callingRunId: run, reason: "upgrade" });
        const { runId: next } = await answerOf<EndAndContinueResponse>((done) =>
          sessions.endAndContinue(request, bearer(held.token), done),
        );
        report("handed over", { run, next });
        return "handed over";
      }
      if (said === "/close") {
        const request = CloseSessionRequest.fromPartial({ session, reason: "said so", callingRunId: run });
        await answerOf((done) => sessions.closeSession(request, bearer(KEY), done));
        report("closed", { run });
        return "closed";
      }
    }
  } finally {
    attachment.leave();
  }
}

/** Gives the place back until there is input; false if there is some already. */
async function isSuspended({ assignment, lease: { runId, lease }, token }: Held, nextSeqNum: bigint) {
  const lastSeqNum = nextSeqNum > 0n ? nextSeqNum - 1n : undefined;
  const session = assignment.session!.id;
  const wait = WaitOnChannelRequest.fromPartial({ runId, session, direction: Direction.DIRECTION_IN, lastSeqNum });
  const { waitpoint } = await answerOf<WaitOnChannelResponse>((done) => runs.waitOnChannel(wait, bearer(token), done));
  if (waitpoint!.completedAt) return false;
  const suspend = SuspendOnWaitpointRequest.fromPartial({ runId, waitpointId: waitpoint!.id, lease });
  await answerOf((done) => runs.suspendOnWaitpoint(suspend, bearer(token), done));
  return true;
}

/** The run's side of its session: what it appends goes to `.out`, and it reads `.in`. */
class Attachment {
  #stream: ClientDuplexStream<AttachRequest, AttachResponse>;
  #incoming: AsyncIterator<AttachResponse>;
  #inbox: Record[] = [];
  #pending = 0;

  constructor(session: string, nextSeqNum: bigint, token: string) {
    const start = { start: { $case: "seqNum", value: nextSeqNum } } as const;
    this.#stream = channels.attach(bearer(token));
    this.#incoming = this.#stream[Symbol.asyncIterator]();
    this.send({ $case: "open", value: AttachOpen.fromPartial({ session, start, heartbeatMs: IDLE_MS }) });
  }

  send(message: AttachRequest["message"]) {
    this.#stream.write(AttachRequest.fromPartial({ message }));
  }

  append(record: NewRecord) {
    this.#pending++;
    this.send({ $case: "append", value: ChannelAppend.fromPartial({ records: [record] }) });
  }

  /** Until everything appended is durable. */
  async flush() {
    while (this.#pending > 0) await this.#take();
  }

  /** The next message, or nothing once there was none for a while. */
  async next() {
    while (this.#inbox.length === 0) {
      if ((await this.#take()) === "heartbeat") return undefined;
    }
    return this.#inbox.shift();
  }

  async #take() {
    const { message } = (await this.#incoming.next()).value as AttachResponse;
    if (message?.$case === "ack") this.#pending--;
    if (message?.$case === "batch") this.#inbox.push(...message.value.records.filter((record) => !isCommand(record)));
    return message?.$case;
  }

  leave() {
    this.#stream.end();
  }
}

const nameOf = ({ runId, lease }: LeaseRef) => `${runId} ${lease}`;

/** A record with one header without a name is a command of the log itself. */
const isCommand = ({ headers }: Record) => headers.length === 1 && headers[0].name.length === 0;

const turnComplete = (inSeqNum: bigint) => [
  { name: Buffer.from("trigger-control"), value: Buffer.from("turn-complete") },
  { name: Buffer.from("session-in-event-id"), value: Buffer.from(`${inSeqNum}`) },
];

await new Worker().work(process.argv[2]);
