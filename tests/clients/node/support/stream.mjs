// The published client of the stream API, on the stream that PUT of a channel names.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { channelPath } from "./http.mjs";

// It comes with the SDK, which is what uses it.
const require = createRequire(createRequire(import.meta.url).resolve("@trigger.dev/core/v3"));
export const { AppendInput, AppendRecord, BatchTransform, FencingTokenMismatchError, RangeNotSatisfiableError, S2, S2Error, SeqNumMismatchError } =
  require("@s2-dev/streamstore");

/** What PUT of a channel hands out. */
export async function credentials(client, session, io, { name, headers } = {}) {
  const answer = await client.call("PUT", channelPath(session, io, name), { headers });
  assert.equal(answer.status, 202, answer.text);
  const header = (key) => answer.headers.get(`x-s2-${key}`);
  return { token: header("access-token"), stream: header("stream-name"), basin: header("basin"), endpoint: header("endpoint") };
}

/** A stream for these credentials; `more` goes to the client as it is. */
export function open({ token, stream, basin, endpoint }, more = {}) {
  return new S2({ accessToken: token, endpoints: { account: endpoint, basin: endpoint }, ...more }).basin(basin).stream(stream);
}

export const text = (body, headers) => AppendRecord.string({ body, headers });
export const input = (bodies, conditions) => AppendInput.create([bodies].flat().map((body) => (typeof body === "string" ? text(body) : body)), conditions);

/** The records path of a stream. */
export const recordsPath = (stream) => `/v1/streams/${encodeURIComponent(stream)}/records`;

/** Everything a stream holds from a number on, a page at a time; commands left out. */
export async function data(stream, from = 0) {
  const { tail } = await stream.checkTail();
  const records = [];
  for (let next = from; next < tail.seqNum; ) {
    const batch = await stream.read({ start: { from: { seqNum: next } } });
    records.push(...batch.records.filter(({ headers }) => headers[0]?.[0] !== ""));
    next = batch.records.at(-1).seqNum + 1;
  }
  return records;
}
