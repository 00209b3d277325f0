// A worker: serves the sessions of a task by repeating what is said, word by word.
//
//     npx tsx worker.ts my-task
//
// With nothing to do for a second, a run waits without holding a place. `/hand-over` makes it hand the session to a new run,
// as for an upgrade; `/close` makes it close the session.
import { randomUUID } from "node:crypto";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { Direction, type Record } from "./gen/continuo/v1/channel_pb.ts";
import { type AttachRequestSchema, type AttachResponse, ChannelService } from "./gen/continuo/v1/channel_service_pb.ts";
import { RunService } from "./gen/continuo/v1/run_service_pb.ts";
import { SessionService } from "./gen/continuo/v1/session_service_pb.ts";
import { type Assignment, type WorkRequestSchema, WorkerService } from "./gen/continuo/v1/worker_service_pb.ts";
import { Outgoing } from "./outgoing.ts";

type WorkMessage = MessageInitShape<typeof WorkRequestSchema>["message"];
type AttachMessage = MessageInitShape<typeof AttachRequestSchema>["message"];

const KEY = process.env.CONTINUO_SECRET_KEY!;
const IDLE_MS = 1000;
const transport = createGrpcTransport({ baseUrl: process.env.CONTINUO_URL! });
const runs = createClient(RunService, transport);

const report = (event: string, fields = {}) => console.log(JSON.stringify({ event, ...fields }));
const bearer = (token: string) => ({ headers: { authorization: `Bearer ${token}` } });
const bytes = (text: string) => new TextEncoder().encode(text);

/** A lease that is held, with the newest token for what its run does. */
type Held = { assignment: Assignment; lease: { runId: string; lease: bigint }; token: string };

class Worker {
  #outgoing = new Outgoing<{ message: WorkMessage }>();
  #held = new Map<string, Held>();

  #send(message: WorkMessage) {
    this.#outgoing.send({ message });
  }

  async work(task: string) {
    this.#send({ case: "hello", value: { workerId: randomUUID(), taskIdentifiers: [task], capacity: 10 } });
    for await (const { message } of createClient(WorkerService, transport).work(this.#outgoing, bearer(KEY))) {
      if (message.case === "welcome") setInterval(() => this.#beat(), message.value.heartbeatMs);
      if (message.case === "assignment") void this.#serve(message.value);
      if (message.case === "revoked") this.#held.delete(nameOf(message.value.lease!));
      if (message.case !== "renewed") continue;
      for (const { lease, runToken } of message.value.leases) {
        const held = this.#held.get(nameOf(lease!));
        if (held) held.token = runToken;
      }
    }
  }

  #beat() {
    this.#send({ case: "heartbeat", value: { leases: [...this.#held.values()].map(({ lease }) => lease) } });
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
      this.#send({ case: "started", value: { lease } });
    }
    try {
      const output = await converse(held);
      if (output === undefined) this.#send({ case: "suspended", value: { lease } });
      else this.#send({ case: "completed", value: { lease, output: JSON.stringify(output) } });
    } catch (cause) {
      const { name, message } = ConnectError.from(cause);
      this.#send({ case: "failed", value: { lease, error: { name, message } } });
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
      attachment.send({ case: "readSeqNum", value: nextSeqNum });
      const said = new TextDecoder().decode(record.body);
      for (const word of said.split(" ")) attachment.append({ body: bytes(word) });
      attachment.append({ headers: turnComplete(record.seqNum) });
      await attachment.flush();
      const sessions = createClient(SessionService, transport);
      if (said === "/hand-over") {
        const request = { session, callingRunId: run, reason: "upgrade" };
        const { runId: next } = await sessions.endAndContinue(request, bearer(held.token));
        report("handed over", { run, next });
        return "handed over";
      }
      if (said === "/close") {
        await sessions.closeSession({ session, reason: "said so", callingRunId: run }, bearer(KEY));
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
  const wait = { runId, session: assignment.session!.id, direction: Direction.IN, lastSeqNum };
  const { waitpoint } = await runs.waitOnChannel(wait, bearer(token));
  if (waitpoint!.completedAt) return false;
  await runs.suspendOnWaitpoint({ runId, waitpointId: waitpoint!.id, lease }, bearer(token));
  return true;
}

/** The run's side of its session: what it appends goes to `.out`, and it reads `.in`. */
class Attachment {
  #outgoing = new Outgoing<{ message: AttachMessage }>();
  #incoming: AsyncIterator<AttachResponse>;
  #inbox: Record[] = [];
  #pending = 0;

  constructor(session: string, nextSeqNum: bigint, token: string) {
    const start = { start: { case: "seqNum", value: nextSeqNum } } as const;
    this.send({ case: "open", value: { session, start, heartbeatMs: IDLE_MS } });
    const channels = createClient(ChannelService, transport);
    this.#incoming = channels.attach(this.#outgoing, bearer(token))[Symbol.asyncIterator]();
  }

  send(message: AttachMessage) {
    this.#outgoing.send({ message });
  }

  append(record: { body?: Uint8Array; headers?: { name: Uint8Array; value: Uint8Array }[] }) {
    this.#pending++;
    this.send({ case: "append", value: { records: [record] } });
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
    if (message.case === "ack") this.#pending--;
    if (message.case === "batch") this.#inbox.push(...message.value.records.filter((record) => !isCommand(record)));
    return message.case;
  }

  leave() {
    this.#outgoing.end();
  }
}

const nameOf = ({ runId, lease }: { runId: string; lease: bigint }) => `${runId} ${lease}`;

/** A record with one header without a name is a command of the log itself. */
const isCommand = ({ headers }: Record) => headers.length === 1 && headers[0].name.length === 0;

const turnComplete = (inSeqNum: bigint) => [
  { name: bytes("trigger-control"), value: bytes("turn-complete") },
  { name: bytes("session-in-event-id"), value: bytes(`${inSeqNum}`) },
];

await new Worker().work(process.argv[2]);
