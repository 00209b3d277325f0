// The published chat packages: in a program with the secret key, and as a page in a browser has them.
import { Chat } from "@ai-sdk/react";
import { unique } from "./http.mjs";
import { use } from "./sdk.mjs";
const { AgentChat, TriggerChatTransport } = await import("@trigger.dev/sdk/chat");
const { chat, defaultStorage } = await import("@trigger.dev/sdk/ai");
const { chat: headStarts } = await import("@trigger.dev/sdk/chat-server");
export { AgentChat, chat, defaultStorage, headStarts, use };

/**
 * A page with one conversation: the transport, the AI SDK's chat on it, and what the page would keep for its reload.
 * `stored` and `messages` are what an earlier page kept; everything else goes to the transport.
 */
export class Page {
  requests = [];
  events = [];
  started = 0;
  refreshed = 0;

  constructor(server, { task = "demo-agent", id = unique("page"), stored, messages, ...options } = {}) {
    this.id = id;
    this.stored = stored;
    const start = chat.createStartSessionAction(task);
    this.transport = new TriggerChatTransport({
      task,
      baseURL: server.url,
      startSession: ({ chatId, clientData }) => ((this.started += 1), start({ chatId, clientData })),
      accessToken: async ({ chatId }) => ((this.refreshed += 1), (await start({ chatId })).publicAccessToken),
      sessions: stored === undefined ? undefined : { [id]: stored },
      onSessionChange: (_, session) => (this.stored = session),
      onEvent: (event) => this.events.push(event),
      fetch: (url, init, context) => this.#fetch(url, init, context),
      ...options,
    });
    this.chat = new Chat({ id, messages, transport: this.transport });
  }

  #fetch(url, init, { endpoint }) {
    const { method = "GET", headers } = init;
    this.requests.push({ endpoint, method, path: new URL(url).pathname, headers: new Headers(headers) });
    return fetch(url, init);
  }

  /** The text of the newest message, so far. */
  get text() {
    return textOf(this.chat.lastMessage);
  }

  /** The same conversation after a reload: nothing is left of this page but what it kept. */
  reload(server, options = {}) {
    const messages = structuredClone(options.messages ?? this.chat.messages);
    const stored = structuredClone(this.stored);
    return new Page(server, { id: this.id, ...options, stored, messages });
  }

  close() {
    this.transport.dispose();
  }
}

export const textOf = ({ parts = [] } = {}) => parts.map((part) => (part.type === "text" ? part.text : "")).join("");
