// What the page holds of one channel: the entries in order, with the holes between them, and no more than it can bear.
import { signal } from "@preact/signals";
import { Direction, type Record as Stored } from "../gen/continuo/v1/channel_pb.ts";
import { type Channel, Follower, type From, between } from "./follower.ts";
import { type Entry, type Hole, entryOf } from "./record.ts";

const ENTRIES_MAX = 20_000;
const BYTES_MAX = 64 * 1024 * 1024;
/** Entries that are there at first, and that come with each step back. */
export const STEP = 500;

export type Row = Entry | Hole;
export const isHole = (row: Row): row is Hole => "from" in row;

export class Tape {
  rows: Row[] = [];
  /** Rises once per frame in which something changed. */
  readonly version = signal(0);
  /** How many rows went at the front, less those that were put there. */
  dropped = 0;
  /** Rises when entries were put in front: whoever listens begins anew. */
  readonly epoch = signal(0);
  readonly follower: Follower;
  #bytes = 0;
  #isDue = false;
  readonly #listeners = new Set<(entries: Entry[]) => void>();

  constructor(
    readonly channel: Channel,
    from: From = { back: STEP },
  ) {
    this.follower = new Follower(channel, from, {
      records: (records) => this.#add(records),
      gap: (requested, earliest) => {
        if (earliest > requested) this.#push({ from: requested, to: earliest - 1 });
      },
    });
  }

  get label(): string {
    return labelOf(this.channel);
  }

  stop(): void {
    this.follower.stop();
  }

  /** Is told of all entries there are, and of each further one. */
  listen(listener: (entries: Entry[]) => void): () => void {
    this.#listeners.add(listener);
    listener(this.rows.filter((row): row is Entry => !isHole(row)));
    return () => this.#listeners.delete(listener);
  }

  /** The first number there is; undefined while there is none. */
  get first(): number | undefined {
    const row = this.rows[0];
    return row && (isHole(row) ? row.from : row.seq);
  }

  /** Where a number stands, or would. */
  indexOf(seq: number): number {
    let low = 0;
    for (let high = this.rows.length; low < high;) {
      const middle = (low + high) >> 1;
      const row = this.rows[middle]!;
      if ((isHole(row) ? row.to : row.seq) < seq) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Puts what came before in front. False if there is nothing before it. */
  async back(signal: AbortSignal): Promise<boolean> {
    const first = this.first;
    if (!first) return false;
    const from = Math.max(0, first - STEP);
    const entries = (await between(this.channel, from, first, signal)).map(entryOf);
    if (this.first !== first) return true;
    const before: Row[] = [...entries];
    const start = entries[0]?.seq ?? first;
    if (start > from) before.unshift({ from: 0, to: start - 1 });
    this.rows = [...before, ...this.rows];
    this.dropped -= before.length;
    for (const { body } of entries) this.#bytes += body.length;
    this.epoch.value++;
    this.#due();
    return start > 0 && start === from;
  }

  #add(records: Stored[]): void {
    const entries = records.map(entryOf);
    for (const entry of entries) {
      const last = this.rows.at(-1);
      const next = last && (isHole(last) ? last.to : last.seq) + 1;
      if (next !== undefined && entry.seq < next) continue;
      if (next !== undefined && entry.seq > next) this.#push({ from: next, to: entry.seq - 1 });
      this.#push(entry);
      this.#bytes += entry.body.length;
    }
    if (this.rows.length > ENTRIES_MAX * 1.1 || this.#bytes > BYTES_MAX) this.#forget();
    for (const listener of this.#listeners) listener(entries);
  }

  #push(row: Row): void {
    this.rows.push(row);
    this.#due();
  }

  #forget(): void {
    let gone = Math.max(0, this.rows.length - ENTRIES_MAX);
    const weight = (row: Row) => (isHole(row) ? 0 : row.body.length);
    for (let i = 0; i < gone; i++) this.#bytes -= weight(this.rows[i]!);
    while (this.#bytes > BYTES_MAX && gone < this.rows.length - 1) this.#bytes -= weight(this.rows[gone++]!);
    this.rows = this.rows.slice(gone);
    this.dropped += gone;
  }

  #due(): void {
    if (this.#isDue) return;
    this.#isDue = true;
    requestAnimationFrame(() => {
      this.#isDue = false;
      this.version.value++;
    });
  }
}

export function labelOf({ name, direction }: { name: string; direction: Direction }): string {
  return `${name}${direction === Direction.IN ? ".in" : ".out"}`;
}
