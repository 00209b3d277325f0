// The key or token that the page worked with is no good any more. What is shown stays, and goes on with another one.
import { useSignal } from "@preact/signals";
import { Dialog } from "../parts/basics.tsx";
import { fullTime } from "./format.ts";
import { endOf, isKey, key } from "./key.ts";
import { KeyEntry } from "./key_entry.tsx";

/** The browser's clock and the server's may differ by so much. */
const SKEW_MS = 5_000;

export function Refused() {
  const isAsking = useSignal(true);
  const end = endOf(key.value);
  const title = isKey() ? "The server no longer accepts this key" : "This token has ended";
  const why =
    end !== undefined && end < Date.now() + SKEW_MS
      ? `It was good until ${fullTime(end)}.`
      : "It was revoked or replaced, or its time is over.";
  return (
    <>
      <div role="status" class="link away">
        <span>{title}.</span>
        <button type="button" class="quiet" onClick={() => (isAsking.value = true)}>
          Enter another
        </button>
      </div>
      {isAsking.value && (
        <Dialog title={title} onClose={() => (isAsking.value = false)}>
          <p>
            {why} Nothing is lost: with another one this page goes on exactly where it was.
            {isKey()
              ? " The new key is with whoever replaced it."
              : " A new token is made on the page of the session, under Tokens, by somebody who has a key."}
          </p>
          <KeyEntry isReplacing />
        </Dialog>
      )}
    </>
  );
}
