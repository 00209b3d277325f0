// A small line or two over time.
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import { isDark } from "../parts/media.ts";
import { type Series } from "./probes.ts";

const HEIGHT = 120;
/** Seconds that are shown, whether or not they have all been seen. */
const SHOWN_S = 300;
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hour12: false });

export function Plot({ series }: { series: Series }) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot>(undefined);
  const data = (): uPlot.AlignedData => [series.times, ...series.lines];
  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const made = new uPlot(options(element, series.lines.length), data(), element);
    plot.current = made;
    const seen = new ResizeObserver(() => made.setSize({ width: element.clientWidth, height: HEIGHT }));
    seen.observe(element);
    return () => {
      seen.disconnect();
      made.destroy();
    };
  }, [isDark.value]);
  useEffect(() => plot.current?.setData(data()), [series]);
  return <div class="plot" ref={box} aria-hidden="true" />;
}

function options(element: HTMLElement, lines: number): uPlot.Options {
  const style = getComputedStyle(element);
  const colour = (name: string) => style.getPropertyValue(name).trim();
  const axis = {
    stroke: style.color,
    font: `11px ${style.fontFamily}`,
    ticks: { show: false },
    grid: { stroke: colour("--plot-grid"), width: 1 },
  };
  return {
    width: element.clientWidth,
    height: HEIGHT,
    legend: { show: false },
    cursor: { show: false },
    scales: {
      x: { range: (_plot, _min, max) => [(max ?? 0) - SHOWN_S, max ?? 0] },
      y: { range: (_plot, _min, max) => [0, Math.max(1, (max ?? 0) * 1.15)] },
    },
    series: [
      {},
      ...["--plot-line", "--plot-line-2"]
        .slice(0, lines)
        .map((name) => ({ stroke: colour(name), width: 1.5, points: { show: false } })),
    ],
    axes: [
      {
        ...axis,
        grid: { show: false },
        space: 60,
        size: 26,
        incrs: [60, 120, 300],
        values: (_plot, times) => times.map((s) => clock.format(s * 1000)),
      },
      { ...axis, size: 38, space: 28 },
    ],
  };
}
