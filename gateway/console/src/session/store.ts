// One session, its runs, and what can be done with it.
import { signal } from "@preact/signals";
import { isCanceled, runs, sessions } from "../app/api.ts";
import { type Failure, failureOf } from "../app/failure.ts";
import type { Session, SessionRun } from "../gen/continuo/v1/session_pb.ts";
import { isLive } from "./status.tsx";

export class SessionStore {
  readonly session = signal<Session | undefined>(undefined);
  readonly runs = signal<SessionRun[]>([]);
  readonly failure = signal<Failure | undefined>(undefined);
  /** Why the runs are not shown; the rest works. */
  readonly runsFailure = signal<Failure | undefined>(undefined);
  /** What is being done right now. */
  readonly doing = signal<string | undefined>(undefined);
  /** Why the last thing that was asked for did not happen. */
  readonly refusal = signal<Failure | undefined>(undefined);

  constructor(readonly name: string) {}

  get current(): SessionRun | undefined {
    const id = this.session.value?.currentRunId;
    return this.runs.value.find(({ runId }) => runId === id);
  }

  get hasLiveRun(): boolean {
    return isLive(this.current?.run?.status);
  }

  /** As far as this key can tell, somebody may go on with what was begun. */
  get mayGoOn(): boolean {
    return this.hasLiveRun || this.runs.value.length === 0;
  }

  async refresh(signal?: AbortSignal): Promise<void> {
    const own = sessions.getSession({ session: this.name }, { signal }).then(
      ({ session }) => {
        this.session.value = session;
        this.failure.value = undefined;
      },
      (cause) => {
        if (!isCanceled(cause)) this.failure.value = failureOf(cause);
      },
    );
    const audit = sessions.listSessionRuns({ session: this.name }, { signal }).then(
      ({ sessionRuns }) => {
        this.runs.value = sessionRuns;
        this.runsFailure.value = undefined;
      },
      (cause) => {
        if (!isCanceled(cause)) this.runsFailure.value = failureOf(cause);
      },
    );
    await Promise.all([own, audit]);
  }

  /** Does one thing at a time and shows what came of it. True if it was done. */
  async act(what: string, action: () => Promise<unknown>): Promise<boolean> {
    if (this.doing.value) return false;
    this.doing.value = what;
    this.refusal.value = undefined;
    try {
      await action();
      return true;
    } catch (cause) {
      this.refusal.value = failureOf(cause);
      return false;
    } finally {
      this.doing.value = undefined;
      void this.refresh();
    }
  }

  close(reason: string): Promise<boolean> {
    return this.act("close", () => sessions.closeSession({ session: this.name, reason: reason || undefined }));
  }

  killRun(): Promise<boolean> {
    const runId = this.session.value?.currentRunId ?? "";
    return this.act("kill", () => runs.cancelRun({ runId }));
  }

  endAndContinue(): Promise<boolean> {
    const callingRunId = this.session.value?.currentRunId ?? "";
    return this.act("hand over", () => sessions.endAndContinue({ session: this.name, callingRunId, reason: "manual" }));
  }
}
