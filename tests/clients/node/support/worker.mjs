// A worker over gRPC: it takes runs, keeps their leases and says what became of them.
import { randomUUID } from "node:crypto";
import { fileURLToPath } from "node:url";
import { credentials, loadPackageDefinition, Metadata } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

const PROTO = fileURLToPath(new URL("../../../../proto", import.meta.url));
const WAIT_MS_MAX = 30_000;

const OPTIONS = { includeDirs: [PROTO], keepCase: true, defaults: true, longs: Number, oneofs: true };
const { continuo } = loadPackageDefinition(loadSync("continuo/v1/worker_service.proto", OPTIONS));

export class Worker {
  #stream;
  #client;
  #leases = new Map();
  #resumed = new Map();
  #waiting = [];
  #unclaimed = [];
  #pulse;
  #failure;
  #stopped;

  /** A worker for these tasks; without any it makes up one that nobody else knows. `more` is what it says of itself besides. */
  static async start(server, tasks = [`task-${randomUUID()}`], more = {}) {
    const worker = new Worker(server, tasks, more);
    const { welcome } = await worker.#next((message) => message.welcome, "a welcome");
    worker.#pulse = setInterval(() => worker.#beat(), welcome.heartbeat_ms).unref();
    return worker;
  }

  constructor(server, tasks, more) {
    this.tasks = tasks;
    this.task = tasks[0];
    this.#client = new continuo.v1.WorkerService(new URL(server.url).host, credentials.createInsecure());
    const metadata = new Metadata();
    metadata.set("authorization", `Bearer ${server.key}`);
    this.#stream = this.#client.Work(metadata);
    this.#stream.on("data", (message) => this.#take(message));
    this.#stream.on("error", (error) => this.#giveUp(error));
    this.#stream.on("end", () => this.#giveUp(new Error("the server ended the worker's stream")));
    const hello = { worker_id: randomUUID(), task_identifiers: tasks, capacity: 8, version: "1", ...more };
    this.#stream.write({ hello });
  }

  /** The next run for this worker, begun. */
  async take() {
    const { assignment } = await this.#next((message) => message.assignment, "a run");
    const lease = leaseOf(assignment);
    this.#stream.write({ started: { lease } });
    // The server takes one after the other: a lease that is renewed now has begun.
    this.#stream.write({ heartbeat: { leases: [lease] } });
    await this.#next(({ renewed }) => renewed?.leases.some((one) => isSame(one.lease, lease)), `${lease.run_id} to begin`);
    return assignment;
  }

  /** The run that was suspended goes on: `fn` gets the new assignment, whose `resumed_by` is the complete waitpoint. */
  onResume(assignment, fn) {
    this.#resumed.set(assignment.run.id, fn);
  }

  /** Why the run's lease is over. */
  async revoked(assignment) {
    const isIt = ({ revoked }) => revoked && isSame(revoked.lease, leaseOf(assignment));
    return (await this.#next(isIt, `the end of ${assignment.run.id}'s lease`)).revoked.reason;
  }

  /** The run is asked to end by itself. */
  async stopped(assignment) {
    await this.#next(({ stop }) => stop && isSame(stop.lease, leaseOf(assignment)), `${assignment.run.id} to be asked to stop`);
  }

  hasRead(assignment, count) {
    this.#stream.write({ read_position: { lease: leaseOf(assignment), seq_num: count } });
  }

  complete(assignment, output) {
    this.#leases.delete(assignment.run.id);
    const report = { lease: leaseOf(assignment), ...(output === undefined ? {} : { output: JSON.stringify(output) }) };
    this.#stream.write({ completed: report });
  }

  fail(assignment, { name = "Error", message = "" } = {}) {
    this.#leases.delete(assignment.run.id);
    this.#stream.write({ failed: { lease: leaseOf(assignment), error: { name, message }, is_final: true } });
  }

  /** Takes no more. */
  drain() {
    this.#stream.write({ drain: {} });
  }

  /** Goes away; what it reported before is still sent. */
  stop() {
    return (this.#stopped ??= this.#stop());
  }

  async #stop() {
    clearInterval(this.#pulse);
    this.#failure ??= new Error("the worker was stopped");
    const ended = new Promise((resolve) => this.#stream.once("close", resolve).once("end", resolve).once("error", resolve));
    this.#stream.end();
    await ended;
    this.#client.close();
  }

  #beat() {
    this.#stream.write({ heartbeat: { leases: [...this.#leases.values()] } });
  }

  #take(message) {
    const { assignment, renewed, revoked } = message;
    if (assignment) this.#leases.set(assignment.run.id, leaseOf(assignment));
    if (revoked && isSame(revoked.lease, this.#leases.get(revoked.lease.run_id))) this.#leases.delete(revoked.lease.run_id);
    if (assignment?.resumed_by) return void this.#resumed.get(assignment.run.id)?.(assignment);
    const at = this.#waiting.findIndex(({ isIt }) => isIt(message));
    if (at < 0 && !renewed) this.#unclaimed.push(message);
    else if (at >= 0) this.#waiting.splice(at, 1)[0].resolve(message);
  }

  #next(isIt, what) {
    const at = this.#unclaimed.findIndex(isIt);
    if (at >= 0) return Promise.resolve(this.#unclaimed.splice(at, 1)[0]);
    if (this.#failure) return Promise.reject(this.#failure);
    return new Promise((resolve, reject) => {
      const late = setTimeout(() => reject(new Error(`waited in vain for ${what}`)), WAIT_MS_MAX);
      const settle = (fn) => (value) => (clearTimeout(late), fn(value));
      this.#waiting.push({ isIt, resolve: settle(resolve), reject: settle(reject) });
    });
  }

  #giveUp(error) {
    this.#failure ??= error;
    for (const { reject } of this.#waiting.splice(0)) reject(this.#failure);
  }
}

const leaseOf = ({ run, lease }) => ({ run_id: run.id, lease });
const isSame = (one, other) => one.run_id === other?.run_id && one.lease === other.lease;
