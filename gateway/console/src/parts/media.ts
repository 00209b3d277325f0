// How wide the window is, for what style sheets cannot decide.
import { signal } from "@preact/signals";

const watched = (query: string) => {
  const list = matchMedia(query);
  const holds = signal(list.matches);
  list.addEventListener("change", () => (holds.value = list.matches));
  return holds;
};

export const isNarrow = watched("(max-width: 760px)");
export const isDark = watched("(prefers-color-scheme: dark)");
