// Where a person writes. What could not be sent stays, and is sent again under the same name.
import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { type Failure, failureOf } from "../app/failure.ts";
import type { Channel } from "../channel/follower.ts";
import { labelOf } from "../channel/tape.ts";
import { Direction } from "../gen/continuo/v1/channel_pb.ts";
import { Note, Segments } from "../parts/basics.tsx";
import { STOP, append, chatMessage, inOf, partId } from "./send.ts";

interface Props {
  session: string;
  /** An answer is under way: it can be stopped. */
  isStreaming: boolean;
  /** Channels besides `.in` that can be written. */
  others: Channel[];
  isClosed: boolean;
  /** Nothing but what a person says. */
  isPlain?: boolean;
}

type Form = "message" | "raw";
const FORMS = [
  ["message", "Chat message"],
  ["raw", "Raw record"],
] as const;

export function Composer({ session, isStreaming, others, isClosed, isPlain }: Props) {
  const text = useSignal("");
  const form = useSignal<Form>("message");
  const to = useSignal(".in");
  const failure = useSignal<Failure | undefined>(undefined);
  const isSending = useSignal(false);
  const unsent = useRef<{ what: string; id: string } | undefined>(undefined);
  const area = useRef<HTMLTextAreaElement>(null);
  const targets = [inOf(session), ...others];
  const target = targets.find((channel) => labelOf(channel) === to.value) ?? targets[0]!;
  const isChat = form.value === "message" && target.name === "" && target.direction === Direction.IN;

  useEffect(() => {
    const element = area.current;
    if (!element) return;
    element.style.height = "auto";
    element.style.height = `${Math.min(element.scrollHeight + 2, 180)}px`;
  }, [text.value]);

  const send = async () => {
    if (text.value === "" || isSending.value) return;
    const what = `${labelOf(target)} ${form.value} ${text.value}`;
    if (unsent.current?.what !== what) unsent.current = { what, id: partId() };
    const { id } = unsent.current;
    isSending.value = true;
    failure.value = undefined;
    try {
      await append(target, isChat ? chatMessage(session, text.value, id) : text.value, id);
      unsent.current = undefined;
      text.value = "";
    } catch (cause) {
      failure.value = failureOf(cause);
    }
    isSending.value = false;
    area.current?.focus();
  };
  const stop = () => append(inOf(session), STOP, partId()).catch((cause) => (failure.value = failureOf(cause)));
  const keys = (event: KeyboardEvent) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    void send();
  };

  return (
    <div class="composer">
      {failure.value && <Note failure={failure.value} onRetry={send} />}
      <form
        onSubmit={(event) => {
          event.preventDefault();
          void send();
        }}
      >
        <textarea
          id="composer"
          ref={area}
          rows={1}
          aria-label={isChat ? "Message" : `Record for ${labelOf(target)}`}
          placeholder={
            isClosed
              ? "The session is closed and takes no more input"
              : isChat
                ? "Say something"
                : `A record for ${labelOf(target)}`
          }
          value={text.value}
          disabled={isClosed}
          onInput={(event) => (text.value = event.currentTarget.value)}
          onKeyDown={keys}
        />
        {isStreaming && (
          <button type="button" onClick={stop}>
            Stop
          </button>
        )}
        <button type="submit" class="primary" disabled={isClosed || text.value === ""} aria-busy={isSending.value}>
          Send
        </button>
      </form>
      {!isClosed && !isPlain && (
        <div class="composer-more">
          <Segments
            label="Form of the record"
            options={FORMS}
            value={form.value}
            onChange={(value) => (form.value = value)}
          />
          {others.length > 0 && (
            <select
              aria-label="Channel"
              value={labelOf(target)}
              onChange={(event) => (to.value = event.currentTarget.value)}
            >
              {targets.map(labelOf).map((label) => (
                <option key={label} value={label}>
                  to {label}
                </option>
              ))}
            </select>
          )}
          <span class="faint hint">Enter sends, Shift Enter is a new line</span>
        </div>
      )}
    </div>
  );
}
