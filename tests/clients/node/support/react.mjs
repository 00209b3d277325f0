// A page with one component that calls one hook.
import { JSDOM } from "jsdom";
import { until } from "./wait.mjs";

const { window } = new JSDOM("<!doctype html><div></div>", { url: "http://page.example/" });
for (const [name, value] of Object.entries({ window, document: window.document, navigator: window.navigator })) {
  // Newer runtimes have a navigator that cannot be assigned.
  Object.defineProperty(globalThis, name, { value, configurable: true });
}
// Only now: both look for a page when they are loaded.
const { createElement } = await import("react");
const { createRoot } = await import("react-dom/client");

/** Mounts it; `hook` is called on every render, and what it returned last is `current`. */
export function mount(hook) {
  const root = createRoot(window.document.createElement("div"));
  const page = {
    current: undefined,
    until: (is, what) => until(() => page.current !== undefined && is(page.current) && page.current, what),
    unmount: () => root.unmount(),
  };
  const Page = () => ((page.current = hook()), null);
  root.render(createElement(Page));
  return page;
}
