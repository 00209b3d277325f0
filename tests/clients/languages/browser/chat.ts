// A chat page on a session, over gRPC-Web. A browser has no streams of its own to send on, so that it appends by unary calls and
// reads a server's stream. Its backend holds the key, creates the session and hands out a token for it alone.
//
// What a broken network leaves open is asked for again: the read goes on after the last number seen, and an append that was not
// acknowledged is repeated with its part id, so that it counts once.
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { Direction, type Record } from "./gen/continuo/v1/channel_pb.ts";
import { ChannelService } from "./gen/continuo/v1/channel_service_pb.ts";
import { ErrorInfoSchema } from "./gen/google/rpc/error_details_pb.ts";

const { url, session, token } = await (await fetch("/session", { method: "POST" })).json();
const channels = createClient(ChannelService, createGrpcWebTransport({ baseUrl: url }));
const bearer = { headers: { authorization: `Bearer ${token}` } };

const report = (event: string, fields = {}) => console.log(JSON.stringify({ event, ...fields }));
const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** The reason that the server gave; without one it was the network. */
const errorInfo = (error: ConnectError) => error.findDetails(ErrorInfoSchema)[0];
const mayRetry = (error: ConnectError) => error.code === Code.Unavailable || errorInfo(error) === undefined;

/** Tries until it works or is refused. */
async function insist<T>(attempt: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await attempt();
    } catch (cause) {
      const error = ConnectError.from(cause);
      if (!mayRetry(error)) throw error;
      report("lost", { code: error.code });
      await sleep(100);
    }
  }
}

let nextSeqNum = 0n;
let answered = -1n;
let onAnswer = () => {};

/** Reads `.out` for as long as the page is open. */
async function follow(): Promise<never> {
  report("attached", { start: Number(nextSeqNum) });
  const channel = { session, direction: Direction.OUT };
  const start = { start: { case: "seqNum", value: nextSeqNum } } as const;
  for await (const { event } of channels.read({ channel, start }, bearer)) {
    if (event.case === "batch") event.value.records.forEach(show);
  }
  throw new ConnectError("the stream ended", Code.Unavailable);
}

function show(record: Record) {
  nextSeqNum = record.seqNum + 1n;
  const headers = new Map(record.headers.map(({ name, value }) => [text(name), text(value)]));
  // A control record says what happened, and a record with one header without a name is a command of the log itself.
  const control = headers.get("trigger-control") ?? headers.get("");
  report("record", { seq: Number(record.seqNum), text: text(record.body), control: control ?? null });
  if (control === undefined) document.querySelector("output")!.append(text(record.body), " ");
  if (headers.has("session-in-event-id")) answered = BigInt(headers.get("session-in-event-id")!);
  onAnswer();
}

/** Says it, and waits until the turn that answers it is complete. */
async function ask(line: string) {
  const records = [{ body: new TextEncoder().encode(line) }];
  const append = { channel: { session, direction: Direction.IN }, records, partId: crypto.randomUUID() };
  const { start, repeated } = await insist(() => channels.append(append, bearer));
  report("acknowledged", { seq: Number(start!.seqNum), repeated });
  while (answered < start!.seqNum) await new Promise<void>((resolve) => (onAnswer = resolve));
  report("answered");
}

function giveUp(cause: unknown) {
  const error = ConnectError.from(cause);
  const info = errorInfo(error);
  report("refused", { code: error.code, reason: info?.reason, metadata: info?.metadata ?? {} });
}

const input = document.querySelector("input")!;
input.form!.addEventListener("submit", (event) => {
  event.preventDefault();
  ask(input.value).catch(giveUp);
  input.value = "";
});
insist(follow).catch(giveUp);
