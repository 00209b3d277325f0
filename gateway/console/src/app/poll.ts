// Asking again and again, for what no stream tells.
import { useEffect, useRef } from "preact/hooks";
import { isAway, isCanceled } from "./api.ts";
import { refused } from "./key.ts";

/**
 * Calls `ask` now and then every `ms`, one at a time and only while somebody looks. What it asks anew for is named by `about`;
 * what comes late for an old question is aborted.
 */
export function usePoll(ms: number, about: unknown[], ask: (signal: AbortSignal) => Promise<void>): void {
  const latest = useRef(ask);
  latest.current = ask;
  useEffect(() => {
    const over = new AbortController();
    void (async () => {
      while (!over.signal.aborted) {
        if (!document.hidden && !refused.value) {
          await latest.current(over.signal).catch((cause) => {
            if (!isCanceled(cause) && !isAway(cause)) console.warn(cause);
          });
        }
        await pause(ms, over.signal);
      }
    })();
    return () => over.abort();
  }, about);
}

/** Waits, but not after the end. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", done);
  });
}
