// Public tokens made by hand, as the SDK makes them.
import { createHmac } from "node:crypto";

const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
const now = () => Math.floor(Date.now() / 1000);

/** What a client that signs for itself puts into a token. */
export async function claimsOf(client) {
  const answer = await client.call("POST", "/api/v1/auth/jwt/claims");
  if (answer.status !== 200) throw new Error(answer.text);
  return answer.body;
}

/** Signs with the key; `claims` and `header` override what a good token has. */
export function sign(key, claims, header = {}) {
  const payload = {
    iss: "https://id.trigger.dev",
    aud: "https://api.trigger.dev",
    iat: now(),
    exp: now() + 600,
    ...claims,
  };
  const text = `${part({ alg: "HS256", ...header })}.${part(payload)}`;
  return `${text}.${createHmac("sha256", key).update(text).digest("base64url")}`;
}

/** A token with these scopes, signed as the SDK signs. */
export async function scoped(client, ...scopes) {
  return sign(client.token, { ...(await claimsOf(client)), scopes });
}

export const secondsAgo = (n) => now() - n;
