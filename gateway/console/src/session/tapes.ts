// The channels a page follows. Without TLS a browser has six connections to a server; each open channel holds one of them.
import { useEffect, useMemo, useState } from "preact/hooks";
import type { Channel, From } from "../channel/follower.ts";
import { Tape, labelOf } from "../channel/tape.ts";
import { Thread } from "../chat/thread.ts";

export const OPEN_MAX = 4;

/** A tape for each channel, for as long as it is among them. `anew` begins one at another number. */
export function useTapes(channels: Channel[], from?: From): { tapes: Tape[]; anew: (tape: Tape, from: From) => void } {
  const [tapes] = useState(() => new Map<string, Tape>());
  const [, redraw] = useState(0);
  const keyOf = (channel: Channel) => `${channel.session} ${labelOf(channel)}`;
  const wanted = channels.map(keyOf);
  for (const channel of channels) if (!tapes.has(keyOf(channel))) tapes.set(keyOf(channel), new Tape(channel, from));
  useEffect(() => {
    for (const [key, tape] of tapes) {
      if (wanted.includes(key)) continue;
      tape.stop();
      tapes.delete(key);
    }
  }, [wanted.join()]);
  useEffect(
    () => () => {
      for (const tape of tapes.values()) tape.stop();
      tapes.clear();
    },
    [],
  );
  const anew = (tape: Tape, from: From) => {
    tape.stop();
    tapes.set(keyOf(tape.channel), new Tape(tape.channel, from));
    redraw((n) => n + 1);
  };
  return { tapes: wanted.map((key) => tapes.get(key)!), anew };
}

/** The conversation that an `.in` and an `.out` make. */
export function useThread(heard: Tape | undefined, said: Tape | undefined): Thread {
  const epoch = `${heard?.epoch.value} ${said?.epoch.value}`;
  const thread = useMemo(() => new Thread(), [heard, said, epoch]);
  useEffect(() => {
    const ends = [
      heard?.listen((entries) => thread.takeIn(entries)),
      said?.listen((entries) => thread.takeOut(entries)),
    ];
    return () => ends.forEach((end) => end?.());
  }, [thread]);
  return thread;
}
