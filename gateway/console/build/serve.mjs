// Shows a built console on a server that runs, for whoever works on it: the files from a folder, under the policy of that
// server, and everything else passed on to it, the docs too.
// node build/serve.mjs [server's URL] [port] [folder]
import { readFile } from "node:fs/promises";
import { createServer, request } from "node:http";
import { extname, join } from "node:path";
import { fileURLToPath } from "node:url";

const TYPES = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".json": "application/json",
  ".txt": "text/plain; charset=utf-8",
};
const DIST = fileURLToPath(new URL("../dist", import.meta.url));

const [, , upstream = "http://127.0.0.1:8080", port = "8090", folder = DIST] = process.argv;
const policy = (await fetch(new URL("/console/", upstream))).headers.get("content-security-policy");

const server = createServer(async (ask, answer) => {
  const { pathname } = new URL(ask.url, "http://console");
  if (!pathname.startsWith("/console/") || pathname.startsWith("/console/docs/")) return pass(ask, answer);
  const name = pathname.slice("/console/".length) || "index.html";
  const bytes = /^[\w.-]+$/.test(name) ? await readFile(join(folder, name)).catch(() => undefined) : undefined;
  if (!bytes) return answer.writeHead(404).end();
  answer
    .writeHead(200, {
      "content-type": TYPES[extname(name)],
      "content-security-policy": policy,
      "cache-control": "no-store",
    })
    .end(bytes);
});
server.listen(Number(port), "127.0.0.1", () => console.log(`http://127.0.0.1:${port}/console/ on ${upstream}`));

function pass(ask, answer) {
  const on = request(
    new URL(ask.url, upstream),
    { method: ask.method, headers: { ...ask.headers, host: new URL(upstream).host } },
    (got) => {
      answer.writeHead(got.statusCode, got.headers);
      answer.flushHeaders();
      got.pipe(answer);
      got.on("error", () => answer.destroy());
    },
  );
  on.on("error", () => (answer.headersSent ? answer.destroy() : answer.writeHead(502).end()));
  answer.on("close", () => on.destroy());
  ask.pipe(on);
}
