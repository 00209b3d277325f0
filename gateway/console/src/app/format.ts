// Times, sizes and names as a person reads them.
import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { signal } from "@preact/signals";

/** The time that relative times are told from; moves once a second while somebody looks. */
export const now = signal(Date.now());
setInterval(() => {
  if (!document.hidden) now.value = Date.now();
}, 1000);

export const msOf = (time: Timestamp | undefined): number | undefined =>
  time && Number(time.seconds) * 1000 + Math.floor(time.nanos / 1e6);

const clock = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  hour12: false,
});
const day = new Intl.DateTimeFormat(undefined, {
  month: "short",
  day: "numeric",
  hour: "2-digit",
  minute: "2-digit",
  hour12: false,
});
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });
const number = new Intl.NumberFormat(undefined);

export const count = (n: number | bigint) => number.format(n);
export const fullTime = (ms: number) => full.format(ms);
export const clockTime = (ms: number) => `${clock.format(ms)}.${String(Math.floor(ms % 1000)).padStart(3, "0")}`;

/** How long ago, and the day once that says more. */
export function ago(ms: number, at = now.value): string {
  const s = Math.max(0, Math.round((at - ms) / 1000));
  if (s < 5) return "just now";
  if (s < 60) return `${s} s ago`;
  if (s < 3600) return `${Math.floor(s / 60)} min ago`;
  if (s < 86_400) return `${Math.floor(s / 3600)} h ago`;
  return day.format(ms);
}

export function duration(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(ms < 10_000 ? 1 : 0)} s`;
  if (ms < 3_600_000) return `${Math.floor(ms / 60_000)} min ${Math.floor((ms % 60_000) / 1000)} s`;
  return `${Math.floor(ms / 3_600_000)} h ${Math.floor((ms % 3_600_000) / 60_000)} min`;
}

export function bytes(n: number): string {
  if (n < 1024) return `${n} B`;
  if (n < 1024 * 1024) return `${(n / 1024).toFixed(n < 10_240 ? 1 : 0)} KiB`;
  return `${(n / 1024 / 1024).toFixed(1)} MiB`;
}

/** The end of a long id is what differs. */
export const short = (id: string) => (id.length > 14 ? `${id.slice(0, id.indexOf("_") + 1)}…${id.slice(-6)}` : id);
