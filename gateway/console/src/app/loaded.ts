// What comes later: a page's data, or a part of the console.
import { useEffect, useState } from "preact/hooks";
import { type Failure, failureOf } from "./failure.ts";

/** How long what could not be had waits before it is asked for again. */
const AGAIN_MS = 2_000;

export interface Loaded<T> {
  value?: T;
  failure?: Failure;
  again?: () => void;
}

/** A part of the console, which the server of another release no longer has: then it is not the server that is away. */
export async function part<T>(imported: Promise<T>): Promise<T> {
  try {
    return await imported;
  } catch (cause) {
    const { ok } = await fetch(location.pathname);
    throw ok ? new Error("The server has another release of this console: reload the page") : cause;
  }
}

/** What `load` gives, asked for anew when `about` changes; while the server is away, asked again and again. */
export function useLoaded<T>(load: () => Promise<T>, about: unknown[]): Loaded<T> {
  const [tries, setTries] = useState(0);
  const [loaded, setLoaded] = useState<Loaded<T> & { about?: unknown[] }>({});
  const again = () => setTries((tries) => tries + 1);
  useEffect(() => {
    let isOver = false;
    let timer = 0;
    const failed = (cause: unknown) => {
      if (isOver) return;
      const failure = failureOf(cause);
      setLoaded({ failure, again, about });
      if (failure.isPassing) timer = setTimeout(again, AGAIN_MS);
    };
    load().then((value) => isOver || setLoaded({ value, about }), failed);
    return () => {
      isOver = true;
      clearTimeout(timer);
    };
  }, [...about, tries]);
  // What was loaded for another question is not shown for this one.
  const isCurrent = loaded.about?.every((each, i) => each === about[i]);
  return isCurrent ? loaded : {};
}
