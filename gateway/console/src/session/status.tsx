// What a session and a run are doing, in a word and a colour.
import { type Session, SessionStatus } from "../gen/continuo/v1/session_pb.ts";

const NAMES: Record<SessionStatus, string> = {
  [SessionStatus.UNSPECIFIED]: "unknown",
  [SessionStatus.ACTIVE]: "active",
  [SessionStatus.CLOSED]: "closed",
  [SessionStatus.EXPIRED]: "expired",
};

export function StatusPill({ session }: { session: Session }) {
  const name = NAMES[session.status] ?? "unknown";
  const isFailing = session.bootBackoff !== undefined && session.status === SessionStatus.ACTIVE;
  return <span class={`pill ${isFailing ? "failing" : name}`}>{isFailing ? "cannot start" : name}</span>;
}

const LIVE = ["QUEUED", "DELAYED", "DEQUEUED", "EXECUTING", "WAITING"];
export const isLive = (status: string | undefined) => status !== undefined && LIVE.includes(status);

export function RunPill({ status }: { status: string }) {
  const tone =
    status === "EXECUTING"
      ? "active"
      : status === "COMPLETED"
        ? "closed"
        : isLive(status)
          ? "waiting"
          : status === "CANCELED"
            ? "expired"
            : "failing";
  return <span class={`pill ${tone}`}>{status.toLowerCase().replaceAll("_", " ")}</span>;
}
