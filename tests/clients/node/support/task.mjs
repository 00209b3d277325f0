// Tasks of the SDK, run as its own runner runs them: a worker takes the run, the SDK's executor executes it.
import "@trigger.dev/sdk/ai/test"; // A catalog that tasks can register in; before any task is defined.
import { resourceCatalog } from "@trigger.dev/core/v3";
import { TriggerTracer } from "@trigger.dev/core/v3/tracer";
import { ConsoleInterceptor, TaskExecutor } from "@trigger.dev/core/v3/workers";
import { auth } from "./sdk.mjs";
import { insideNextRun } from "./run-context.mjs";
import { Worker } from "./worker.mjs";

/** Runs of these tasks, one at a time and each when the test says so. */
export class Runner {
  static async start(server, ...tasks) {
    return new Runner(server, await Worker.start(server, tasks.map(({ id }) => id)));
  }

  constructor(server, worker) {
    this.server = server;
    this.worker = worker;
  }

  /**
   * Takes this session's next run and executes it to its end: `{ assignment, output }`, or throws what it failed with.
   * `abort` on the promise ends it from outside. Options as of `insideNextRun`.
   */
  next(session, options) {
    const abort = new AbortController();
    const inRun = (inside) => asInProcess(this.server, () => execute(inside, abort.signal));
    const run = insideNextRun(this.server, this.#workerOf(session), inRun, options);
    run.abort = () => abort.abort();
    run.catch(() => {}).then(() => (run.isOver = true));
    return run;
  }

  /** The worker, for one session only: what boots for the conversations of other tests has nothing to do any more. */
  #workerOf(session) {
    const { worker } = this;
    const take = async () => {
      for (;;) {
        const assignment = await worker.take();
        if (assignment.session.external_id === session) return assignment;
        worker.complete(assignment);
      }
    };
    const [onResume, complete, fail] = ["onResume", "complete", "fail"].map((name) => worker[name].bind(worker));
    return { take, onResume, complete, fail };
  }

  stop() {
    return this.worker.stop();
  }
}

/** With the credentials of the environment, as in a process that runs tasks only, and not with those of the test. */
const asInProcess = ({ url }, fn) => auth.withAuth({ baseURL: url, accessToken: undefined }, fn);

async function execute({ assignment, ctx }, signal) {
  const { run, attempt_number: number } = assignment;
  const executor = new TaskExecutor(resourceCatalog.getTask(run.task_identifier), {
    tracer: new TriggerTracer({ name: "test", version: "1" }),
    consoleInterceptor: new ConsoleInterceptor(undefined, false, true),
    isWarmStart: false,
    retries: { enabledInDev: false },
  });
  const execution = {
    run: { id: run.id, payload: run.payload, payloadType: "application/json", metadata: undefined },
    attempt: { number },
  };
  const { result } = await executor.execute(execution, ctx, signal);
  if (!result.ok) throw new Error(result.error.message ?? JSON.stringify(result.error));
  return result.output === undefined ? undefined : JSON.parse(result.output);
}
