// Which sessions are asked for, as the address of the page says it.
import { type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { SessionStatus } from "../gen/continuo/v1/session_pb.ts";
import type { SessionFilterSchema } from "../gen/continuo/v1/session_service_pb.ts";

export const STATUSES = [
  ["", "All"],
  ["ACTIVE", "Active"],
  ["CLOSED", "Closed"],
  ["EXPIRED", "Expired"],
] as const;
export const PERIODS = [
  ["", "Any time"],
  ["1h", "Last hour"],
  ["24h", "Last 24 hours"],
  ["7d", "Last 7 days"],
  ["30d", "Last 30 days"],
  ["custom", "From … to …"],
] as const;

export type Status = (typeof STATUSES)[number][0];
const HOURS: Record<string, number> = { "1h": 1, "24h": 24, "7d": 168, "30d": 720 };

export const FIELDS = ["name", "status", "type", "task", "tag", "period", "from", "to"];
export const isFiltered = (query: URLSearchParams) => FIELDS.some((field) => query.has(field));

/** Names the filter, so that two that ask for the same are the same. */
export const filterKey = (query: URLSearchParams) =>
  FIELDS.flatMap((field) => query.getAll(field).map((value) => `${field}=${value}`)).join("&");

export function filterOf(query: URLSearchParams): MessageInitShape<typeof SessionFilterSchema> {
  const one = (field: string) => query.getAll(field).filter((value) => value !== "");
  const status = query.get("status") ?? "";
  const hours = HOURS[query.get("period") ?? ""];
  const from = hours ? Date.now() - hours * 3_600_000 : moment(query.get("from"));
  const to = hours ? undefined : moment(query.get("to"));
  return {
    types: one("type"),
    tags: one("tag"),
    taskIdentifiers: one("task"),
    externalId: query.get("name") || undefined,
    statuses: status in SessionStatus ? [SessionStatus[status as keyof typeof SessionStatus]] : [],
    createdFrom: from === undefined ? undefined : timestampFromMs(from),
    createdTo: to === undefined ? undefined : timestampFromMs(to),
  };
}

function moment(text: string | null): number | undefined {
  const ms = text ? Date.parse(text) : NaN;
  return Number.isNaN(ms) ? undefined : ms;
}
