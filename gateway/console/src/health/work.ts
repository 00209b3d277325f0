// Who works and what waits: the connected workers, and the queues with the runs that are not over.
import { type Signal, effect, signal } from "@preact/signals";
import { isCanceled, runs, workers } from "../app/api.ts";
import { type Failure, failureOf } from "../app/failure.ts";
import { holder } from "../app/key.ts";
import type { Queue } from "../gen/continuo/v1/run_service_pb.ts";
import type { Worker } from "../gen/continuo/v1/worker_service_pb.ts";
import { load, point } from "./probes.ts";

/** Most of each that are asked for; beyond it the page says that there are more. */
const ASKED_MAX = 1_000;

/** What the server said last, and why it says no more. */
export interface Seen<T> {
  rows?: T[];
  isMore: boolean;
  at: number;
  failure?: Failure;
}

const nothing = { isMore: false, at: 0 };
export const seenWorkers = signal<Seen<Worker>>(nothing);
export const seenQueues = signal<Seen<Queue>>(nothing);

/** Of another environment nothing is shown. */
let environment: string | undefined;
effect(() => {
  const { environmentId } = holder.value ?? {};
  if (environmentId === environment) return;
  environment = environmentId;
  seenWorkers.value = seenQueues.value = nothing;
});

export async function lookAtWork(over: AbortSignal): Promise<void> {
  await Promise.all([
    look(seenWorkers, async () => {
      const page = await workers.listWorkers({ pageSize: ASKED_MAX }, { signal: over });
      return { rows: page.workers, isMore: page.nextPageToken !== "", at: Date.now() };
    }),
    look(seenQueues, async () => {
      const page = await runs.listQueues({ limit: ASKED_MAX }, { signal: over });
      return { rows: page.queues, isMore: page.hasMore, at: Date.now() };
    }).then((isThere) => {
      if (over.aborted) return;
      const of = (count: (queue: Queue) => bigint) => (isThere ? sum(seenQueues.value.rows ?? [], count) : null);
      point(load, [of(({ pending }) => pending), of(({ executing }) => executing)]);
    }),
  ]);
}

async function look<T>(into: Signal<Seen<T>>, ask: () => Promise<Seen<T>>): Promise<boolean> {
  try {
    into.value = await ask();
    return true;
  } catch (cause) {
    if (!isCanceled(cause)) into.value = { ...into.value, failure: failureOf(cause) };
    return false;
  }
}

export const sum = (queues: Queue[], count: (queue: Queue) => bigint) =>
  queues.reduce((all, queue) => all + Number(count(queue)), 0);
