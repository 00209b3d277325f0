// Plain calls, so that a test sees what is on the wire.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";

export const unique = (prefix) => `${prefix}-${randomUUID()}`;
export const segment = encodeURIComponent;

/** Paths of a session's channels; `io` is `in` or `out`. */
export const channelPath = (session, io, name) =>
  name === undefined
    ? `/realtime/v1/sessions/${segment(session)}/${io}`
    : `/realtime/v1/sessions/${segment(session)}/channels/${segment(name)}/${io}`;

/** What `POST /api/v1/sessions` needs at least. */
export const sessionBody = (more = {}) => ({
  type: "chat.agent",
  taskIdentifier: "demo-agent",
  triggerConfig: { basePayload: {} },
  ...more,
});

/** Calls of one server with one credential. */
export class Client {
  constructor(server, token = server.key) {
    this.url = server.url;
    this.token = token;
  }

  /** The bare answer; `body` goes out as it is, `json` as JSON. */
  fetch(method, path, { json, body, headers = {}, signal, token = this.token } = {}) {
    return fetch(this.url + path, {
      method,
      body: json === undefined ? body : JSON.stringify(json),
      headers: {
        ...(token === null ? {} : { authorization: `Bearer ${token}` }),
        ...(json === undefined && body === undefined ? {} : { "content-type": "application/json" }),
        ...headers,
      },
      redirect: "manual",
      signal,
      ...(body instanceof ReadableStream ? { duplex: "half" } : {}),
    });
  }

  /** Status, headers and the body: parsed if it is JSON. */
  async call(method, path, options) {
    const answer = await this.fetch(method, path, options);
    const text = await answer.text();
    const isJson = /\bjson\b/.test(answer.headers.get("content-type") ?? "");
    return { status: answer.status, headers: answer.headers, text, body: isJson && text ? JSON.parse(text) : undefined };
  }

  async createSession(more = {}) {
    const answer = await this.call("POST", "/api/v1/sessions", { json: sessionBody(more) });
    assert.ok([200, 201].includes(answer.status), answer.text);
    return answer.body;
  }

  /** A session whose time is over. */
  async expiredSession(more = {}) {
    const made = await this.createSession({ externalId: unique("expired"), ...more, expiresAt: Date.now() + 300 });
    const query = `filter[externalId]=${segment(made.externalId)}&filter[status]=EXPIRED`;
    for (let found = []; found.length === 0; ) {
      await new Promise((resolve) => setTimeout(resolve, 20));
      found = (await this.call("GET", `/api/v1/sessions?${query}`)).body.data;
    }
    return made;
  }

  /** The run, once it has this status. */
  async whenRun(id, status) {
    for (const end = Date.now() + 30_000; Date.now() < end; await new Promise((resolve) => setTimeout(resolve, 20))) {
      const { body } = await this.call("GET", `/api/v3/runs/${id}`);
      if (body.status === status) return body;
    }
    throw new Error(`${id} did not become ${status}`);
  }

  append(session, io, text, { partId, name, headers = {}, ...rest } = {}) {
    return this.call("POST", `${channelPath(session, io, name)}/append`, {
      body: text,
      headers: partId === undefined ? headers : { "x-part-id": partId, ...headers },
      ...rest,
    });
  }

  async records(session, io, { after, name } = {}) {
    const query = after === undefined ? "" : `?afterEventId=${after}`;
    const answer = await this.call("GET", `${channelPath(session, io, name)}/records${query}`);
    assert.equal(answer.status, 200, answer.text);
    return answer.body.records;
  }
}

/** The server took no harm: it answers at once. */
export async function assertHealthy(server) {
  const answer = await fetch(`${server.url}/healthz`, { signal: AbortSignal.timeout(2_000) });
  assert.equal(answer.status, 200);
  await answer.arrayBuffer();
}
