// What a person said, out of what a chat sends.
import { type Fields, isObject } from "../channel/fields.ts";

/** The text of a payload, in any of the forms that clients give it. */
export function messageText(payload: Fields): string | undefined {
  const list = Array.isArray(payload.messages) ? payload.messages : [];
  const newest = list.findLast(
    (message: unknown) => typeof message === "string" || (isObject(message) && message.role === "user"),
  );
  const message = payload.message ?? newest;
  if (typeof message === "string") return message;
  if (!isObject(message)) return undefined;
  const parts = Array.isArray(message.parts) ? message.parts : message.content;
  if (typeof parts === "string") return parts;
  if (!Array.isArray(parts)) return typeof message.text === "string" ? message.text : undefined;
  const texts = parts.flatMap((part: unknown) => (isObject(part) && typeof part.text === "string" ? [part.text] : []));
  return texts.join("\n");
}
