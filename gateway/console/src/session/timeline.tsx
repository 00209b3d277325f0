// The runs of a session: who served it, why each came, and how it ended.
import { ago, count, duration, fullTime, msOf, now, short } from "../app/format.ts";
import type { SessionRun } from "../gen/continuo/v1/session_pb.ts";
import { Copy, Empty, Note } from "../parts/basics.tsx";
import { RunPill, isLive } from "./status.tsx";
import type { SessionStore } from "./store.ts";

/** Runs that are shown; a session may have had thousands. */
const SHOWN_MAX = 200;

const REASONS: Record<string, string> = {
  initial: "first run of the session",
  continuation: "took over where the last one ended",
  upgrade: "took over for another version",
  manual: "was asked for",
};

export function Timeline({ store }: { store: SessionStore }) {
  const runs = store.runs.value;
  const failure = store.runsFailure.value;
  if (failure && runs.length === 0) {
    return failure.reason === "PERMISSION_DENIED" ? (
      <Empty title="Runs are shown to a secret key" />
    ) : (
      <Note failure={failure} />
    );
  }
  const newest = runs.slice(-SHOWN_MAX).reverse();
  return (
    <div class="timeline">
      <Strip runs={runs.slice(-SHOWN_MAX)} />
      <ol>
        {newest.map((run) => (
          <RunRow key={run.runId} sessionRun={run} isCurrent={run.runId === store.session.value?.currentRunId} />
        ))}
      </ol>
      {runs.length > SHOWN_MAX && <p class="faint">{count(runs.length - SHOWN_MAX)} earlier runs</p>}
    </div>
  );
}

/** The life of the session from its first run to now, each run where and as long as it was. */
function Strip({ runs }: { runs: SessionRun[] }) {
  const first = runs[0];
  if (!first) return null;
  const begin = msOf(first.triggeredAt) ?? 0;
  const ends = runs.map(({ run }) => msOf(run?.finishedAt) ?? now.value);
  const whole = Math.max(1, ...ends.map((end) => end - begin));
  return (
    <div class="strip" aria-hidden="true">
      {runs.map(({ runId, run, triggeredAt }, i) => {
        const from = ((msOf(triggeredAt) ?? begin) - begin) / whole;
        const to = (ends[i]! - begin) / whole;
        const tone = isLive(run?.status) ? "live" : run?.status === "COMPLETED" ? "done" : "ended";
        return (
          <span
            key={runId}
            class={tone}
            style={{ left: `${from * 100}%`, width: `${Math.max(0.5, (to - from) * 100)}%` }}
          />
        );
      })}
    </div>
  );
}

function RunRow({ sessionRun, isCurrent }: { sessionRun: SessionRun; isCurrent: boolean }) {
  const { run, runId, reason, version } = sessionRun;
  const begun = msOf(sessionRun.triggeredAt) ?? 0;
  const ended = msOf(run?.finishedAt);
  return (
    <li class={isCurrent ? "current" : undefined} data-run={runId}>
      <div class="run-head">
        <strong>v{String(version)}</strong>
        <span class="reason" title={REASONS[reason]}>
          {reason}
        </span>
        <span class="grow" />
        {run && <RunPill status={run.status} />}
      </div>
      <div class="run-more">
        <Copy text={runId} label={short(runId)} />
        <span class="grow" />
        <span title={`${fullTime(begun)}${ended ? ` to ${fullTime(ended)}` : ""}`}>
          {ended ? `${ago(ended)}, after ${duration(ended - begun)}` : ago(begun)}
        </span>
      </div>
      {run && (run.attemptCount > 1 || run.version) && (
        <div class="faint">
          {run.attemptCount > 1 && `attempt ${run.attemptCount} of ${run.maxAttempts} `}
          {run.version && `version ${run.version}`}
        </div>
      )}
      {run?.error && (
        <p class={run.status === "CANCELED" ? "faint" : "run-error"}>
          {run.error.name}: {run.error.message}
        </p>
      )}
    </li>
  );
}
