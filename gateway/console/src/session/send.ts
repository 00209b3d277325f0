// Says something on a channel. Each thing has a name of its own, so that sending it again after a lost answer makes no second record.
import { channels } from "../app/api.ts";
import type { Channel } from "../channel/follower.ts";
import { Boot, Direction } from "../gen/continuo/v1/channel_pb.ts";

const utf8 = new TextEncoder();

/** A name for one thing to be sent. `crypto.randomUUID` exists over TLS and on this machine only. */
export function partId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** One record; `text` travels as SDKs and REST send it. */
export async function append(channel: Channel, text: string, id: string, boot = Boot.DEFAULT): Promise<number> {
  const body = utf8.encode(JSON.stringify({ data: text, id }));
  const { start } = await channels.append({ channel, records: [{ body }], partId: id, boot });
  return Number(start?.seqNum ?? 0);
}

/** What a chat sends when a person says something. */
export function chatMessage(session: string, text: string, id: string): string {
  const message = { id, role: "user", parts: [{ type: "text", text }] };
  return JSON.stringify({ kind: "message", payload: { chatId: session, trigger: "submit-message", message } });
}

export const STOP = JSON.stringify({ kind: "stop" });

export const inOf = (session: string): Channel => ({ session, name: "", direction: Direction.IN });
export const outOf = (session: string): Channel => ({ session, name: "", direction: Direction.OUT });
