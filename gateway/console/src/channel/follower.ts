// Follows one channel: replays, stays, and after any interruption goes on exactly after the last number it has.
import { Code, ConnectError } from "@connectrpc/connect";
import { signal } from "@preact/signals";
import { channels, isAway, observe } from "../app/api.ts";
import { type Failure, failureOf, reasonOf } from "../app/failure.ts";
import { key, refused } from "../app/key.ts";
import { pause } from "../app/poll.ts";
import type { Direction, Record as Stored } from "../gen/continuo/v1/channel_pb.ts";
import type { ReadResponse } from "../gen/continuo/v1/channel_service_pb.ts";

const HEARTBEAT_MS = 5_000;
/** So many heartbeats may fail to come before the connection is taken for dead. */
const MISSED_MAX = 3;
const PAUSE_MS_MIN = 250;
const PAUSE_MS_MAX = 5_000;

export interface Channel {
  session: string;
  name: string;
  direction: Direction;
}

export type From = { seq: number } | { back: number };

export type State =
  { is: "connecting" | "live" | "paused" } | { is: "waiting"; why: Failure } | { is: "refused"; why: Failure };

/** What is told to whoever follows. */
export interface Listener {
  records(records: Stored[]): void;
  gap(requested: number, earliest: number): void;
}

export class Follower {
  readonly state = signal<State>({ is: "connecting" });
  readonly tail = signal<number | undefined>(undefined);
  #next: number | undefined;
  /** The key that the open connection was made with. */
  #used = "";
  /** It was refused and asks no more by itself. */
  #isIdle = false;
  readonly #over = new AbortController();

  constructor(
    readonly channel: Channel,
    private readonly from: From,
    private readonly listener: Listener,
  ) {
    void this.#run();
  }

  stop(): void {
    this.#over.abort();
  }

  /** Tries again after a refusal, from the number after the last one there is. */
  goOn(): void {
    if (!this.#isIdle) return;
    this.#isIdle = false;
    this.state.value = { is: "connecting" };
    void this.#run();
  }

  async #run(): Promise<void> {
    const over = this.#over.signal;
    for (let wait = PAUSE_MS_MIN; !over.aborted;) {
      if (document.hidden || refused.value) {
        this.state.value = { is: "paused" };
        await pause(200, over);
        continue;
      }
      const before = this.#next;
      const why = await this.#read(over).then(
        () => undefined,
        (cause: unknown) => cause,
      );
      if (over.aborted) return;
      if (this.#next !== before || why === undefined) wait = PAUSE_MS_MIN;
      if (why !== undefined && !this.#mayTryAgain(why)) return void (this.#isIdle = true);
      await pause(wait, over);
      wait = Math.min(wait * 2, PAUSE_MS_MAX);
    }
  }

  #mayTryAgain(cause: unknown): boolean {
    const { code } = ConnectError.from(cause);
    // Nobody looks, or the watch found the connection dead.
    if (code === Code.Canceled) return true;
    observe(cause, `Bearer ${this.#used}`);
    // The next connection is made with another key.
    if (code === Code.Unauthenticated) return true;
    if (isAway(cause) || failureOf(cause).isPassing) {
      this.state.value = { is: "waiting", why: failureOf(cause) };
      return true;
    }
    this.state.value = { is: "refused", why: failureOf(cause) };
    return reasonOf(cause) === "INTERNAL";
  }

  /** One connection. It ends when the page is hidden: a browser has six to a server without TLS, for all its tabs. */
  async #read(over: AbortSignal): Promise<void> {
    const connection = new AbortController();
    this.#used = key.value;
    const end = () => connection.abort();
    const hidden = () => document.hidden && end();
    let dog = setTimeout(end, HEARTBEAT_MS * MISSED_MAX);
    over.addEventListener("abort", end);
    document.addEventListener("visibilitychange", hidden);
    try {
      if (this.state.value.is !== "waiting") this.state.value = { is: "connecting" };
      for await (const answer of channels.read(this.#request(), { signal: connection.signal })) {
        clearTimeout(dog);
        dog = setTimeout(end, HEARTBEAT_MS * MISSED_MAX);
        if (over.aborted) return;
        if (this.state.value.is !== "live") this.state.value = { is: "live" };
        this.#take(answer);
      }
    } finally {
      clearTimeout(dog);
      over.removeEventListener("abort", end);
      document.removeEventListener("visibilitychange", hidden);
    }
  }

  #request() {
    const { from } = this;
    const seqNum = this.#next ?? ("seq" in from ? from.seq : undefined);
    const start =
      seqNum !== undefined
        ? { case: "seqNum" as const, value: BigInt(seqNum) }
        : { case: "tailOffset" as const, value: BigInt("back" in from ? from.back : 0) };
    // A number somebody typed may lie past the tail; one this page has seen may not.
    const clamp = this.#next === undefined;
    return { channel: this.channel, start: { start, clamp }, heartbeatMs: HEARTBEAT_MS };
  }

  #take({ event }: ReadResponse): void {
    if (event.case === "gap") {
      this.listener.gap(Number(event.value.requestedSeqNum), Number(event.value.earliestSeqNum));
      this.#next = Number(event.value.earliestSeqNum);
    } else if (event.case === "batch") {
      const { records, tail } = event.value;
      this.#tellOfTrimmed(Number(records[0]!.seqNum), Number(tail?.seqNum ?? 0));
      this.#next = Number(records.at(-1)!.seqNum) + 1;
      this.tail.value = Number(tail?.seqNum ?? this.#next);
      this.listener.records(records);
    } else if (event.case === "heartbeat") {
      this.tail.value = Number(event.value.tail?.seqNum ?? 0);
      this.#next ??= this.tail.value;
    }
  }

  /** A read that began so many records before the tail is not told of a gap, but begins later than it had to. */
  #tellOfTrimmed(first: number, tail: number): void {
    if (this.#next === undefined && "back" in this.from && first > Math.max(0, tail - this.from.back))
      this.listener.gap(0, first);
  }
}

/** The records from one number up to another that is there, or was. */
export async function between(channel: Channel, from: number, to: number, signal: AbortSignal): Promise<Stored[]> {
  const found: Stored[] = [];
  const start = { start: { case: "seqNum" as const, value: BigInt(from) }, clamp: true };
  for await (const { event } of channels.read({ channel, start }, { signal })) {
    if (event.case !== "batch") continue;
    found.push(...event.value.records.filter(({ seqNum }) => Number(seqNum) < to));
    if (Number(event.value.records.at(-1)!.seqNum) >= to - 1) break;
  }
  return found;
}
