// A conversation, folded from the records of `.in` and `.out`: messages of the AI SDK, put together from their chunks.
import { signal } from "@preact/signals";
import { type Fields, isObject } from "../channel/fields.ts";
import { type Entry, valueOf } from "../channel/record.ts";
import { messageText } from "./message.ts";

export type Part =
  | { type: "text" | "reasoning"; id: string; text: string; isDone: boolean }
  | {
      type: "tool";
      id: string;
      name: string;
      input: unknown;
      inputText: string;
      output: unknown;
      error?: string;
      state: string;
    }
  | { type: "file"; url: string; mediaType: string }
  | { type: "source"; title: string }
  | { type: "data"; name: string; value: unknown };

export interface Said {
  key: string;
  ms: number;
  by: "user" | "assistant";
  parts: Part[];
  metadata?: unknown;
  state: "streaming" | "done" | "aborted" | "cut off" | "failed";
  error?: string;
  /** Rises with every change, so that only what changed is drawn again. */
  version: number;
}

/** What happened between messages. */
export interface Event {
  key: string;
  ms: number;
  by: "event";
  text: string;
}

export type Item = Said | Event;

export class Thread {
  items: Item[] = [];
  readonly version = signal(0);
  #open: Said | undefined;
  #byId = new Map<string, Said>();
  #isDue = false;

  /** An answer is under way. */
  get isStreaming(): boolean {
    return this.#open?.state === "streaming";
  }

  takeIn(entries: Entry[]): void {
    for (const entry of entries) if (entry.kind === "data") this.#heard(entry, valueOf(entry));
    this.#due();
  }

  takeOut(entries: Entry[]): void {
    for (const entry of entries) {
      if (entry.kind === "control") this.#control(entry);
      else if (entry.kind === "data") this.#chunk(entry, valueOf(entry));
    }
    this.#due();
  }

  #heard(entry: Entry, value: unknown): void {
    const event = (text: string) => this.#place({ key: `in-${entry.seq}`, ms: entry.ms, by: "event", text });
    if (!isObject(value)) return this.#said(entry, typeof value === "string" ? value : JSON.stringify(value));
    if (value.kind === "stop") return event("asked to stop");
    if (typeof value.kind === "string" && value.kind !== "message") return event(value.kind);
    const payload = isObject(value.payload) ? value.payload : value;
    if (payload.trigger === "close")
      return event(`closed${payload.closedReason ? `: ${String(payload.closedReason)}` : ""}`);
    if (payload.trigger === "regenerate-message") return event("asked to answer anew");
    const text = messageText(payload);
    if (text !== undefined) this.#said(entry, text);
    else if (value.kind !== "message") this.#said(entry, JSON.stringify(value));
  }

  #said(entry: Entry, text: string): void {
    const parts: Part[] = [{ type: "text", id: "", text, isDone: true }];
    this.#place({ key: `in-${entry.seq}`, ms: entry.ms, by: "user", parts, state: "done", version: 0 });
  }

  #control({ tag, seq, ms, headers }: Entry): void {
    if (tag === "turn-complete") {
      if (this.#open?.state === "streaming") this.#end("done");
      return;
    }
    const more = headers.find(([name]) => name === "session-closed-reason")?.[1];
    this.#place({ key: `out-${seq}`, ms, by: "event", text: more ? `${tag}: ${more}` : tag });
  }

  #chunk(entry: Entry, chunk: unknown): void {
    if (!isObject(chunk) || typeof chunk.type !== "string") return;
    if (chunk.type === "start") return this.#start(entry, chunk);
    const said = this.#open ?? this.#begin(entry, `out-${entry.seq}`);
    fold(said, chunk.type, chunk);
    if (chunk.type === "finish") this.#end("done");
    if (chunk.type === "abort") this.#end("aborted");
    if (chunk.type === "error") {
      said.error = String(chunk.errorText ?? "The agent reported an error");
      this.#end("failed");
    }
    said.version++;
  }

  #start(entry: Entry, chunk: Fields): void {
    if (this.#open) this.#end("cut off");
    const id = typeof chunk.messageId === "string" ? chunk.messageId : `out-${entry.seq}`;
    const before = this.#byId.get(id);
    if (before) {
      before.state = "streaming";
      this.#open = before;
    }
    const said = before ?? this.#begin(entry, id);
    said.metadata = chunk.messageMetadata ?? said.metadata;
    said.version++;
  }

  #begin(entry: Entry, key: string): Said {
    const said: Said = { key, ms: entry.ms, by: "assistant", parts: [], state: "streaming", version: 0 };
    this.#byId.set(key, said);
    this.#open = said;
    this.#place(said);
    return said;
  }

  #end(state: Said["state"]): void {
    if (!this.#open) return;
    this.#open.state = state;
    this.#open.version++;
    this.#open = undefined;
  }

  /** In order of time; what comes is nearly always the newest. */
  #place(item: Item): void {
    let at = this.items.length;
    while (at > 0 && this.items[at - 1]!.ms > item.ms) at--;
    this.items.splice(at, 0, item);
  }

  #due(): void {
    if (this.#isDue) return;
    this.#isDue = true;
    requestAnimationFrame(() => {
      this.#isDue = false;
      this.version.value++;
    });
  }
}

function fold(said: Said, type: string, chunk: Fields): void {
  const id = String(chunk.id ?? "");
  const text = /^(text|reasoning)-(start|delta|end)$/.exec(type);
  if (text) return foldText(said, text[1] as "text" | "reasoning", text[2]!, id, String(chunk.delta ?? ""));
  if (type.startsWith("tool-")) return foldTool(said, type, chunk);
  if (type === "file")
    said.parts.push({ type: "file", url: String(chunk.url), mediaType: String(chunk.mediaType ?? "") });
  else if (type.startsWith("source-"))
    said.parts.push({ type: "source", title: String(chunk.title ?? chunk.url ?? "") });
  else if (type.startsWith("data-")) said.parts.push({ type: "data", name: type.slice(5), value: chunk.data });
  else if (chunk.messageMetadata !== undefined) said.metadata = chunk.messageMetadata;
}

function foldText(said: Said, type: "text" | "reasoning", step: string, id: string, delta: string): void {
  let part = said.parts.findLast((part) => part.type === type && part.id === id && !part.isDone);
  if (part?.type !== type) {
    part = { type, id, text: "", isDone: false };
    said.parts.push(part);
  }
  if (step === "delta") part.text += delta;
  if (step === "end") part.isDone = true;
}

function foldTool(said: Said, type: string, chunk: Fields): void {
  const id = String(chunk.toolCallId ?? "");
  let tool = said.parts.find((part) => part.type === "tool" && part.id === id);
  if (tool?.type !== "tool") {
    tool = {
      type: "tool",
      id,
      name: String(chunk.toolName ?? "tool"),
      input: undefined,
      inputText: "",
      output: undefined,
      state: "",
    };
    said.parts.push(tool);
  }
  tool.state = type.slice("tool-".length);
  if (type === "tool-input-delta") tool.inputText += String(chunk.inputTextDelta ?? "");
  if (chunk.input !== undefined) tool.input = chunk.input;
  if (chunk.output !== undefined) tool.output = chunk.output;
  if (chunk.errorText !== undefined) tool.error = String(chunk.errorText);
}
