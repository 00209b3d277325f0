// What script of a page sees of the services; the tests call it.
import { Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { Direction } from "../gen/continuo/v1/channel_pb.ts";
import { ChannelService } from "../gen/continuo/v1/channel_service_pb.ts";
import { SessionService } from "../gen/continuo/v1/session_service_pb.ts";
import { TokenService } from "../gen/continuo/v1/token_service_pb.ts";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "../gen/google/rpc/error_details_pb.ts";

type Where = { url: string; token: string };

const transport = ({ url }: Where): Transport => createGrpcWebTransport({ baseUrl: url });
const bearer = ({ token }: Where) => ({ authorization: `Bearer ${token}` });

/** Everything that an error says. */
function told(cause: unknown) {
  const error = ConnectError.from(cause);
  const [info] = error.findDetails(ErrorInfoSchema);
  return {
    code: Code[error.code],
    text: error.rawMessage,
    reason: info?.reason,
    metadata: { ...info?.metadata },
    fields: error.findDetails(BadRequestSchema).flatMap(({ fieldViolations }) => fieldViolations.map(({ field }) => field)),
    mayRetry: error.findDetails(RetryInfoSchema).length > 0,
  };
}

const refusal = (call: Promise<unknown>) => call.then((answer) => ({ answer }), told);

const get = (where: Where, session: string, timeoutMs?: number) =>
  refusal(
    createClient(SessionService, transport(where))
      .getSession({ session }, { headers: bearer(where), timeoutMs })
      .then((answer) => answer.session!.id),
  );

const list = (where: Where, pageSize: number, pageToken: string) =>
  refusal(createClient(SessionService, transport(where)).listSessions({ pageSize, pageToken }, { headers: bearer(where) }));

function append(where: Where, session: string, direction: Direction, text: string) {
  const records = [{ body: new TextEncoder().encode(text) }];
  const request = { channel: { session, direction }, records };
  return refusal(
    createClient(ChannelService, transport(where))
      .append(request, { headers: bearer(where) })
      .then(({ start }) => Number(start!.seqNum)),
  );
}

/** How a stream that is to end by itself began and ended. */
async function settled(where: Where, session: string) {
  const seen: string[] = [];
  let header: string | null = null;
  const request = { channel: { session, direction: Direction.OUT }, peekSettled: true };
  const options = { headers: bearer(where), onHeader: (headers: Headers) => (header = headers.get("continuo-settled")) };
  for await (const { event } of createClient(ChannelService, transport(where)).read(request, options)) seen.push(event.case!);
  return { header, seen };
}

/** Follows `.out` for ever; what it brings and why it broke off is in `log`. Asks its backend for a token when one is refused. */
async function follow(where: Where, session: string, log: object[]) {
  for (let next = 0n; ; ) {
    const start = { start: { case: "seqNum", value: next } } as const;
    const request = { channel: { session, direction: Direction.OUT }, start, heartbeatMs: 1000 };
    log.push({ from: Number(next) });
    try {
      for await (const { event } of createClient(ChannelService, transport(where)).read(request, { headers: bearer(where) })) {
        if (event.case !== "batch") continue;
        for (const { seqNum, body } of event.value.records) {
          next = seqNum + 1n;
          log.push({ seq: Number(seqNum), text: new TextDecoder().decode(body) });
        }
      }
    } catch (cause) {
      const error = told(cause);
      log.push({ error });
      if (error.reason === "UNAUTHENTICATED") where = { ...where, token: await (await fetch("/token")).text() };
      else if (error.reason !== undefined && !error.mayRetry) return;
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

const revoke = (where: Where, session: string) =>
  refusal(createClient(TokenService, transport(where)).revokeTokens({ session }, { headers: bearer(where) }));

Object.assign(window, { probe: { get, list, append, settled, follow, revoke }, log: [] });
