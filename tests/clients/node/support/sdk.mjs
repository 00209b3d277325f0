// The published SDK, pointed at the server under test and at nothing else.
for (const name of Object.keys(process.env)) {
  // A developer's own settings would win over the configuration below.
  if (name.startsWith("TRIGGER_") || name.startsWith("VERCEL_")) delete process.env[name];
}
const sdk = await import("@trigger.dev/sdk");
export const { auth, idempotencyKeys, metadata, runs, schedules, sessions, tags, tasks, wait } = sdk;

// Noted below the SDK, which retries what it takes for a passing failure.
const requests = [];
const send = globalThis.fetch;
globalThis.fetch = (input, init) => {
  requests.push(`${init?.method ?? input.method ?? "GET"} ${new URL(input.url ?? input).pathname}`);
  return send(input, init);
};

/** How many requests were sent while `fn` ran, and which; nothing else may run meanwhile. */
export async function requestsOf(fn) {
  const before = requests.length;
  const result = await fn();
  const lines = requests.slice(before);
  return { result, sent: lines.length, lines };
}

export function use(server) {
  sdk.configure({ baseURL: server.url, accessToken: server.key });
}

/** Runs `fn` with another credential, as a browser would with a public token. */
export const as = (server, accessToken, fn) => auth.withAuth({ baseURL: server.url, accessToken }, fn);

/** Reads `.out` until a turn is complete that answers the record `inSeqNum` or a later one. */
export async function readTurn(session, { inSeqNum = 0, lastEventId, timeoutInSeconds = 60 } = {}) {
  const abort = new AbortController();
  const turn = { chunks: [], ids: [], control: undefined };
  let failure;
  const stream = await sessions.open(session).out.read({
    signal: abort.signal,
    lastEventId,
    timeoutInSeconds,
    onPart: (part) => turn.ids.push(part.id),
    onError: (error) => (failure = error),
    onControl: (event) => {
      const answers = event.headers.find(([name]) => name === "session-in-event-id")?.[1];
      if (event.subtype !== "turn-complete" || answers === undefined || Number(answers) < inSeqNum) return;
      turn.control = event;
      abort.abort();
    },
  });
  for await (const chunk of stream) {
    if (turn.control === undefined) turn.chunks.push(chunk);
  }
  if (turn.control === undefined) throw failure ?? new Error(`no turn was completed; chunks: ${JSON.stringify(turn.chunks)}`);
  turn.text = turn.chunks.filter((chunk) => chunk.type === "text-delta").map((chunk) => chunk.delta).join("");
  return turn;
}

/** What a call failed with; a call that works is the failure here. */
export async function errorOf(promise) {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new Error("the call should have been refused");
}

let manager;

/**
 * Runs `fn` as code of this run does: the SDK knows where it is, and its metadata has a manager as in a worker. `fn` gets the
 * metadata API itself: the SDK takes hold of parent and root when it is loaded, in a worker after the manager.
 */
export async function insideRun(id, fn) {
  const [{ apiClientManager, runMetadata, taskContext }, { StandardMetadataManager }] = await Promise.all([
    import("@trigger.dev/core/v3"),
    import("@trigger.dev/core/v3/workers"),
  ]);
  const ctx = {
    run: { id, isTest: false, tags: [] },
    attempt: { number: 1 },
    ...Object.fromEntries(["task", "queue", "environment", "organization", "project"].map((name) => [name, { id: name }])),
  };
  if (manager === undefined) {
    // The SDK keeps the first one it is given.
    manager = new StandardMetadataManager(apiClientManager.clientOrThrow());
    runMetadata.setGlobalManager(manager);
  }
  manager.reset();
  manager.runId = id;
  taskContext.setGlobalTaskContext({ ctx, worker: { id: "w", contentHash: "h", version: "v1" } });
  try {
    return await fn(runMetadata);
  } finally {
    taskContext.setGlobalTaskContext(undefined);
  }
}
