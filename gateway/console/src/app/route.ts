// Where the page is. Everything after `#` belongs to the page and is never sent to a server, so a deep link needs no fallback there.
import { computed, signal } from "@preact/signals";

export interface Route {
  /** The parts of the path, decoded. */
  path: string[];
  /** What stands after the question mark: filters, panes, the view. */
  query: URLSearchParams;
}

export const route = signal<Route>(read());
export const page = computed(() => route.value.path[0] ?? "sessions");

function read(): Route {
  const [path = "", query = ""] = location.hash.replace(/^#\/?/, "").split("?", 2);
  return { path: path.split("/").filter(Boolean).map(decoded), query: new URLSearchParams(query) };
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

addEventListener("hashchange", () => (route.value = read()));

/** A link to a place in the console. */
export function href(path: string[], query?: URLSearchParams): string {
  const text = query?.toString();
  return `#/${path.map(encodeURIComponent).join("/")}${text ? `?${text}` : ""}`;
}

export function go(path: string[], query?: URLSearchParams): void {
  location.hash = href(path, query);
}

/** Changes the query in place, so that typing a filter leaves one step to go back and not one for each letter. */
export function setQuery(change: (query: URLSearchParams) => void): void {
  const { path, query } = route.value;
  const changed = new URLSearchParams(query);
  change(changed);
  history.replaceState(null, "", href(path, changed));
  route.value = read();
}
