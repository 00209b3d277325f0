// How the server does, as this page measures it: the way there and back is part of every time.
import { effect, signal } from "@preact/signals";
import { channels, isCanceled, sessions, tokens } from "../app/api.ts";
import { holder, isKey } from "../app/key.ts";
import { Direction } from "../gen/continuo/v1/channel_pb.ts";

/** What a plot keeps: five minutes at one point in two seconds. */
const POINTS_MAX = 150;
/** Between points further apart than this nobody looked, and the line is broken. */
const UNSEEN_S = 30;

/** Times in seconds since the epoch, and a line or two of values; a call that failed leaves a gap. */
export interface Series {
  name: string;
  what: string;
  times: number[];
  lines: (number | null)[][];
}

const series = (name: string, what: string, lines = 1) =>
  signal<Series>({ name, what, times: [], lines: Array.from({ length: lines }, () => []) });

export const latencies = {
  key: series("Authentication", "Authenticate: the key is looked up"),
  database: series("Database", "ListSessions: one row"),
  log: series("Channel log", "CheckTail of the newest session's .out"),
  index: series("Replication", "ListSessions that waits until the index has all there is now"),
};
export const load = series("Runs", "ListQueues: pending and executing runs of all queues", 2);

export const readiness = signal<{ isReady: boolean; text: string } | undefined>(undefined);

/** Of another environment nothing is shown. */
let environment: string | undefined;
effect(() => {
  const { environmentId } = holder.value ?? {};
  if (environmentId === environment) return;
  environment = environmentId;
  for (const all of [load, ...Object.values(latencies)]) {
    all.value = { ...all.peek(), times: [], lines: all.peek().lines.map(() => []) };
  }
});

export function point(into: typeof load, values: (number | null)[]): void {
  const { times, lines } = into.peek();
  const at = Date.now() / 1000;
  const last = times.at(-1);
  const isBroken = last !== undefined && at - last > UNSEEN_S;
  into.value = {
    ...into.peek(),
    times: [...times, ...(isBroken ? [last + 1] : []), at].slice(-POINTS_MAX),
    lines: lines.map((line, i) => [...line, ...(isBroken ? [null] : []), values[i] ?? null].slice(-POINTS_MAX)),
  };
}

export async function probe(over: AbortSignal): Promise<void> {
  await ready(over);
  await measured(latencies.key, over, () => tokens.authenticate({}, { signal: over }));
  if (!isKey()) return;
  let newest = "";
  // Where lists come from the database itself nothing is replicated, and there is nothing to wait for.
  let hasIndex = false;
  await measured(latencies.database, over, async () => {
    const page = await sessions.listSessions({ pageSize: 1 }, { signal: over });
    newest = page.sessions[0]?.id ?? "";
    hasIndex = page.asOf !== "";
  });
  const channel = { session: newest, name: "", direction: Direction.OUT };
  if (hasIndex)
    await measured(latencies.index, over, () =>
      sessions.listSessions({ pageSize: 1, waitAsOf: "now" }, { signal: over }),
    );
  if (newest) await measured(latencies.log, over, () => channels.checkTail({ channel }, { signal: over }));
}

async function ready(over: AbortSignal): Promise<void> {
  try {
    const answer = await fetch("/readyz", { signal: over });
    readiness.value = { isReady: answer.ok, text: (await answer.text()).slice(0, 300) };
  } catch {
    if (!over.aborted) readiness.value = { isReady: false, text: "no answer" };
  }
}

async function measured(into: typeof load, over: AbortSignal, call: () => Promise<unknown>): Promise<void> {
  const begin = performance.now();
  const took = await call().then(
    () => performance.now() - begin,
    (cause) => {
      if (isCanceled(cause)) throw cause;
      return null;
    },
  );
  if (!over.aborted) point(into, [took]);
}

/** The value that so many of a hundred do not pass. */
export function percentile(values: (number | null)[], share: number): number | undefined {
  const sorted = values.filter((value) => value !== null).sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
}
