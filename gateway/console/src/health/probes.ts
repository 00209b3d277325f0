// How the server does, as this page measures it: the way there and back is part of every time.
import { signal } from "@preact/signals";
import { channels, isCanceled, runs, sessions, tokens } from "../app/api.ts";
import { isKey } from "../app/key.ts";
import { Direction } from "../gen/continuo/v1/channel_pb.ts";
import type { Run } from "../gen/continuo/v1/session_pb.ts";
import { LIVE } from "../session/status.tsx";

/** Points that a plot keeps: five minutes at one in two seconds. */
const POINTS_MAX = 150;
const PAGE = 100;

/** Times in seconds since the epoch, values in milliseconds; a call that failed leaves a gap. */
export interface Series {
  name: string;
  what: string;
  times: number[];
  values: (number | null)[];
}

const series = (name: string, what: string) => signal<Series>({ name, what, times: [], values: [] });

export const latencies = {
  key: series("Authentication", "Authenticate: the key is looked up"),
  database: series("Database", "ListSessions: one row"),
  log: series("Channel log", "CheckTail of the newest session's .out"),
  index: series("Replication", "ListSessions that waits until the index has all there is now"),
};

export const readiness = signal<{ isReady: boolean; text: string } | undefined>(undefined);

export interface Work {
  byStatus: { status: string; count: number; isMore: boolean }[];
  byQueue: { queue: string; waiting: number; executing: number }[];
}
export const work = signal<Work | undefined>(undefined);

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
  if (hasIndex) await measured(latencies.index, over, () => sessions.listSessions({ pageSize: 1, waitAsOf: "now" }, { signal: over }));
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

async function measured(into: typeof latencies.key, over: AbortSignal, call: () => Promise<unknown>): Promise<void> {
  const begin = performance.now();
  const took = await call().then(
    () => performance.now() - begin,
    (cause) => {
      if (isCanceled(cause)) throw cause;
      return null;
    },
  );
  if (over.aborted) return;
  const { times, values } = into.value;
  into.value = {
    ...into.value,
    times: [...times, Date.now() / 1000].slice(-POINTS_MAX),
    values: [...values, took].slice(-POINTS_MAX),
  };
}

export async function lookAtWork(over: AbortSignal): Promise<void> {
  const pages = await Promise.all(
    LIVE.map((status) => runs.listRuns({ statuses: [status], pageSize: PAGE }, { signal: over })),
  );
  const byStatus = pages.map(({ runs, nextPageToken }, i) => ({
    status: LIVE[i]!,
    count: runs.length,
    isMore: nextPageToken !== "",
  }));
  work.value = { byStatus, byQueue: queues(pages.flatMap(({ runs }) => runs)) };
}

function queues(live: Run[]): Work["byQueue"] {
  const found = new Map<string, Work["byQueue"][number]>();
  for (const { queue, status } of live) {
    const row = found.get(queue) ?? { queue, waiting: 0, executing: 0 };
    if (status === "EXECUTING") row.executing++;
    else if (status !== "WAITING") row.waiting++;
    found.set(queue, row);
  }
  return [...found.values()].sort((a, b) => b.waiting - a.waiting || b.executing - a.executing);
}

/** The value that so many of a hundred do not pass. */
export function percentile(values: (number | null)[], share: number): number | undefined {
  const sorted = values.filter((value) => value !== null).sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
}
