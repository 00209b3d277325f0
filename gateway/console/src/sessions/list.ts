// The sessions that were fetched so far: older ones page by page, newer ones as they are made.
import { signal } from "@preact/signals";
import { isCanceled, sessions } from "../app/api.ts";
import { type Failure, failureOf } from "../app/failure.ts";
import { msOf } from "../app/format.ts";
import type { Session } from "../gen/continuo/v1/session_pb.ts";
import { filterOf } from "./filter.ts";

const PAGE = 100;
/** More new ones at once than so many pages, and the list begins anew. */
const CATCH_UP_PAGES = 20;

export class SessionList {
  rows: Session[] = [];
  dropped = 0;
  readonly version = signal(0);
  readonly total = signal<number | undefined>(undefined);
  readonly failure = signal<Failure | undefined>(undefined);
  /** The first page is there. */
  readonly isThere = signal(false);
  #places = new Map<string, Session>();
  #older: string | undefined = "";
  #isLoading = false;

  constructor(private readonly query: URLSearchParams) {}

  get isWhole(): boolean {
    return this.#older === undefined;
  }

  /** The next page of older ones. */
  async more(signal: AbortSignal): Promise<void> {
    if (this.#isLoading || this.#older === undefined) return;
    this.#isLoading = true;
    try {
      const page = await this.#page(this.#older, signal);
      for (const session of page.sessions) if (!this.#places.has(session.id)) this.rows.push(session);
      for (const session of page.sessions) this.#places.set(session.id, session);
      this.#older = page.nextPageToken || undefined;
      this.failure.value = undefined;
      this.isThere.value = true;
      this.version.value++;
    } catch (cause) {
      if (!isCanceled(cause)) this.failure.value = failureOf(cause);
    } finally {
      this.#isLoading = false;
    }
  }

  /** What was made, changed or taken away among the newest. */
  async refresh(signal: AbortSignal): Promise<void> {
    if (!this.isThere.value) return this.more(signal);
    const fresh: Session[] = [];
    for (let token = "", pages = 0; ; pages++) {
      if (pages === CATCH_UP_PAGES) return this.#anew(signal);
      const page = await this.#page(token, signal);
      fresh.push(...page.sessions);
      token = page.nextPageToken;
      if (token === "" || page.sessions.some(({ id }) => this.#places.has(id))) break;
    }
    this.failure.value = undefined;
    this.#merge(fresh);
  }

  async count(signal: AbortSignal): Promise<void> {
    const { count } = await sessions.countSessions({ filter: filterOf(this.query) }, { signal });
    this.total.value = Number(count);
  }

  #merge(fresh: Session[]): void {
    const ids = new Set(fresh.map(({ id }) => id));
    const last = fresh.at(-1);
    const end = last ? this.rows.findIndex(({ id }) => id === last.id) : -1;
    // Those of ours that lie within what was fetched and are not in it are gone, or do not match any longer.
    const older =
      end >= 0 ? this.rows.slice(end + 1) : this.rows.filter((row) => last !== undefined && isOlder(row, last));
    const isSame =
      older.length + fresh.length === this.rows.length && fresh.every((row, i) => equal(row, this.rows[i]!));
    if (isSame) return;
    this.dropped += this.rows.length - older.length - fresh.length;
    this.rows = [...fresh, ...older.filter(({ id }) => !ids.has(id))];
    this.#places = new Map(this.rows.map((row) => [row.id, row]));
    this.version.value++;
  }

  async #anew(signal: AbortSignal): Promise<void> {
    this.rows = [];
    this.#places.clear();
    this.#older = "";
    await this.more(signal);
  }

  #page(pageToken: string, signal: AbortSignal) {
    return sessions.listSessions({ filter: filterOf(this.query), pageSize: PAGE, pageToken }, { signal });
  }
}

const changed = (session: Session) =>
  `${session.id} ${msOf(session.updatedAt)} ${session.status} ${session.currentRunVersion}`;
const equal = (a: Session, b: Session) => changed(a) === changed(b);
const isOlder = (a: Session, b: Session) => (msOf(a.createdAt) ?? 0) < (msOf(b.createdAt) ?? 0);
