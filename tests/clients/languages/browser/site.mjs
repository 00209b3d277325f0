// Serves pages from an origin of their own, with the programs in TypeScript bundled for a browser.
import { once } from "node:events";
import { createServer } from "node:http";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

/** A program of this folder as one script. */
export async function bundle(name) {
  const entry = fileURLToPath(new URL(name, import.meta.url));
  const { outputFiles } = await build({ entryPoints: [entry], bundle: true, write: false, format: "esm", logLevel: "error" });
  return outputFiles[0].contents;
}

/** `answers` gives the content type and the content for a path, or a function that makes them. */
export async function startSite(answers) {
  const site = createServer(async (request, response) => {
    try {
      const answer = answers[new URL(request.url, "http://site").pathname];
      const [type, content] = typeof answer === "function" ? await answer() : answer;
      response.writeHead(200, { "content-type": type }).end(content);
    } catch (error) {
      response.writeHead(500).end(String(error));
    }
  });
  site.listen(0, "127.0.0.1");
  await once(site, "listening");
  return { origin: `http://127.0.0.1:${site.address().port}`, stop: () => (site.closeAllConnections(), site.close()) };
}
