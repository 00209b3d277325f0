// A stored record as the page shows it: what kind it is, in one line, and in full.
import { messageText } from "../chat/message.ts";
import { isObject } from "./fields.ts";
import type { Record as Stored } from "../gen/continuo/v1/channel_pb.ts";

/** Largest body that is parsed for its one line; of a larger one the beginning is shown as it is. */
const PARSED_BYTES_MAX = 4_096;
/** Longest line; a row never shows more. */
const LINE_MAX = 400;

export type Kind = "data" | "control" | "command" | "binary";

export interface Entry {
  seq: number;
  ms: number;
  kind: Kind;
  /** Type of the chunk, name of the control record, or the command. */
  tag: string;
  line: string;
  body: Uint8Array;
  headers: [string, string][];
}

/** Numbers that no reader gets any more. */
export interface Hole {
  from: number;
  to: number;
}

const strict = new TextDecoder("utf-8", { fatal: true });
const lenient = new TextDecoder();

export function entryOf(record: Stored): Entry {
  const headers = record.headers.map(({ name, value }): [string, string] => [
    lenient.decode(name),
    lenient.decode(value),
  ]);
  const entry: Entry = {
    seq: Number(record.seqNum),
    ms: Number(record.timestampMs),
    kind: "data",
    tag: "",
    line: "",
    body: record.body,
    headers,
  };
  const control = headers.find(([name]) => name === "trigger-control")?.[1];
  if (headers.length === 1 && headers[0]![0] === "") {
    entry.kind = "command";
    entry.tag = headers[0]![1];
    entry.line = commandLine(entry);
  } else if (control !== undefined) {
    entry.kind = "control";
    entry.tag = control;
    entry.line = headers
      .flatMap(([name, value]) => (name === "trigger-control" ? [] : [`${name}: ${value}`]))
      .join("  ");
  } else {
    describe(entry);
  }
  entry.line = entry.line.slice(0, LINE_MAX).replace(UNSEEN, seen);
  return entry;
}

/** What would break the line or turn the letters around it. */
const UNSEEN = /[\n\r\u202a-\u202e\u2066-\u2069]/g;
const seen = (char: string) => (char < " " ? "⏎" : `\\u${char.charCodeAt(0).toString(16)}`);

function commandLine({ tag, body }: Entry): string {
  if (tag === "trim" && body.length === 8) {
    return `everything before ${new DataView(body.buffer, body.byteOffset, 8).getBigUint64(0)}`;
  }
  return tag === "fence" ? `fenced for ${lenient.decode(body) || "nobody"}` : "";
}

function describe(entry: Entry): void {
  const { body } = entry;
  const isWhole = body.length <= PARSED_BYTES_MAX;
  const text = textOf(isWhole ? body : body.subarray(0, LINE_MAX), isWhole);
  if (text === undefined) {
    entry.kind = "binary";
    entry.tag = "binary";
    entry.line = [...body.subarray(0, 24)].map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
    return;
  }
  const data = isWhole ? payload(parsed(text)) : undefined;
  entry.tag = tagOf(data) ?? /"(?:type|kind)\\?":\\?"([\w:.-]{1,40})/.exec(text)?.[1] ?? "";
  // What is too long to be parsed is shown without the envelope that REST puts around it.
  entry.line = lineOf(data) ?? text.replace(/^\{"data":"?/, "").replaceAll('\\"', '"');
}

/** The text of some bytes; undefined if they are none. A piece may end in the middle of a character. */
export function textOf(body: Uint8Array, isWhole = true): string | undefined {
  try {
    return (isWhole ? strict : new TextDecoder("utf-8", { fatal: true })).decode(body, { stream: !isWhole });
  } catch {
    return undefined;
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** What was said, out of the envelope `{"data": …, "id": …}` that REST puts around it; data that is JSON text is read too. */
export function payload(value: unknown): unknown {
  if (!isObject(value) || !("data" in value)) return value;
  if (typeof value.data !== "string") return value.data;
  const inner = parsed(value.data);
  return typeof inner === "object" && inner !== null ? inner : value.data;
}

/** The value of a whole record, if it is JSON or text. */
export function valueOf(entry: Entry): unknown {
  const text = textOf(entry.body);
  if (text === undefined) return undefined;
  const value = parsed(text);
  return payload(value === undefined ? text : value);
}

function tagOf(data: unknown): string | undefined {
  if (!isObject(data)) return undefined;
  const { type, kind } = data;
  return typeof type === "string" ? type : typeof kind === "string" ? kind : undefined;
}

function lineOf(data: unknown): string | undefined {
  if (typeof data === "string") return data;
  if (!isObject(data)) return data === undefined ? undefined : JSON.stringify(data);
  if (typeof data.delta === "string") return data.delta;
  if (data.kind === "message" && isObject(data.payload)) {
    const text = messageText(data.payload);
    if (text !== undefined) return text;
  }
  const { type: _type, kind: _kind, ...rest } = data;
  return Object.keys(rest).length === 0 ? "" : JSON.stringify(rest);
}
