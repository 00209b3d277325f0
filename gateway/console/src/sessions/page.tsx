// All sessions: filtered, live, as far back as one scrolls.
import { useSignal } from "@preact/signals";
import { useEffect, useMemo, useRef } from "preact/hooks";
import { isRootKey, onlySession } from "../app/key.ts";
import { count, msOf } from "../app/format.ts";
import { usePoll } from "../app/poll.ts";
import { go, href, route } from "../app/route.ts";
import { type Session } from "../gen/continuo/v1/session_pb.ts";
import { Ago, Empty, Note } from "../parts/basics.tsx";
import { isNarrow } from "../parts/media.ts";
import { VirtualList } from "../parts/virtual_list.tsx";
import { StatusPill } from "../session/status.tsx";
import { filterKey, isFiltered } from "./filter.ts";
import { Filters } from "./filters.tsx";
import { SessionList } from "./list.ts";

const REFRESH_MS = 2_000;
const COUNT_MS = 10_000;
/** Rows that are kept ready beyond what is seen. */
const AHEAD = 300;

export function SessionsPage() {
  const { query } = route.value;
  const key = filterKey(query);
  const list = useMemo(() => new SessionList(query), [key]);
  const over = useRef(new AbortController());
  useEffect(() => {
    over.current = new AbortController();
    const mine = over.current;
    return () => mine.abort();
  }, [list]);
  usePoll(REFRESH_MS, [list], (signal) => list.refresh(signal));
  usePoll(COUNT_MS, [list], (signal) => list.count(signal));
  const selected = useSignal<string | undefined>(undefined);

  list.version.value;
  const rowHeight = isNarrow.value ? 60 : 40;
  const { rows } = list;
  const failure = list.failure.value;
  const range = (_first: number, end: number) => {
    if (end > rows.length - AHEAD) void list.more(over.current.signal);
  };
  const at = selected.value === undefined ? -1 : rows.findIndex(({ id }) => id === selected.value);
  const open = (index: number) => go(["sessions", nameOf(rows[index]!)]);
  const mine = onlySession();

  return (
    <main class="page sessions">
      <div class="head">
        <h1>Sessions</h1>
        <span class="faint" aria-live="polite">
          {list.total.value !== undefined && `${count(list.total.value)} ${isFiltered(query) ? "match" : "in all"}`}
        </span>
        <span class="grow" />
        {isRootKey() && (
          <a class="button" href={href(["playground"])}>
            Try the demo agent
          </a>
        )}
      </div>
      <Filters />
      {failure && failure.reason === "PERMISSION_DENIED" && mine ? (
        <Empty title="This token sees one session">
          <a href={href(["sessions", mine])}>Open {mine}</a>
        </Empty>
      ) : (
        failure && <Note failure={failure} onRetry={() => void list.more(over.current.signal)} />
      )}
      {rows.length > 0 ? (
        <>
          <div class="session-row session-heads" aria-hidden="true">
            <span>Status</span>
            <span>Name</span>
            <span>Task</span>
            <span>Type</span>
            <span>Tags</span>
            <span class="right">Run</span>
            <span class="right">Created</span>
          </div>
          <VirtualList
            key={key}
            label="Sessions"
            count={rows.length}
            rowHeight={rowHeight}
            dropped={list.dropped}
            pinsTop
            onRange={range}
            selected={at < 0 ? undefined : at}
            onSelect={(index) => (selected.value = rows[index]!.id)}
            onOpen={open}
            row={(index, slot) => <Row key={slot} session={rows[index]!} isSelected={index === at} />}
          />
        </>
      ) : (
        !failure && <Nothing isThere={list.isThere.value} isFiltered={isFiltered(query)} />
      )}
    </main>
  );
}

/** The name a person gave, else the id. */
export const nameOf = (session: Session) => session.externalId ?? session.id;

function Row({ session, isSelected }: { session: Session; isSelected: boolean }) {
  const { tags } = session;
  return (
    <div role="listitem" class="session-row" aria-current={isSelected || undefined}>
      <span class="cell-status">
        <StatusPill session={session} />
      </span>
      <a class="name" href={href(["sessions", nameOf(session)])} title={nameOf(session)}>
        {nameOf(session)}
      </a>
      <span class="cell-task">{session.taskIdentifier}</span>
      <span class="cell-type">{session.type}</span>
      <span class="cell-tags">
        {tags.slice(0, 3).map((tag) => (
          <span class="chip" key={tag} title={tag}>
            {tag}
          </span>
        ))}
        {tags.length > 3 && <span class="faint">+{tags.length - 3}</span>}
      </span>
      <span class="cell-run right">v{String(session.currentRunVersion)}</span>
      <span class="cell-at right">
        <Ago ms={msOf(session.createdAt) ?? 0} />
      </span>
    </div>
  );
}

function Nothing({ isThere, isFiltered }: { isThere: boolean; isFiltered: boolean }) {
  if (!isThere) return <Empty title="Reading…" />;
  if (isFiltered) {
    return (
      <Empty title="No session matches">
        <a href={href(["sessions"])}>Show all</a>
      </Empty>
    );
  }
  return (
    <Empty title="No sessions yet">
      <p>A session is one name with two durable channels and many runs over time.</p>
      <a href={href(["playground"])}>Talk to the demo agent</a> ·{" "}
      <a href={href(["docs", "readme"])}>Read how to begin</a>
    </Empty>
  );
}
