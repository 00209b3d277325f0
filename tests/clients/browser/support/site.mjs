// The site that serves the chat page, from an origin of its own, with the backend such a page has: it holds the secret key,
// starts sessions and hands out tokens.
import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { Client } from "../../node/support/http.mjs";
import { scoped } from "../../node/support/tokens.mjs";

const file = (name) => fileURLToPath(new URL(`../page/${name}`, import.meta.url));

async function bundle() {
  const { outputFiles } = await build({
    entryPoints: [file("chat.jsx")],
    bundle: true,
    write: false,
    format: "esm",
    platform: "browser",
    // Loaded on demand, and never by a browser.
    external: ["node:*"],
    jsx: "automatic",
    define: { "process.env.NODE_ENV": '"production"' },
    logLevel: "error",
  });
  return outputFiles[0].contents;
}

export class Site {
  /** What the page asked its backend for, in order. */
  asked = [];
  /** How fast the agent speaks in sessions that are started from now on. */
  tokenDelayMs = 0;
  /** Handed out with the next session instead of its own token. */
  firstToken;

  /** `url` is where the page finds the server, if that is not the server itself. */
  static async start(server, { url = server.url } = {}) {
    const site = new Site();
    site.client = new Client(server);
    const [html, script] = await Promise.all([readFile(file("index.html")), bundle()]);
    const answers = {
      "/": () => ["text/html", html],
      "/empty": () => ["text/html", ""],
      "/chat.js": () => ["text/javascript", script],
      "/api/settings": () => json({ server: url }),
      "/api/session": async ({ chatId }) => json({ publicAccessToken: await site.begin(chatId) }),
      "/api/token": async ({ chatId }) => json({ token: await site.token(chatId) }),
    };
    site.http = createServer(async (request, response) => {
      const path = new URL(request.url, "http://site").pathname;
      if (request.method === "POST") site.asked.push(path);
      try {
        const body = Buffer.concat(await request.toArray()).toString();
        const [type, content] = await answers[path](body && JSON.parse(body));
        response.writeHead(200, { "content-type": type }).end(content);
      } catch (error) {
        response.writeHead(500).end(String(error));
      }
    });
    site.http.listen(0, "127.0.0.1");
    await once(site.http, "listening");
    site.origin = `http://127.0.0.1:${site.http.address().port}`;
    return site;
  }

  /** Starts the session of a conversation; its token. */
  async begin(chatId) {
    const basePayload = { chatId, tokenDelayMs: this.tokenDelayMs };
    const { publicAccessToken } = await this.client.createSession({ externalId: chatId, triggerConfig: { basePayload } });
    const token = this.firstToken ?? publicAccessToken;
    this.firstToken = undefined;
    return token;
  }

  /** A token for one conversation, as the page may hold it. */
  token(chatId) {
    return scoped(this.client, `read:sessions:${chatId}`, `write:sessions:${chatId}`);
  }

  /** How often the page asked for this. */
  count(path) {
    return this.asked.filter((asked) => asked === path).length;
  }

  stop() {
    this.http.closeAllConnections();
    this.http.close();
  }
}

const json = (value) => ["application/json", JSON.stringify(value)];
