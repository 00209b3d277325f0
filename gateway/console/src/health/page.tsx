// How the server does right now.
import type { Signal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { count } from "../app/format.ts";
import { isKey } from "../app/key.ts";
import { part, useLoaded } from "../app/loaded.ts";
import { usePoll } from "../app/poll.ts";
import { Empty } from "../parts/basics.tsx";
import { type Series, latencies, load, percentile, probe, readiness } from "./probes.ts";
import { Queues } from "./queues.tsx";
import { lookAtWork } from "./work.ts";
import { Workers } from "./workers.tsx";

const PROBE_MS = 2_000;
const WORK_MS = 3_000;

export function HealthPage() {
  usePoll(PROBE_MS, [], probe);
  usePoll(WORK_MS, [], (over) => (isKey() ? lookAtWork(over) : Promise.resolve()));
  // Each in its place from the first moment, so that none moves when another one answers.
  const { key, index, ...ofKey } = latencies;
  const isReplicated = index.value.times.length > 0;
  const shown = [key, ...(isKey() ? [...Object.values(ofKey), ...(isReplicated ? [index] : [])] : [])];
  return (
    <main class="page health">
      <div class="head">
        <h1>Health</h1>
        <Ready />
      </div>
      <section aria-label="Over time">
        <h2>Round trips from this page{isKey() && ", and runs"}</h2>
        <div class="cards">
          {shown.map((signal) => (
            <Latency key={signal.value.name} signal={signal} />
          ))}
          {isKey() && <Load />}
        </div>
      </section>
      {isKey() ? (
        <>
          <Workers />
          <Queues />
        </>
      ) : (
        <Empty title="Workers and queues are shown to a secret key">A scoped token sees its own session.</Empty>
      )}
    </main>
  );
}

function Ready() {
  const state = readiness.value;
  if (!state) return <span class="faint">asking…</span>;
  if (state.isReady) return <span class="pill active">ready</span>;
  return (
    <span role="status">
      <span class="pill failing">not ready</span> {state.text}
    </span>
  );
}

function Latency({ signal }: { signal: Signal<Series> }) {
  const series = signal.value;
  const values = series.lines[0]!;
  const last = values.at(-1);
  const typical = percentile(values, 0.5);
  const slow = percentile(values, 0.95);
  return (
    <Card
      series={series}
      more={typical === undefined ? "" : `half below ${typical.toFixed(1)}, 95 % below ${slow?.toFixed(1)} ms`}
    >
      {last === undefined ? "…" : last === null ? "no answer" : `${last.toFixed(1)} ms`}
    </Card>
  );
}

function Load() {
  const [pending, executing] = load.value.lines.map((line) => line.at(-1));
  const isThere = pending != null && executing != null;
  return (
    <Card series={load.value} more="of all queues">
      {isThere ? (
        <>
          {count(pending)} <small class="line-1">pending</small> {count(executing)}{" "}
          <small class="line-2">executing</small>
        </>
      ) : (
        (pending === undefined && "…") || "no answer"
      )}
    </Card>
  );
}

function Card({ series, more, children }: { series: Series; more: string; children: ComponentChildren }) {
  const Plot = usePlot();
  return (
    <article class="card" title={series.what}>
      <h3>{series.name}</h3>
      <p class="headline">{children}</p>
      <p class="faint">{more || " "}</p>
      {Plot ? <Plot series={series} /> : <div class="plot" />}
    </article>
  );
}

/** The plots come when this page is first looked at. */
const usePlot = () => useLoaded(() => part(import("./plot.tsx")), []).value?.Plot;
