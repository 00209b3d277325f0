// How the server does right now.
import type { Signal } from "@preact/signals";
import type { ComponentType } from "preact";
import { useEffect, useState } from "preact/hooks";
import { count } from "../app/format.ts";
import { isKey } from "../app/key.ts";
import { usePoll } from "../app/poll.ts";
import { Empty } from "../parts/basics.tsx";
import { RunPill } from "../session/status.tsx";
import {
  type Series,
  latencies,
  lookAtWork,
  percentile,
  probe,
  readiness,
  work,
} from "./probes.ts";

const PROBE_MS = 2_000;
const WORK_MS = 5_000;

export function HealthPage() {
  usePoll(PROBE_MS, [], probe);
  usePoll(WORK_MS, [], (over) => (isKey() ? lookAtWork(over) : Promise.resolve()));
  return (
    <main class="page health">
      <div class="head">
        <h1>Health</h1>
        <Ready />
      </div>
      <section aria-label="Round trips">
        <h2>Round trips from this page</h2>
        <div class="cards">
          {Object.values(latencies).map((signal) => (
            <Latency key={signal.value.name} signal={signal} />
          ))}
        </div>
      </section>
      <section aria-label="Work">
        <h2>Work</h2>
        {isKey() ? <WorkNow /> : <Empty title="Queues are shown to a secret key" />}
      </section>
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
  const last = series.values.at(-1);
  const typical = percentile(series.values, 0.5);
  const slow = percentile(series.values, 0.95);
  if (series.times.length === 0) return null;
  const headline = last == null ? "no answer" : `${last.toFixed(1)} ms`;
  return (
    <Card
      series={series}
      headline={headline}
      more={typical === undefined ? "" : `half below ${typical.toFixed(1)}, 95 % below ${slow?.toFixed(1)} ms`}
    />
  );
}

function Card({ series, headline, more }: { series: Series; headline: string; more?: string }) {
  const Plot = usePlot();
  return (
    <article class="card" title={series.what}>
      <h3>{series.name}</h3>
      <p class="headline">{headline}</p>
      <p class="faint">{more || " "}</p>
      {Plot ? <Plot series={series} /> : <div class="plot" />}
    </article>
  );
}

/** The plots come when this page is first looked at. */
function usePlot(): ComponentType<{ series: Series }> | undefined {
  const [plot, setPlot] = useState<{ Plot: ComponentType<{ series: Series }> }>();
  useEffect(() => void import("./plot.tsx").then(setPlot), []);
  return plot?.Plot;
}

function WorkNow() {
  const now = work.value;
  if (!now) return <Empty title="Reading…" />;
  return (
    <>
      <ul class="work">
        {now.byStatus.map(({ status, count: n, isMore }) => (
          <li key={status}>
            <RunPill status={status} />
            <strong>
              {count(n)}
              {isMore && "+"}
            </strong>
          </li>
        ))}
      </ul>
      {now.byQueue.length > 0 && (
        <table>
          <thead>
            <tr>
              <th scope="col">Queue</th>
              <th scope="col" class="right">
                Waiting
              </th>
              <th scope="col" class="right">
                Executing
              </th>
            </tr>
          </thead>
          <tbody>
            {now.byQueue.slice(0, 50).map(({ queue, waiting, executing }) => (
              <tr key={queue}>
                <td>
                  <code>{queue}</code>
                </td>
                <td class="right">{count(waiting)}</td>
                <td class="right">{count(executing)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      <p class="faint">Of each status the newest hundred runs are looked at.</p>
    </>
  );
}
