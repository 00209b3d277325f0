// Where a key is given. It goes to the server it came from and nowhere else.
import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { Empty, Note } from "../parts/basics.tsx";
import { tokens } from "./api.ts";
import { type Failure, failureOf } from "./failure.ts";
import { forget, keep, key } from "./key.ts";
import { href } from "./route.ts";

/** How long a kept key waits before it is tried again. */
const AGAIN_MS = 2_000;

export function KeyEntry({ isReplacing }: { isReplacing?: boolean }) {
  const text = useSignal("");
  const failure = useSignal<Failure | undefined>(undefined);
  const isAsking = useSignal(!isReplacing && key.value !== "");

  const enter = async (token: string) => {
    isAsking.value = true;
    try {
      // A key that no header can carry is not sent.
      if (!/^[\x21-\x7e]+$/.test(token)) throw new Error("A key has no spaces and no letters beyond ASCII");
      const who = await tokens.authenticate({}, { headers: { authorization: `Bearer ${token}` } });
      failure.value = undefined;
      keep(token, { kind: who.kind, environmentId: who.environmentId, scopes: who.scopes, sessionId: who.sessionId });
    } catch (cause) {
      failure.value = failureOf(cause);
      if (!isReplacing && !failure.value.isPassing) forget();
    }
    isAsking.value = false;
  };
  useEffect(() => {
    if (!isReplacing && key.value) void enter(key.value);
  }, []);
  // A kept key waits for a server that is away.
  useEffect(() => {
    if (isReplacing || !failure.value?.isPassing || !key.value) return;
    const timer = setTimeout(() => void enter(key.value), AGAIN_MS);
    return () => clearTimeout(timer);
  }, [failure.value]);

  const form = (
    <form
      class="key-entry"
      onSubmit={(event) => {
        event.preventDefault();
        void enter(text.value.trim());
      }}
    >
      <label>
        Secret key or scoped token
        <input
          type="password"
          name="key"
          autoFocus
          autoComplete="off"
          spellcheck={false}
          placeholder="tr_…"
          value={text.value}
          onInput={(event) => (text.value = event.currentTarget.value)}
        />
      </label>
      {failure.value && (
        <Note
          failure={failure.value}
          onRetry={failure.value.isPassing ? () => void enter(text.value.trim() || key.value) : undefined}
        />
      )}
      <button
        type="submit"
        class="primary"
        disabled={text.value.trim() === "" || isAsking.value}
        aria-busy={isAsking.value}
      >
        {isReplacing ? "Go on" : "Open"}
      </button>
      <p class="faint">It stays in this tab and is gone when the tab is closed.</p>
    </form>
  );
  if (isReplacing) return form;
  if (isAsking.value && key.value && !failure.value) return <Empty title="Opening…" />;
  return (
    <main class="page entry">
      <h1>The session stays.</h1>
      <p class="lead">Runs come, crash, hand over and end. Here is what they said.</p>
      {form}
      <p class="faint">
        <code>continuo dev</code> prints a key. <a href={href(["docs", "readme"])}>Read how to begin</a>
      </p>
    </main>
  );
}
