// What is around every page: where one can go, whether the server answers, and with which key.
import { useSignal, useSignalEffect } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { HealthPage } from "../health/page.tsx";
import { Dialog, Note } from "../parts/basics.tsx";
import { PlaygroundPage } from "../playground/page.tsx";
import { SessionPage } from "../session/page.tsx";
import { SessionsPage } from "../sessions/page.tsx";
import { silentSince } from "./api.ts";
import { duration, now, short } from "./format.ts";
import { forget, holder, key, kindName, refused } from "./key.ts";
import { KeyEntry } from "./key_entry.tsx";
import { part, useLoaded } from "./loaded.ts";
import { href, page, route } from "./route.ts";
import { SHORTCUTS, listen } from "./shortcuts.ts";
import { Refused } from "./refused.tsx";

const PAGES = [
  ["sessions", "Sessions"],
  ["playground", "Playground"],
  ["health", "Health"],
  ["docs", "Docs"],
] as const;

export function Shell() {
  const isHelpOpen = useSignal(false);
  useEffect(() => listen(() => (isHelpOpen.value = true)), []);
  // A new page begins at its top.
  useSignalEffect(() => {
    page.value;
    scrollTo(0, 0);
  });
  const isOpen = page.value === "docs" || (key.value !== "" && holder.value !== undefined);
  return (
    <>
      <a class="skip" href="#main" onClick={skip}>
        Skip to content
      </a>
      <header class="top">
        <a class="brand" href={href(["sessions"])}>
          <svg viewBox="0 0 24 16" width="24" height="16" aria-hidden="true">
            <path d="M1 11h22" />
            <path d="M2 6c3-5 5-5 7 0s5 5 7 0 4-4 6-1" />
          </svg>
          continuo
        </a>
        <nav aria-label="Pages">
          {PAGES.map(([name, text]) => (
            <a key={name} href={href([name])} aria-current={page.value === name ? "page" : undefined}>
              {text}
            </a>
          ))}
        </nav>
        <span class="grow" />
        <button
          type="button"
          class="quiet help"
          aria-label="Keyboard shortcuts"
          onClick={() => (isHelpOpen.value = true)}
        >
          ?
        </button>
        <Who />
      </header>
      {refused.value && key.value !== "" && page.value !== "docs" ? <Refused /> : <Link />}
      {isOpen ? <Page /> : <KeyEntry />}
      {isHelpOpen.value && <Help onClose={() => (isHelpOpen.value = false)} />}
    </>
  );
}

function skip(event: MouseEvent): void {
  event.preventDefault();
  const main = document.querySelector("main");
  if (!main) return;
  main.tabIndex = -1;
  main.focus();
}

function Page() {
  const [name, first] = route.value.path;
  switch (name) {
    case "playground":
      return <PlaygroundPage />;
    case "health":
      return <HealthPage />;
    case "docs":
      return <Docs />;
    default:
      return name === "sessions" && first ? <SessionPage key={first} name={first} /> : <SessionsPage />;
  }
}

/** Read by few visitors, so it comes when it is asked for. */
function Docs() {
  const { value, failure, again } = useLoaded(() => part(import("../docs/page.tsx")), []);
  return value ? <value.DocsPage /> : <main class="page">{failure && <Note failure={failure} onRetry={again} />}</main>;
}

function Who() {
  const who = holder.value;
  if (!who) return null;
  return (
    <span class="who">
      <span class="faint" title={who.environmentId}>
        {kindName(who.kind)} · {short(who.environmentId)}
      </span>
      <button type="button" class="quiet" onClick={forget}>
        Leave
      </button>
    </span>
  );
}

/** Says that the server is silent, and for how long; nothing else stops working. */
function Link() {
  const since = silentSince.value;
  if (since === undefined) return <div role="status" class="link" />;
  return (
    <div role="status" class="link away">
      <span>
        The server does not answer
        {now.value - since > 3_000 && `, for ${duration(now.value - since)} now`}. The page keeps trying.
      </span>
    </div>
  );
}

function Help({ onClose }: { onClose: () => void }) {
  return (
    <Dialog title="Keyboard" onClose={onClose}>
      <dl class="shortcuts">
        {SHORTCUTS.map(([keys, what]) => (
          <div key={what}>
            <dt>
              {keys.split(" ").map((key) => (
                <kbd key={key}>{key}</kbd>
              ))}
            </dt>
            <dd>{what}</dd>
          </div>
        ))}
      </dl>
    </Dialog>
  );
}
