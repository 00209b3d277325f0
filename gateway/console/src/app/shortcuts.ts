// Keys that work everywhere, except where one types.
import { go, page } from "./route.ts";

export const SHORTCUTS = [
  ["?", "this list"],
  ["/", "search sessions by name"],
  ["j k", "next and previous row of a list, as ↓ and ↑"],
  ["Enter", "open the selected row, send a message"],
  ["m", "write a message"],
  ["g s", "sessions"],
  ["g p", "playground"],
  ["g h", "health"],
  ["g d", "docs"],
  ["Esc", "leave a field, close a dialog"],
] as const;

const PLACES: Record<string, string> = { s: "sessions", p: "playground", h: "health", d: "docs" };
/** The second key of two counts for so long. */
const PAIR_MS = 1_000;

export function listen(showHelp: () => void): () => void {
  let goneAt = -Infinity;
  const pressed = (event: KeyboardEvent) => {
    const { target, key } = event;
    if (event.metaKey || event.ctrlKey || event.altKey || !(target instanceof HTMLElement)) return;
    if (target.matches("input, textarea, select")) {
      if (key === "Escape") target.blur();
      return;
    }
    if (target.closest("dialog")) return;
    const place = PLACES[key];
    if (place && performance.now() - goneAt < PAIR_MS) go([place]);
    goneAt = key === "g" ? performance.now() : -Infinity;
    if (key === "?") showHelp();
    if (key === "/") search(event);
    if (key === "m") focus(event, "#composer");
    if ((key === "j" || key === "k") && !target.closest(".virtual")) focus(event, ".virtual");
  };
  addEventListener("keydown", pressed);
  return () => removeEventListener("keydown", pressed);
}

function search(event: KeyboardEvent): void {
  if (page.value === "sessions" && document.querySelector("#search")) return focus(event, "#search");
  event.preventDefault();
  // The page is there two frames after the address changed.
  const arrived = () =>
    requestAnimationFrame(() => requestAnimationFrame(() => document.querySelector<HTMLElement>("#search")?.focus()));
  addEventListener("hashchange", arrived, { once: true });
  go(["sessions"]);
}

function focus(event: KeyboardEvent, selector: string): void {
  const element = document.querySelector<HTMLElement>(selector);
  if (!element) return;
  event.preventDefault();
  element.focus();
}
