// The channels of a session: which were written and how far, opened beside the reserved pair.
import { signal, useSignal } from "@preact/signals";
import { useMemo } from "preact/hooks";
import { channels, isCanceled } from "../app/api.ts";
import { type Failure, failureOf } from "../app/failure.ts";
import { count } from "../app/format.ts";
import { key } from "../app/key.ts";
import { usePoll } from "../app/poll.ts";
import { setQuery } from "../app/route.ts";
import { labelOf } from "../channel/tape.ts";
import type { ChannelSummary } from "../gen/continuo/v1/channel_service_pb.ts";
import { Ago, ChannelLabel, Dialog, Empty, Note } from "../parts/basics.tsx";

// Where channels are streams of a service, the server asks it about each of them.
const SLOW_MS = 30_000;
const OPEN_MS = 3_000;
/** So many are asked for at first, and at most shown; a name that is typed narrows them. */
const SHOWN_MAX = 100;
/** So many, once somebody wants to see them. */
const ASKED_MAX = 1_000;

/** The channels as they were when the server was last asked. */
class ChannelList {
  readonly named = signal<ChannelSummary[] | undefined>(undefined);
  readonly isMore = signal(false);
  readonly asked = signal(SHOWN_MAX);
  readonly failure = signal<Failure | undefined>(undefined);

  constructor(
    readonly session: string,
    readonly isAlone: boolean,
  ) {}

  async refresh(signal: AbortSignal): Promise<void> {
    try {
      const page = await channels.listChannels({ session: this.session, pageSize: this.asked.value }, { signal });
      this.named.value = page.channels.filter(({ name }) => this.isAlone || name !== "");
      this.isMore.value = page.nextPageToken !== "";
      this.failure.value = undefined;
    } catch (cause) {
      if (!isCanceled(cause)) this.failure.value = failureOf(cause);
    }
  }
}

interface Props {
  session: string;
  /** Labels of the named channels that are open. */
  open: string[];
  openMax: number;
  /** The reserved pair is not there by itself, and chosen as the others are. */
  isAlone?: boolean;
}

export function Channels({ session, open, openMax, isAlone = false }: Props) {
  const list = useMemo(() => new ChannelList(session, isAlone), [session, isAlone]);
  const isAsked = useSignal(false);
  // Anew when it is asked for, with another key, and when something was opened: that may be the first word of a channel.
  const about = [list, isAsked.value, open.join(), list.asked.value, key.value];
  usePoll(isAsked.value ? OPEN_MS : SLOW_MS, about, (signal) => list.refresh(signal));
  const there = list.named.value?.length ?? 0;
  return (
    <>
      <button type="button" onClick={() => (isAsked.value = true)}>
        Channels {there > 0 && <span class="faint">{`${count(there)}${list.isMore.value ? "+" : ""}`}</span>}
      </button>
      {isAsked.value && <Choice list={list} open={open} openMax={openMax} onClose={() => (isAsked.value = false)} />}
    </>
  );
}

function Choice({ list, open, openMax, onClose }: Omit<Props, "session"> & { list: ChannelList; onClose: () => void }) {
  const text = useSignal("");
  const side = useSignal("out");
  const isFull = open.length >= openMax;
  const there = list.named.value;
  const found = there?.filter((channel) => labelOf(channel).includes(text.value.trim()));
  const toggle = (label: string) => {
    if (open.includes(label)) return setQuery((query) => query.delete("channel", label));
    setQuery((query) => query.append("channel", label));
    onClose();
  };
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    const label = `${text.value.trim()}.${side.value}`;
    if (!open.includes(label)) toggle(label);
    else onClose();
  };
  return (
    <Dialog title={list.isAlone ? "Channels" : "Named channels"} onClose={onClose}>
      <form class="open-channel" onSubmit={submit}>
        <input
          autoFocus
          required
          aria-label="Name of a channel"
          placeholder="Name"
          title="Letters, digits, dot, dash and underscore, at most 128"
          pattern="[A-Za-z0-9._\-]{1,128}"
          autoComplete="off"
          spellcheck={false}
          value={text.value}
          onInput={(event) => (text.value = event.currentTarget.value)}
        />
        <select aria-label="Side" value={side.value} onChange={(event) => (side.value = event.currentTarget.value)}>
          <option value="out">.out</option>
          <option value="in">.in</option>
        </select>
        <button type="submit" class="primary" disabled={isFull}>
          Open
        </button>
      </form>
      {isFull && <p class="faint">As many are open as fit beside each other. Close one to open another.</p>}
      {list.failure.value && !(list.failure.value.isPassing && there) && <Note failure={list.failure.value} />}
      {!there && !list.failure.value && <Empty title="Reading…" />}
      {there?.length === 0 && (
        <Empty title="No named channel was written yet">It is there with its first record.</Empty>
      )}
      {!!there?.length && found?.length === 0 && (
        <Empty title={list.isMore.value ? "None of those listed has such a name" : "No channel has such a name yet"} />
      )}
      {!!found?.length && (
        <ul class="channels" tabIndex={0} aria-label="Channels that were written">
          {found.slice(0, SHOWN_MAX).map((channel) => {
            const label = labelOf(channel);
            return (
              <li key={label}>
                <Row channel={channel} isOpen={open.includes(label)} isFull={isFull} onToggle={() => toggle(label)} />
              </li>
            );
          })}
        </ul>
      )}
      {found && found.length > SHOWN_MAX && (
        <p class="faint">And {count(found.length - SHOWN_MAX)} more; type to find them.</p>
      )}
      {list.isMore.value && list.asked.value < ASKED_MAX && (
        <button type="button" onClick={() => (list.asked.value = ASKED_MAX)}>
          List more
        </button>
      )}
      {list.isMore.value && list.asked.value === ASKED_MAX && (
        <p class="faint">There are more than can be listed. Type the name of another.</p>
      )}
    </Dialog>
  );
}

function Row(props: { channel: ChannelSummary; isOpen: boolean; isFull: boolean; onToggle: () => void }) {
  const { channel, isOpen, isFull, onToggle } = props;
  const label = labelOf(channel);
  const { seqNum = 0n, timestampMs = 0n } = channel.tail ?? {};
  return (
    <button
      type="button"
      aria-label={`${label}, ${count(seqNum)} written`}
      aria-pressed={isOpen}
      disabled={isFull && !isOpen}
      onClick={onToggle}
    >
      <code>
        <ChannelLabel label={label} />
      </code>
      <span class="faint">
        {count(seqNum)} written
        {channel.earliestSeqNum > 0n && `, kept from ${count(channel.earliestSeqNum)}`}
      </span>
      <span class="faint">{timestampMs > 0n && <Ago ms={Number(timestampMs)} />}</span>
    </button>
  );
}
