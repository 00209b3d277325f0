// The key the console works with. It is kept for this tab alone, sent in one header, and never put into an address.
import { signal } from "@preact/signals";
import { CredentialKind } from "../gen/continuo/v1/token_service_pb.ts";

export interface Holder {
  kind: CredentialKind;
  environmentId: string;
  scopes: string[];
  sessionId?: string;
}

const SLOT = "continuo.key";

export const key = signal(sessionStorage.getItem(SLOT) ?? "");
/** Whom the server takes us for; unknown until it has said so. */
export const holder = signal<Holder | undefined>(undefined);
/** The server no longer takes the key; what is open stays and goes on once there is another one. */
export const refused = signal(false);

export function keep(token: string, who: Holder): void {
  sessionStorage.setItem(SLOT, token);
  key.value = token;
  holder.value = who;
  refused.value = false;
}

export function forget(): void {
  sessionStorage.removeItem(SLOT);
  key.value = "";
  holder.value = undefined;
  refused.value = false;
}

/** When a token says that it ends, in milliseconds; a key does not end by itself. */
export function endOf(token: string): number | undefined {
  try {
    const claims = JSON.parse(atob(token.split(".")[1]!.replaceAll("-", "+").replaceAll("_", "/")));
    return typeof claims.exp === "number" ? claims.exp * 1000 : undefined;
  } catch {
    return undefined;
  }
}

export const isKey = () => holder.value !== undefined && holder.value.kind <= CredentialKind.ADDITIONAL_KEY;
export const isRootKey = () => holder.value?.kind === CredentialKind.ROOT_KEY;

/** The one session a scoped token speaks of, if it speaks of one. */
export function onlySession(): string | undefined {
  const who = holder.value;
  if (!who || isKey()) return undefined;
  if (who.sessionId) return who.sessionId;
  const names = who.scopes.map(
    (scope) => /^(?:read|write):sessions:(.+?)(?::(?:in|out|channels:[^:]+))?$/.exec(scope)?.[1],
  );
  const named = new Set(names.filter((name) => name !== undefined));
  return named.size === 1 ? [...named][0] : undefined;
}

const KINDS: Record<number, string> = {
  [CredentialKind.ROOT_KEY]: "secret key",
  [CredentialKind.ADDITIONAL_KEY]: "additional key",
  [CredentialKind.PUBLIC_TOKEN]: "scoped token",
  [CredentialKind.RUN_TOKEN]: "run token",
  [CredentialKind.STREAM_TOKEN]: "stream token",
  [CredentialKind.WAITPOINT_TOKEN]: "waitpoint token",
};
export const kindName = (kind: CredentialKind) => KINDS[kind] ?? "key";
