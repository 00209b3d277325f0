// One session: its runs, its channels side by side, and the conversation they make.
import { useSignal } from "@preact/signals";
import { useEffect, useMemo } from "preact/hooks";
import { isKey } from "../app/key.ts";
import { fullTime, msOf } from "../app/format.ts";
import { usePoll } from "../app/poll.ts";
import { href, route, setQuery } from "../app/route.ts";
import type { Channel } from "../channel/follower.ts";
import { Pane } from "../channel/pane.tsx";
import type { Tape } from "../channel/tape.ts";
import { Conversation } from "../chat/conversation.tsx";
import type { Thread } from "../chat/thread.ts";
import { Direction } from "../gen/continuo/v1/channel_pb.ts";
import { type Session, SessionStatus } from "../gen/continuo/v1/session_pb.ts";
import { Ago, Empty, Note, Segments } from "../parts/basics.tsx";
import { isNarrow } from "../parts/media.ts";
import { About } from "./about.tsx";
import { Actions } from "./actions.tsx";
import { Channels } from "./channels.tsx";
import { Composer } from "./composer.tsx";
import { inOf, outOf } from "./send.ts";
import { StatusPill } from "./status.tsx";
import { SessionStore } from "./store.ts";
import { OPEN_MAX, useTapes, useThread } from "./tapes.ts";
import { Timeline } from "./timeline.tsx";

const REFRESH_MS = 2_000;
/** Named channels that are open beside the reserved pair. */
const NAMED_MAX = OPEN_MAX - 2;

type View = "records" | "chat" | "runs" | "about";
const WIDE_VIEWS = [
  ["records", "Records"],
  ["chat", "Chat"],
  ["about", "Details"],
] as const satisfies readonly (readonly [View, string])[];
const NARROW_VIEWS = [
  ["chat", "Chat"],
  ["records", "Records"],
  ["runs", "Runs"],
  ["about", "Details"],
] as const satisfies readonly (readonly [View, string])[];

export function SessionPage({ name }: { name: string }) {
  const store = useMemo(() => new SessionStore(name), [name]);
  usePoll(REFRESH_MS, [store], (signal) => store.refresh(signal));
  const session = store.session.value;
  const failure = store.failure.value;
  useEffect(() => {
    document.title = `${name} · continuo`;
    return () => void (document.title = "continuo");
  }, [name]);

  if (failure && !session && !failure.isPassing) {
    return (
      <main class="page session">
        <div class="head">
          <a class="crumb" href={href(["sessions"])} aria-label="All sessions">
            ←
          </a>
          <h1 title={name}>{name}</h1>
        </div>
        {failure.reason === "PERMISSION_DENIED" && !isKey() ? (
          <ChannelsAlone session={name} />
        ) : (
          <Note failure={failure} onRetry={() => void store.refresh()} />
        )}
      </main>
    );
  }
  return (
    <main class="page session">
      <Head store={store} name={name} />
      {store.refusal.value && <Note failure={store.refusal.value} />}
      {session ? <Body key={session.id} store={store} session={session} /> : <Empty title="Reading…" />}
    </main>
  );
}

function Head({ store, name }: { store: SessionStore; name: string }) {
  const session = store.session.value;
  return (
    <div class="head">
      <a class="crumb" href={href(["sessions"])} aria-label="All sessions">
        ←
      </a>
      <h1 title={name}>{name}</h1>
      {session && <StatusPill session={session} />}
      {session && (
        <span class="faint about-task">
          {session.taskIdentifier} · {session.type}
        </span>
      )}
      <span class="grow" />
      {session && <Actions store={store} session={session} />}
    </div>
  );
}

function Body({ store, session }: { store: SessionStore; session: Session }) {
  const { query } = route.value;
  // The pair is there by itself. The address may name it all the same, from a time when a token saw nothing else.
  const named = new Set(query.getAll("channel").filter((label) => label !== ".in" && label !== ".out").slice(0, NAMED_MAX));
  const extra = [...named].map((label) => channelOf(session.id, label));
  const isWithIn = isKey();
  const { tapes, anew } = useTapes([...(isWithIn ? [inOf(session.id)] : []), outOf(session.id), ...extra]);
  const heard = isWithIn ? tapes[0] : undefined;
  const said = tapes[isWithIn ? 1 : 0];
  const thread = useThread(heard, said);
  thread.version.value;
  const views: readonly (readonly [View, string])[] = isNarrow.value ? NARROW_VIEWS : WIDE_VIEWS;
  const asked = query.get("view") as View | null;
  const view = views.find(([view]) => view === asked)?.[0] ?? views[0]![0];
  const look = (view: View) => setQuery((query) => query.set("view", view));
  const isClosed = session.status !== SessionStatus.ACTIVE;

  return (
    <div class="session-body">
      {!isNarrow.value && isWithIn && (
        <aside aria-label="Runs">
          <h2>Runs</h2>
          <Timeline store={store} />
        </aside>
      )}
      <div class="session-main">
        <div class="session-bar">
          <Segments label="View" options={views} value={view} onChange={look} />
          {!isWithIn && <span class="faint">.in is read with a secret key only</span>}
          <span class="grow" />
          {view === "records" && <Channels session={session.id} open={[...named]} openMax={NAMED_MAX} />}
        </div>
        {session.bootBackoff && !isClosed && <Backoff session={session} />}
        {isClosed && <Ended session={session} />}
        {view === "records" && <Panes tapes={tapes} anew={anew} />}
        {view === "chat" && <Chat thread={thread} tapes={[heard, said]} isLive={store.mayGoOn} />}
        {view === "runs" && <Timeline store={store} />}
        {view === "about" && <About session={session} />}
        {(view === "records" || view === "chat") && (
          <Composer
            session={session.id}
            isStreaming={thread.isStreaming && store.hasLiveRun}
            others={extra}
            isClosed={isClosed}
          />
        )}
      </div>
    </div>
  );
}

function Panes({ tapes, anew }: ReturnType<typeof useTapes>) {
  const opened = route.value.query.getAll("channel");
  const close = (label: string) => setQuery((query) => query.delete("channel", label));
  return (
    <div class="panes" data-panes={tapes.length}>
      {tapes.map((tape) => (
        <Pane
          key={tape.label}
          tape={tape}
          onJump={(seq) => anew(tape, { seq })}
          onClose={opened.includes(tape.label) ? () => close(tape.label) : undefined}
        />
      ))}
    </div>
  );
}

/** For a token that may read some channels of a session, and not the session itself. */
function ChannelsAlone({ session }: { session: string }) {
  const open = [...new Set(route.value.query.getAll("channel").slice(0, OPEN_MAX))];
  const { tapes, anew } = useTapes(open.map((label) => channelOf(session, label)));
  return (
    <>
      <div class="session-bar">
        <span class="faint">This token does not see the session, but may see channels of it.</span>
        <span class="grow" />
        <Channels session={session} open={open} openMax={OPEN_MAX} isAlone />
      </div>
      {open.length > 0 ? <Panes tapes={tapes} anew={anew} /> : <Empty title="Choose a channel" />}
    </>
  );
}

function Chat({ thread, tapes, isLive }: { thread: Thread; tapes: (Tape | undefined)[]; isLive: boolean }) {
  const isGoingBack = useSignal(false);
  const there = tapes.filter((tape) => tape !== undefined);
  for (const tape of there) tape.version.value;
  const hasMore = there.some((tape) => (tape.first ?? 0) > 0);
  const back = async () => {
    isGoingBack.value = true;
    const signal = AbortSignal.timeout(20_000);
    await Promise.all(there.map((tape) => tape.back(signal))).catch(() => undefined);
    isGoingBack.value = false;
  };
  return (
    <>
      {hasMore && (
        <button type="button" class="earlier" disabled={isGoingBack.value} onClick={back}>
          Earlier messages
        </button>
      )}
      <Conversation thread={thread} hint="Nothing was said yet" isLive={isLive} />
    </>
  );
}

/** `name.in` or `name.out`, as it stands in the address. */
function channelOf(session: string, label: string): Channel {
  const direction = label.endsWith(".in") ? Direction.IN : Direction.OUT;
  return { session, name: label.replace(/\.(in|out)$/, ""), direction };
}

function Backoff({ session }: { session: Session }) {
  const { failures = 0, lastError = "", retryAt } = session.bootBackoff ?? {};
  const at = msOf(retryAt);
  return (
    <div class="note bad" role="status">
      <div>
        <strong>Its runs end before they read anything</strong>
        <p>
          {failures} in a row. {lastError} {at && `The next one may start at ${fullTime(at)}.`}
        </p>
      </div>
    </div>
  );
}

function Ended({ session }: { session: Session }) {
  const at = msOf(session.closedAt) ?? msOf(session.expiresAt) ?? 0;
  return (
    <div class="note" role="status">
      <div>
        {session.closedAt ? "Closed " : "Expired "}
        <Ago ms={at} />
        {session.closedReason && `: ${session.closedReason}`}. What was said stays readable.
      </div>
    </div>
  );
}
