// Scoped tokens of a session: made here, shown once, and taken back.
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { useSignal } from "@preact/signals";
import { tokens } from "../app/api.ts";
import { type Failure, failureOf } from "../app/failure.ts";
import { isRootKey } from "../app/key.ts";
import { fullTime, msOf } from "../app/format.ts";
import type { Session } from "../gen/continuo/v1/session_pb.ts";
import { Copy, Dialog, Note } from "../parts/basics.tsx";

// The longest is less than the 30 days that the server allows by its own clock, which may be behind this one.
const LIVES = [
  ["15", "15 minutes"],
  ["60", "1 hour"],
  ["1440", "1 day"],
  ["41760", "29 days"],
] as const;

export function Tokens({ session, onClose }: { session: Session; onClose: () => void }) {
  const mayRead = useSignal(true);
  const mayWrite = useSignal(true);
  const minutes = useSignal("60");
  const made = useSignal<{ token: string; scopes: string[]; until: number } | undefined>(undefined);
  const failure = useSignal<Failure | undefined>(undefined);

  const mint = async (event: SubmitEvent) => {
    event.preventDefault();
    const scopes = [mayRead.value && "read", mayWrite.value && "write"]
      .filter(Boolean)
      .map((action) => `${action}:sessions:${session.id}`);
    const until = Date.now() + Number(minutes.value) * 60_000;
    failure.value = made.value = undefined;
    try {
      const { token } = await tokens.createPublicToken({
        scopes,
        expiresAt: timestampFromMs(until),
        session: session.id,
      });
      made.value = { token, scopes, until };
    } catch (cause) {
      failure.value = failureOf(cause);
    }
  };

  return (
    <Dialog title="Scoped tokens" onClose={onClose}>
      <form onSubmit={mint}>
        <p>For a browser or another service: good for this session alone, and shown once.</p>
        <fieldset class="inline">
          <legend>It may</legend>
          <label>
            <input
              type="checkbox"
              checked={mayRead.value}
              onChange={(event) => (mayRead.value = event.currentTarget.checked)}
            />{" "}
            read .out
          </label>
          <label>
            <input
              type="checkbox"
              checked={mayWrite.value}
              onChange={(event) => (mayWrite.value = event.currentTarget.checked)}
            />{" "}
            write .in
          </label>
          <label>
            for{" "}
            <select value={minutes.value} onChange={(event) => (minutes.value = event.currentTarget.value)}>
              {LIVES.map(([value, text]) => (
                <option key={value} value={value}>
                  {text}
                </option>
              ))}
            </select>
          </label>
        </fieldset>
        <div class="buttons">
          <button type="submit" class="primary" disabled={!mayRead.value && !mayWrite.value}>
            Make a token
          </button>
        </div>
      </form>
      {failure.value && <Note failure={failure.value} />}
      {made.value && (
        <div class="secret">
          <output aria-label="The token">{made.value.token}</output>
          <div class="row">
            <span class="faint">until {fullTime(made.value.until)}</span>
            <span class="grow" />
            <Copy text={made.value.token} />
          </div>
        </div>
      )}
      {isRootKey() && <Revoke session={session} onFailure={(why) => (failure.value = why)} />}
    </Dialog>
  );
}

function Revoke({ session, onFailure }: { session: Session; onFailure: (why: Failure) => void }) {
  const asked = useSignal<"session" | "all" | undefined>(undefined);
  const done = useSignal<{ what: string; at: number } | undefined>(undefined);
  const revoke = async () => {
    const isAll = asked.value === "all";
    asked.value = undefined;
    try {
      const { notBefore } = await tokens.revokeTokens(isAll ? {} : { session: session.id });
      done.value = {
        what: isAll ? "All public tokens of this environment" : "The tokens of this session",
        at: msOf(notBefore) ?? Date.now(),
      };
    } catch (cause) {
      onFailure(failureOf(cause));
    }
  };
  return (
    <section class="revoke">
      <h3>Revoke</h3>
      <p>
        Tokens that were made here, and the one that came with the session when it was created, are bound to the session
        and refused together. A token that somebody signed with the key ends with its time, or with all public tokens.
      </p>
      {asked.value ? (
        <div class="buttons" role="alert">
          <span>
            {asked.value === "all"
              ? "Whoever uses a public token of this environment needs a new one then, and is told so at once."
              : "Whoever reads or writes this session with a token needs a new one then, and is told so at once."}
          </span>
          <button type="button" onClick={() => (asked.value = undefined)}>
            Keep them
          </button>
          <button type="button" class="danger" onClick={revoke}>
            Revoke now
          </button>
        </div>
      ) : (
        <div class="buttons">
          <button type="button" onClick={() => (asked.value = "session")}>
            Tokens of this session…
          </button>
          <button type="button" class="danger" onClick={() => (asked.value = "all")}>
            All public tokens…
          </button>
        </div>
      )}
      {done.value && (
        <p role="status">
          {done.value.what} from before {fullTime(done.value.at)} are refused now.
        </p>
      )}
    </section>
  );
}
