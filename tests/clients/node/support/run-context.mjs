// The inside of a run: a worker takes it, and the SDK's own managers are set up as its runner sets them up, so that
// `wait`, `metadata`, `session.in.wait` and the like do here what they do in a task.
import {
  apiClientManager,
  lifecycleHooks,
  localsAPI,
  resourceCatalog,
  runMetadata,
  runtime,
  sessionStreams,
  taskContext,
  waitUntil,
} from "@trigger.dev/core/v3";
import {
  SharedRuntimeManager,
  StandardLifecycleHooksManager,
  StandardLocalsManager,
  StandardMetadataManager,
  StandardResourceCatalog,
  StandardSessionStreamManager,
  StandardWaitUntilManager,
} from "@trigger.dev/core/v3/workers";
import { Worker } from "./worker.mjs";

let managers;

/**
 * Points the SDK at the server by the environment alone, as a runner does, and sets its managers up, once per process.
 * `key` is the secret key, `run` the token of the run.
 */
export function enterProcess(server, { key = server.key, run } = {}) {
  process.env.TRIGGER_API_URL = server.url;
  process.env.TRIGGER_SECRET_KEY = key;
  if (run === undefined) delete process.env.TRIGGER_RUN_TOKEN;
  else process.env.TRIGGER_RUN_TOKEN = run;
  managers ??= setUp(server.url);
  return managers;
}

function setUp(url) {
  const client = apiClientManager.clientOrThrow();
  const made = {
    metadata: new StandardMetadataManager(client),
    streams: new StandardSessionStreamManager(client, url),
    runtime: withoutClock(() => new SharedRuntimeManager({ send() {} }, false)),
    locals: new StandardLocalsManager(),
    hooks: new StandardLifecycleHooksManager(),
    waitUntil: new StandardWaitUntilManager(),
  };
  runMetadata.setGlobalManager(made.metadata);
  sessionStreams.setGlobalManager(made.streams);
  runtime.setGlobalRuntimeManager(made.runtime);
  localsAPI.setGlobalLocalsManager(made.locals);
  lifecycleHooks.setGlobalLifecycleHooksManager(made.hooks);
  waitUntil.setGlobalManager(made.waitUntil);
  resourceCatalog.setGlobalResourceCatalog(new StandardResourceCatalog());
  return made;
}

/** The runtime manager logs on a clock, which would keep a finished test process alive. */
function withoutClock(make) {
  const { setInterval } = globalThis;
  globalThis.setInterval = (...call) => setInterval(...call).unref();
  try {
    return make();
  } finally {
    globalThis.setInterval = setInterval;
  }
}

/**
 * Takes the worker's next run and calls `fn` inside it, then reports what came of it: `{ assignment, output }`, or throws
 * what `fn` threw. The SDK has what {@link CREDENTIALS} says. One run at a time in a process.
 */
export async function insideNextRun(server, worker, fn, { credentials = "run and key" } = {}) {
  const assignment = await worker.take();
  const enter = (at) => enterProcess(server, CREDENTIALS[credentials](server, at));
  const { metadata, streams, runtime: waits, locals, hooks } = enter(assignment);
  taskContext.setGlobalTaskContext({ ctx: contextOf(assignment), worker: WORKER, isWarmStart: false });
  metadata.runId = assignment.run.id;
  if (assignment.run.metadata_json) metadata.enterWithMetadata(JSON.parse(assignment.run.metadata_json));
  const current = { assignment };
  worker.onResume(assignment, (resumed) => {
    current.assignment = resumed;
    enter(resumed);
    return waits.resolveWaitpoints([completed(resumed.resumed_by)]);
  });
  try {
    const output = await fn({ assignment, ctx: taskContext.ctx, session: assignment.session });
    await metadata.flush();
    worker.complete(current.assignment, output);
    return { assignment, output };
  } catch (error) {
    worker.fail(current.assignment, error);
    throw error;
  } finally {
    streams.reset();
    metadata.reset();
    waits.reset();
    locals.reset();
    hooks.reset();
    taskContext.setGlobalTaskContext(undefined);
    enterProcess(server);
  }
}

/** A session of its own with a run of its own, and `fn` inside that run; see {@link insideNextRun}. */
export async function insideSession(server, client, fn, { body = {}, ...options } = {}) {
  const worker = await Worker.start(server);
  try {
    const session = await client.createSession({ taskIdentifier: worker.task, ...body });
    return await insideNextRun(server, worker, (inside) => fn({ ...inside, created: session, worker }), options);
  } finally {
    await worker.stop();
  }
}

/** What a run may be given: both, of which the SDK prefers the run's token; the key alone; or nothing but its own token. */
const CREDENTIALS = {
  "run and key": ({ key }, { sdk_run_token: run }) => ({ key, run }),
  key: ({ key }) => ({ key }),
  run: (_, { run_token: key }) => ({ key }),
};

const WORKER = { id: "worker_test", version: "1", contentHash: "0", engine: "V2" };

function contextOf({ run, session, attempt_number }) {
  const slug = { id: "test", slug: "test", name: "Test" };
  return {
    attempt: { number: attempt_number, startedAt: new Date() },
    run: {
      id: run.id,
      tags: run.tags,
      isTest: run.is_test,
      isReplay: false,
      createdAt: new Date(run.created_at.seconds * 1000),
      startedAt: new Date(),
    },
    task: { id: run.task_identifier, filePath: "test.ts" },
    queue: { id: "queue", name: `task/${run.task_identifier}` },
    environment: { id: session?.environment_id ?? "env", slug: "dev", type: "DEVELOPMENT" },
    organization: slug,
    project: { ...slug, ref: "test" },
  };
}

/** What wakes the SDK, in the runtime's words. */
const completed = (waitpoint) => ({
  id: waitpoint.id,
  friendlyId: waitpoint.id,
  type: waitpoint.kind,
  completedAt: new Date(waitpoint.completed_at.seconds * 1000),
  output: waitpoint.output,
  outputType: waitpoint.output_type,
  outputIsError: waitpoint.output_is_error,
  ...(waitpoint.awaited_run_id && { completedByTaskRun: { id: waitpoint.awaited_run_id, friendlyId: waitpoint.awaited_run_id } }),
});
