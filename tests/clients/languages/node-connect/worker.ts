// A worker: serves the sessions of a task by repeating what is said, word by word.
//
//     npx tsx worker.ts my-task
//
// With nothing to do for a second, a run waits without holding a place. `/hand-over` makes it hand the session to a new run,
// as for an upgrade; `/close` makes it close the session. The loop in `work_loop.ts` keeps the leases, comes back when the
// network breaks or the server restarts, and asks again for what was left open.
import { ConnectError } from "@connectrpc/connect";
import { bearer, bytes, errorInfo, KEY, type RunContext, report, sessions, work } from "./work_loop.ts";

/** Called for a fresh run, and again whenever a run that waited goes on; its output, or nothing where it was suspended. */
async function echo(run: RunContext) {
  if (run.isResumed) report("resumed", { run: run.id });
  else report("took", { run: run.id, continuation: JSON.parse(run.payload).continuation ?? false });
  let nextSeqNum = run.inSeqNum;
  for (;;) {
    const record = await run.next();
    if (record === undefined) {
      // Nothing more is there: give the place back, and be called again when there is.
      if (!(await run.waitForInput(nextSeqNum))) continue;
      report("suspended", { run: run.id });
      return undefined;
    }
    nextSeqNum = record.seqNum + 1n;
    const said = new TextDecoder().decode(record.body);
    for (const word of said.split(" ")) run.append({ body: bytes(word) });
    run.turnComplete(record.seqNum);
    await run.flush();
    if (said === "/hand-over") {
      report("handed over", { run: run.id, next: await run.endAndContinue("upgrade") });
      return "handed over";
    }
    if (said === "/close") {
      await close(run);
      report("closed", { run: run.id });
      return "closed";
    }
  }
}

/** A run may not close its session, whoever holds the key may. */
async function close(run: RunContext) {
  const request = { session: run.session, reason: "said so", callingRunId: run.id };
  await run.persist(() => sessions.closeSession(request, bearer(KEY)));
}

try {
  await work(process.argv[2], echo);
} catch (cause) {
  const error = ConnectError.from(cause);
  const info = errorInfo(error);
  report("refused", { code: error.code, reason: info?.reason, metadata: info?.metadata ?? {} });
  process.exit(1);
}
