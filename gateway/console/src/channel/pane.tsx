// One channel as it is: every record in its place, live, with the selected one in full below.
import { useSignal } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import { isCanceled } from "../app/api.ts";
import { type Failure, failureOf } from "../app/failure.ts";
import { refused } from "../app/key.ts";
import { bytes, clockTime, count, fullTime } from "../app/format.ts";
import { ChannelLabel, Copy, Empty, Note } from "../parts/basics.tsx";
import { Bytes, Json, Text } from "../parts/json.tsx";
import { VirtualList, reveal } from "../parts/virtual_list.tsx";
import type { State } from "./follower.ts";
import { isObject } from "./fields.ts";
import { type Entry, textOf, valueOf } from "./record.ts";
import { type Tape, isHole } from "./tape.ts";

const ROW_HEIGHT = 28;

interface Props {
  tape: Tape;
  /** Begins the tape anew at a number. */
  onJump: (seq: number) => void;
  onClose?: () => void;
}

export function Pane({ tape, onJump, onClose }: Props) {
  tape.version.value;
  const selected = useSignal<number | undefined>(undefined);
  const [follows, setFollows] = useState(true);
  const [failure, setFailure] = useState<Failure>();
  const box = useRef<HTMLDivElement>(null);
  const state = tape.follower.state.value;
  const { rows } = tape;
  const tail = tape.follower.tail.value;
  const index = selected.value === undefined ? undefined : tape.indexOf(selected.value);
  // What is shown in full below stays in sight above.
  useEffect(() => {
    if (index !== undefined) requestAnimationFrame(() => reveal(box.current, index, ROW_HEIGHT));
  }, [selected.value]);
  const chosen = index === undefined ? undefined : rows[index];

  const toEnd = () => {
    setFollows(true);
    if (box.current) box.current.scrollTop = box.current.scrollHeight;
  };
  const jump = (seq: number) => {
    if (tail !== undefined && seq >= tail) return toEnd();
    const first = tape.first;
    const at = tape.indexOf(seq);
    selected.value = seq;
    if (first === undefined || seq < first || at >= rows.length) return onJump(seq);
    setFollows(false);
    reveal(box.current, at, ROW_HEIGHT);
  };
  // A channel that is shorter than what was seen of it is another one now.
  const again = () =>
    state.is === "refused" && state.why.reason === "PAST_TAIL" ? onJump(tape.first ?? 0) : tape.follower.goOn();
  const [isGoingBack, setIsGoingBack] = useState(false);
  const back = async () => {
    setIsGoingBack(true);
    setFollows(false);
    await tape.back(AbortSignal.timeout(20_000)).catch((cause) => !isCanceled(cause) && setFailure(failureOf(cause)));
    setIsGoingBack(false);
  };

  return (
    <section class="pane" aria-label={tape.label}>
      <header>
        <h3 aria-label={tape.label}>
          <ChannelLabel label={tape.label} />
        </h3>
        <StateMark state={state} />
        <span class="grow" />
        {tail !== undefined && <span class="faint">{count(tail)} written</span>}
        <Jump onJump={jump} />
        {onClose && (
          <button type="button" class="quiet" aria-label={`Close ${tape.label}`} onClick={onClose}>
            ✕
          </button>
        )}
      </header>
      {state.is === "refused" && <Note failure={state.why} onRetry={again} />}
      {failure && <Note failure={failure} onRetry={() => (setFailure(undefined), void back())} />}
      {!!tape.first && (
        <button type="button" class="earlier" disabled={isGoingBack} onClick={back}>
          Earlier records, before {count(tape.first)}
        </button>
      )}
      {rows.length === 0 && state.is !== "refused" ? (
        <Empty title={state.is === "live" || tail === 0 ? "Nothing here yet" : "Reading…"} />
      ) : (
        <VirtualList
          label={`Records of ${tape.label}`}
          count={rows.length}
          rowHeight={ROW_HEIGHT}
          follows={follows}
          onFollow={setFollows}
          dropped={tape.dropped}
          scroller={box}
          selected={index}
          onSelect={(index) => {
            const row = rows[index];
            if (row && !isHole(row)) selected.value = row.seq;
          }}
          row={(index, slot) => {
            const row = rows[index]!;
            if (isHole(row)) return <HoleRow key={slot} from={row.from} to={row.to} />;
            const pick = () => (selected.value = selected.value === row.seq ? undefined : row.seq);
            return <EntryRow key={slot} entry={row} isSelected={row.seq === selected.value} onPick={pick} />;
          }}
        />
      )}
      {!follows && rows.length > 0 && (
        <button type="button" class="to-end" onClick={toEnd}>
          ↓ Newest
        </button>
      )}
      {chosen && !isHole(chosen) && <Detail entry={chosen} onClose={() => (selected.value = undefined)} />}
    </section>
  );
}

function EntryRow({ entry, isSelected, onPick }: { entry: Entry; isSelected: boolean; onPick: () => void }) {
  return (
    <div
      role="listitem"
      class={`entry ${entry.kind}`}
      aria-current={isSelected || undefined}
      data-seq={entry.seq}
      onClick={onPick}
    >
      <span class="seq">{entry.seq}</span>
      <span class="at">{clockTime(entry.ms)}</span>
      {entry.tag && <span class={`tag ${entry.kind}`}>{entry.tag}</span>}
      <span class="line">{entry.line}</span>
      {entry.body.length > 1024 && <span class="size">{bytes(entry.body.length)}</span>}
    </div>
  );
}

function HoleRow({ from, to }: { from: number; to: number }) {
  return (
    <div role="listitem" class="entry hole">
      {from === to ? `${count(from)} was` : `${count(from)} to ${count(to)} were`} trimmed
    </div>
  );
}

function StateMark({ state }: { state: State }) {
  const words = {
    connecting: "reading",
    live: "live",
    paused: refused.value ? "waits for a key" : "paused",
    waiting: "waiting for the server",
    refused: "refused",
  };
  return <span class={`mark ${state.is}`}>{words[state.is]}</span>;
}

function Jump({ onJump }: { onJump: (seq: number) => void }) {
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    const input = (event.currentTarget as HTMLFormElement).elements.namedItem("seq") as HTMLInputElement;
    if (input.value !== "") onJump(Number(input.value));
  };
  return (
    <form class="jump" onSubmit={submit}>
      <input
        name="seq"
        type="number"
        min="0"
        step="1"
        inputMode="numeric"
        placeholder="go to #"
        aria-label="Go to record number"
      />
    </form>
  );
}

function Detail({ entry, onClose }: { entry: Entry; onClose: () => void }) {
  const [isRaw, setIsRaw] = useState(false);
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (box.current) box.current.scrollTop = 0;
    setIsRaw(false);
  }, [entry.seq]);
  const text = textOf(entry.body);
  const value = text === undefined ? undefined : valueOf(entry);
  const isTree = isObject(value) || Array.isArray(value);
  return (
    <div class="detail" ref={box} role="group" aria-label={`Record ${entry.seq}`} tabIndex={0}>
      <header>
        <strong>#{count(entry.seq)}</strong>
        <span class="faint">
          {fullTime(entry.ms)} · {bytes(entry.body.length)}
        </span>
        <span class="grow" />
        {isTree && (
          <button type="button" class="quiet" aria-pressed={isRaw} onClick={() => setIsRaw(!isRaw)}>
            Raw
          </button>
        )}
        {text !== undefined && <Copy text={text} />}
        <button type="button" class="quiet" aria-label="Close record" onClick={onClose}>
          ✕
        </button>
      </header>
      {entry.headers.length > 0 && (
        <dl class="headers">
          {entry.headers.map(([name, value], i) => (
            <div key={i}>
              <dt>{name || "command"}</dt>
              <dd>{value}</dd>
            </div>
          ))}
        </dl>
      )}
      {text === undefined || (entry.kind === "command" && entry.tag === "trim") ? (
        <Bytes key={entry.seq} bytes={entry.body} />
      ) : isTree && !isRaw ? (
        <Json key={entry.seq} value={value} />
      ) : (
        <pre class="raw">
          <Text key={`${entry.seq}${isRaw}`} text={isRaw || typeof value !== "string" ? text : value} />
        </pre>
      )}
    </div>
  );
}
