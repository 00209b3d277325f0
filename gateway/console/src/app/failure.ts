// What went wrong, in words: what happened, whether anything was changed, and what can be done.
import { Code, ConnectError } from "@connectrpc/connect";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "../gen/google/rpc/error_details_pb.ts";
import { isAway } from "./api.ts";

export interface Failure {
  title: string;
  text: string;
  /** Name from error_reason.proto, if the server gave one. */
  reason?: string;
  /** Nothing was changed, for certain. */
  isClean: boolean;
  /** Trying again can help. */
  isPassing: boolean;
}

const TITLES: Record<string, string> = {
  UNAUTHENTICATED: "The server does not accept this key",
  PERMISSION_DENIED: "This key may not do that",
  IN_NEEDS_SECRET_KEY: "The reserved .in is read with a secret key only",
  OUT_NEEDS_SECRET_KEY: "The reserved .out is written with a secret key only",
  SESSION_NOT_FOUND: "There is no such session",
  SESSION_CLOSED: "The session is closed",
  SESSION_EXPIRED: "The session has expired",
  SESSION_ALREADY_CLOSED: "A closed session has this name",
  EXTERNAL_ID_TAKEN: "Another session has this name",
  RECORD_TOO_LARGE: "The record is too large",
  FENCED: "A newer run holds this channel",
  PAST_TAIL: "The channel is shorter than that",
  RUN_NOT_FOUND: "There is no such run",
  LIMIT_EXCEEDED: "A limit is used up for now",
  OUTCOME_UNKNOWN: "It is not known whether that was stored",
  DATA_LOSS: "Stored bytes are damaged",
};

export function failureOf(cause: unknown): Failure {
  const error = ConnectError.from(cause);
  const info = error.findDetails(ErrorInfoSchema)[0];
  const fields = error.findDetails(BadRequestSchema).flatMap((bad) => bad.fieldViolations);
  const isPassing = isAway(cause) || error.findDetails(RetryInfoSchema).length > 0;
  const isClean = info?.metadata.side_effects === "none";
  if (isAway(cause)) {
    const text = info ? error.rawMessage : "The page keeps trying and goes on where it was.";
    return { title: "The server cannot be reached", text, reason: info?.reason, isClean, isPassing };
  }
  const violations = fields.map(({ field, description }) => `${field} ${description}`).join("; ");
  const title = TITLES[info?.reason ?? ""] ?? (violations ? "The server refused a value" : "That did not work");
  const text = violations || error.rawMessage || Code[error.code] || "No reason was given.";
  return { title, text, reason: info?.reason, isClean, isPassing };
}

export const reasonOf = (cause: unknown) => ConnectError.from(cause).findDetails(ErrorInfoSchema)[0]?.reason;
