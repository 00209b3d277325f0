// The services over gRPC-Web, on the port this page came from.
import { Code, ConnectError, createClient, type Interceptor } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { signal } from "@preact/signals";
import { ChannelService } from "../gen/continuo/v1/channel_service_pb.ts";
import { RunService } from "../gen/continuo/v1/run_service_pb.ts";
import { SessionService } from "../gen/continuo/v1/session_service_pb.ts";
import { TokenService } from "../gen/continuo/v1/token_service_pb.ts";
import { WorkerService } from "../gen/continuo/v1/worker_service_pb.ts";
import { key, refused } from "./key.ts";

/** Longest time a call that is no stream may take. */
const CALL_MS_MAX = 20_000;

/** Since when the server has not answered; undefined while it does. */
export const silentSince = signal<number | undefined>(undefined);

const withKey: Interceptor = (next) => (request) => {
  if (!request.header.has("authorization")) request.header.set("authorization", `Bearer ${key.value}`);
  return next(request);
};

const inTime: Interceptor = (next) => (request) => {
  if (request.stream) return next(request);
  return next({ ...request, signal: AbortSignal.any([request.signal, AbortSignal.timeout(CALL_MS_MAX)]) });
};

/** Every answer tells whether the server is there, and whether it still knows the key. */
const observed: Interceptor = (next) => async (request) => {
  const used = request.header.get("authorization");
  try {
    const answer = await next(request);
    silentSince.value = undefined;
    return answer;
  } catch (cause) {
    observe(cause, used);
    throw cause;
  }
};

export function observe(cause: unknown, used: string | null = `Bearer ${key.value}`): void {
  const { code } = ConnectError.from(cause);
  if (isAway(cause)) silentSince.value ??= Date.now();
  else if (code !== Code.Canceled) silentSince.value = undefined;
  // An answer to a key that was replaced meanwhile says nothing about the new one.
  if (code === Code.Unauthenticated && key.value && used === `Bearer ${key.value}`) refused.value = true;
}

/** Nobody answered, or the server says it cannot for now. A browser tells of a broken connection with a bare TypeError. */
export function isAway(cause: unknown): boolean {
  const error = ConnectError.from(cause);
  if (error.code === Code.Unavailable || error.code === Code.DeadlineExceeded) return true;
  return (
    error.code === Code.Unknown &&
    (error.cause instanceof TypeError || /missing trailer|http 50[234]/i.test(error.message))
  );
}

export const isCanceled = (cause: unknown) => ConnectError.from(cause).code === Code.Canceled;

const transport = createGrpcWebTransport({ baseUrl: location.origin, interceptors: [withKey, inTime, observed] });

export const sessions = createClient(SessionService, transport);
export const channels = createClient(ChannelService, transport);
export const runs = createClient(RunService, transport);
export const tokens = createClient(TokenService, transport);
export const workers = createClient(WorkerService, transport);
