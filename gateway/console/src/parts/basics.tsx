// The small parts that every page uses.
import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Failure } from "../app/failure.ts";
import { ago, fullTime } from "../app/format.ts";

/** When something was, with the exact time on hover. */
export function Ago({ ms }: { ms: number }) {
  const tell = (event: MouseEvent) => ((event.currentTarget as HTMLElement).title = fullTime(ms));
  return <time onMouseEnter={tell}>{ago(ms)}</time>;
}

/** `name.in`, of which a long name is cut and its side is not. */
export function ChannelLabel({ label }: { label: string }) {
  const dot = label.lastIndexOf(".");
  return (
    <span class="label" title={label}>
      <span>{label.slice(0, dot)}</span>
      {label.slice(dot)}
    </span>
  );
}

export function Note({ failure, onRetry }: { failure: Failure; onRetry?: () => void }) {
  return (
    <div class="note bad" role="alert">
      <div>
        <strong>{failure.title}</strong>
        <p>
          {failure.text}
          {!/[.!?]\s*$/.test(failure.text) && "."}
          {failure.isClean && " Nothing was changed."}
        </p>
        {failure.reason && <code>{failure.reason}</code>}
      </div>
      {onRetry && (
        <button type="button" onClick={onRetry}>
          Try again
        </button>
      )}
    </div>
  );
}

export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <strong>{title}</strong>
      {children && <div>{children}</div>}
    </div>
  );
}

export function Copy({ text, label = "Copy" }: { text: string; label?: string }) {
  const [isDone, setIsDone] = useState(false);
  useEffect(() => {
    if (!isDone) return;
    const timer = setTimeout(() => setIsDone(false), 1500);
    return () => clearTimeout(timer);
  }, [isDone]);
  return (
    <button type="button" class="quiet copy" onClick={async () => setIsDone(await copied(text))}>
      <span aria-live="polite">{isDone ? "Copied" : label}</span>
    </button>
  );
}

/** Pages that are not served over TLS have no clipboard but the old one. */
async function copied(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "offscreen";
    (document.querySelector("dialog[open]") ?? document.body).append(area);
    area.select();
    const isDone = document.execCommand("copy");
    area.remove();
    return isDone;
  }
}

interface DialogProps {
  title: string;
  onClose: () => void;
  children: ComponentChildren;
  isWide?: boolean;
}

export function Dialog({ title, onClose, children, isWide }: DialogProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  // A passive effect would give the focus back a frame late, and take it from where it went meanwhile.
  useLayoutEffect(() => {
    const before = document.activeElement;
    const element = dialog.current;
    element?.showModal();
    return () => {
      // What lies behind an open one takes no focus.
      element?.close();
      if (before instanceof HTMLElement) before.focus();
    };
  }, []);
  // The browser tells of a close a moment later, when another dialog may be open that is not meant.
  const isOver = useRef(false);
  const close = () => {
    if (!isOver.current) onClose();
    isOver.current = true;
  };
  const outside = (event: MouseEvent) => event.target === dialog.current && close();
  return (
    <dialog
      ref={dialog}
      class={isWide ? "wide" : undefined}
      aria-label={title}
      onCancel={close}
      onClose={close}
      onMouseDown={outside}
    >
      <div class="dialog">
        <header>
          <h2>{title}</h2>
          <button type="button" class="quiet" aria-label="Close dialog" onClick={close}>
            ✕
          </button>
        </header>
        {children}
      </div>
    </dialog>
  );
}

/** A choice of a few, of which one holds. */
export function Segments<T extends string>(props: {
  label: string;
  options: readonly (readonly [T, string])[];
  value: T;
  onChange: (value: T) => void;
}) {
  return (
    <div class="segments" role="group" aria-label={props.label}>
      {props.options.map(([value, text]) => (
        <button type="button" key={value} aria-pressed={props.value === value} onClick={() => props.onChange(value)}>
          {text}
        </button>
      ))}
    </div>
  );
}
