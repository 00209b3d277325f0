// One session: its runs, its channels side by side, and the conversation they make.
import { useSignal } from "@preact/signals";
import { useEffect, useMemo } from "preact/hooks";
import { isKey } from "../app/key.ts";
import { fullTime, msOf } from "../app/format.ts";
import { usePoll } from "../app/poll.ts";
import { href, route, setQuery } from "../app/route.ts";
import type { Channel } from "../channel/follower.ts";
import { Pane } from "../channel/pane.tsx";
import { type Tape, labelOf } from "../channel/tape.ts";
import { Conversation } from "../chat/conversation.tsx";
import type { Thread } from "../chat/thread.ts";
import { Direction } from "../gen/continuo/v1/channel_pb.ts";
import { type Session, SessionStatus } from "../gen/continuo/v1/session_pb.ts";
import { Ago, Copy, Empty, Note, Segments } from "../parts/basics.tsx";
import { Json } from "../parts/json.tsx";
import { isNarrow } from "../parts/media.ts";
import { Actions } from "./actions.tsx";
import { Composer } from "./composer.tsx";
import { inOf, outOf } from "./send.ts";
import { StatusPill } from "./status.tsx";
import { SessionStore } from "./store.ts";
import { OPEN_MAX, useTapes, useThread } from "./tapes.ts";
import { Timeline } from "./timeline.tsx";

const REFRESH_MS = 2_000;

type View = "records" | "chat" | "in" | "out" | "runs" | "about";
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
      <main class="page">
        <Note failure={failure} onRetry={() => void store.refresh()} />
        <p>
          <a href={href(["sessions"])}>All sessions</a>
        </p>
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
  const named = new Set(query.getAll("channel").slice(0, OPEN_MAX - 2));
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
  const close = (tape: Tape) => setQuery((query) => query.delete("channel", labelOf(tape.channel)));
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
          {view === "records" && tapes.length < OPEN_MAX && <OpenChannel />}
        </div>
        {session.bootBackoff && !isClosed && <Backoff session={session} />}
        {isClosed && <Ended session={session} />}
        {view === "records" && (
          <div class="panes" data-panes={tapes.length}>
            {tapes.map((tape) => (
              <Pane
                key={labelOf(tape.channel)}
                tape={tape}
                onJump={(seq) => anew(tape, { seq })}
                onClose={tape.channel.name ? () => close(tape) : undefined}
              />
            ))}
          </div>
        )}
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

function OpenChannel() {
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    const form = event.currentTarget as HTMLFormElement;
    const data = new FormData(form);
    const name = String(data.get("name")).trim();
    const label = `${name}.${data.get("side")}`;
    if (name !== "" && !route.value.query.getAll("channel").includes(label))
      setQuery((query) => query.append("channel", label));
    form.reset();
  };
  return (
    <form class="open-channel" onSubmit={submit}>
      <input
        name="name"
        aria-label="Name of a channel"
        placeholder="Named channel"
        pattern="[A-Za-z0-9._\-]{1,128}"
        autoComplete="off"
      />
      <select name="side" aria-label="Side">
        <option value="out">.out</option>
        <option value="in">.in</option>
      </select>
      <button type="submit">Open</button>
    </form>
  );
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

function About({ session }: { session: Session }) {
  const { triggerConfig } = session;
  const times = [
    ["Created", session.createdAt],
    ["Changed", session.updatedAt],
    ["Expires", session.expiresAt],
  ] as const;
  return (
    <div class="about" tabIndex={0} role="group" aria-label="Details">
      <dl>
        <dt>Id</dt>
        <dd>
          <code>{session.id}</code> <Copy text={session.id} />
        </dd>
        {session.externalId !== undefined && (
          <>
            <dt>Name</dt>
            <dd>
              <code>{session.externalId}</code> <Copy text={session.externalId} />
            </dd>
          </>
        )}
        <dt>Task</dt>
        <dd>{session.taskIdentifier}</dd>
        <dt>Type</dt>
        <dd>{session.type}</dd>
        <dt>Tags</dt>
        <dd>
          {session.tags.length === 0 && "none"}
          {session.tags.map((tag) => (
            <a key={tag} class="chip" href={href(["sessions"], new URLSearchParams({ tag }))}>
              {tag}
            </a>
          ))}
        </dd>
        {times.map(
          ([label, time]) =>
            time && (
              <>
                <dt>{label}</dt>
                <dd>{fullTime(msOf(time) ?? 0)}</dd>
              </>
            ),
        )}
      </dl>
      <Held title="Metadata" json={session.metadataJson} />
      <Held title="What its runs are started with" json={triggerConfig?.basePayloadJson} />
    </div>
  );
}

function Held({ title, json }: { title: string; json: string | undefined }) {
  if (json === undefined || json === "") return null;
  let value: unknown = json;
  try {
    value = JSON.parse(json);
  } catch {
    // Shown as the text it is.
  }
  return (
    <section>
      <h3>{title}</h3>
      <Json value={value} />
    </section>
  );
}
