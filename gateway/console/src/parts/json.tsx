// A value as a tree. Whatever it says becomes text and nothing else; what is closed does not exist.
import { useState } from "preact/hooks";
import { count } from "../app/format.ts";

/** What is small is open at once. */
const OPEN_DEPTH = 6;
const OPEN_CHILDREN = 20;
const CHILDREN_STEP = 100;
const TEXT_STEP = 8_000;

export function Json({ value, name, depth = 0 }: { value: unknown; name?: string; depth?: number }) {
  if (typeof value === "object" && value !== null) return <Branch value={value} name={name} depth={depth} />;
  return (
    <div class="json-leaf">
      {name !== undefined && <span class="json-name">{name}: </span>}
      {typeof value === "string" ? (
        <Text text={value} isQuoted />
      ) : (
        <span class={`json-${typeof value}`}>{String(value)}</span>
      )}
    </div>
  );
}

function Branch({ value, name, depth }: { value: object; name?: string; depth: number }) {
  const isList = Array.isArray(value);
  const entries = Object.entries(value);
  const [isOpen, setIsOpen] = useState(depth < 2 || (depth < OPEN_DEPTH && entries.length <= OPEN_CHILDREN));
  const [shown, setShown] = useState(CHILDREN_STEP);
  const size = isList ? `[${count(entries.length)}]` : `{${count(entries.length)}}`;
  if (entries.length === 0)
    return (
      <div class="json-leaf">
        {name !== undefined && <span class="json-name">{name}: </span>}
        {isList ? "[ ]" : "{ }"}
      </div>
    );
  return (
    <div class="json-branch">
      <button type="button" class="json-fold" aria-expanded={isOpen} onClick={() => setIsOpen(!isOpen)}>
        {name !== undefined && <span class="json-name">{name} </span>}
        <span class="json-size">{size}</span>
      </button>
      {isOpen && (
        <div class="json-children">
          {entries.slice(0, shown).map(([key, child]) => (
            <Json key={key} name={key} value={child} depth={depth + 1} />
          ))}
          {entries.length > shown && (
            <button type="button" class="more" onClick={() => setShown(shown + CHILDREN_STEP)}>
              {count(entries.length - shown)} more
            </button>
          )}
        </div>
      )}
    </div>
  );
}

/** Text of any length, shown in pieces: a megabyte in one would stand still. */
export function Text({ text, isQuoted }: { text: string; isQuoted?: boolean }) {
  const [shown, setShown] = useState(TEXT_STEP);
  const piece = text.length > shown ? text.slice(0, shown) : text;
  return (
    <>
      <span class={isQuoted ? "json-string" : "plain"}>{isQuoted ? JSON.stringify(piece) : piece}</span>
      {text.length > shown && (
        <button type="button" class="more" onClick={() => setShown(shown * 4)}>
          {count(text.length - shown)} more characters
        </button>
      )}
    </>
  );
}

const LINE = 16;
const LINES_STEP = 128;

/** Bytes that are no text, as offset, hexadecimal and what can be printed. */
export function Bytes({ bytes }: { bytes: Uint8Array }) {
  const [lines, setLines] = useState(LINES_STEP);
  const seen = bytes.subarray(0, lines * LINE);
  const out: string[] = [];
  for (let at = 0; at < seen.length; at += LINE) {
    const line = [...seen.subarray(at, at + LINE)];
    const hex = line.map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
    const print = line.map((byte) => (byte > 31 && byte < 127 ? String.fromCharCode(byte) : "·")).join("");
    out.push(`${at.toString(16).padStart(5, "0")}  ${hex.padEnd(LINE * 3)} ${print}`);
  }
  return (
    <>
      <pre class="hex" tabIndex={0} aria-label="Bytes">
        {out.join("\n")}
      </pre>
      {bytes.length > seen.length && (
        <button type="button" class="more" onClick={() => setLines(lines * 4)}>
          {count(bytes.length - seen.length)} more bytes
        </button>
      )}
    </>
  );
}
