// What can be done with a session.
import { useSignal } from "@preact/signals";
import { isKey } from "../app/key.ts";
import { short } from "../app/format.ts";
import { type Session, SessionStatus } from "../gen/continuo/v1/session_pb.ts";
import { Dialog } from "../parts/basics.tsx";
import { CopyAs } from "./copy_as.tsx";
import type { SessionStore } from "./store.ts";
import { Tokens } from "./tokens.tsx";

type Open = "close" | "tokens" | "copy" | undefined;

export function Actions({ store, session }: { store: SessionStore; session: Session }) {
  const open = useSignal<Open>(undefined);
  const shut = () => (open.value = undefined);
  const isActive = session.status === SessionStatus.ACTIVE;
  const isBusy = store.doing.value !== undefined;
  return (
    <div class="actions">
      {isKey() && isActive && store.hasLiveRun && (
        <>
          <button
            type="button"
            disabled={isBusy}
            title={`Cancel ${session.currentRunId}`}
            onClick={() => void store.killRun()}
          >
            Kill run
          </button>
          <button type="button" disabled={isBusy} onClick={() => void store.endAndContinue()}>
            End and continue
          </button>
        </>
      )}
      {isKey() && (
        <button type="button" onClick={() => (open.value = "tokens")}>
          Tokens
        </button>
      )}
      <button type="button" onClick={() => (open.value = "copy")}>
        Copy as
      </button>
      {isKey() && isActive && (
        <button type="button" class="danger" disabled={isBusy} onClick={() => (open.value = "close")}>
          Close
        </button>
      )}
      {open.value === "close" && <CloseDialog store={store} session={session} onClose={shut} />}
      {open.value === "tokens" && <Tokens session={session} onClose={shut} />}
      {open.value === "copy" && <CopyAs session={session} onClose={shut} />}
    </div>
  );
}

function CloseDialog({ store, session, onClose }: { store: SessionStore; session: Session; onClose: () => void }) {
  const reason = useSignal("");
  const submit = async (event: SubmitEvent) => {
    event.preventDefault();
    onClose();
    await store.close(reason.value);
  };
  return (
    <Dialog title="Close the session" onClose={onClose}>
      <form onSubmit={submit}>
        <p>
          {session.externalId ?? short(session.id)} takes no input any more, for good. What was said stays readable, and
          the run that is live may still finish what it says.
        </p>
        <label>
          Reason
          <input
            autoFocus
            maxLength={256}
            value={reason.value}
            placeholder="optional"
            onInput={(event) => (reason.value = event.currentTarget.value)}
          />
        </label>
        <div class="buttons">
          <button type="button" onClick={onClose}>
            Keep it open
          </button>
          <button type="submit" class="danger">
            Close it
          </button>
        </div>
      </form>
    </Dialog>
  );
}
