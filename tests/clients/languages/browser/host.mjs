// The chat page as a program: a browser opens it from an origin of its own, each line of standard input is typed into it, and
// what it reports is printed. This is the page's backend too, which holds the key.
import { readFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import { ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { startBrowser } from "../../browser/support/browser.mjs";
import { SessionService } from "./gen/continuo/v1/session_service_pb.ts";
import { ErrorInfoSchema } from "./gen/google/rpc/error_details_pb.ts";
import { bundle, startSite } from "./site.mjs";

const [session, task] = process.argv.slice(2);
const url = process.env.CONTINUO_URL;
const headers = { authorization: `Bearer ${process.env.CONTINUO_SECRET_KEY}` };
const sessions = createClient(SessionService, createGrpcTransport({ baseUrl: url }));
const report = (event, fields) => console.log(JSON.stringify({ event, ...fields }));

let token;
try {
  const request = { externalId: session, type: "chat", taskIdentifier: task, triggerConfig: { basePayloadJson: "{}" } };
  const created = await sessions.createSession(request, { headers });
  token = created.publicAccessToken;
  report("created", { session: created.session.id, run: created.runId, cached: created.isCached });
} catch (cause) {
  const error = ConnectError.from(cause);
  const [info] = error.findDetails(ErrorInfoSchema);
  report("refused", { code: error.code, reason: info?.reason, metadata: info?.metadata ?? {} });
  process.exit(1);
}

const site = await startSite({
  "/": ["text/html", await readFile(new URL("index.html", import.meta.url))],
  "/chat.js": ["text/javascript", await bundle("chat.ts")],
  "/session": ["application/json", JSON.stringify({ url, session, token })],
});
const browser = await startBrowser();
process.once("SIGTERM", () => browser.close().finally(() => process.exit(143)));
const page = await browser.newPage();
let isRefused = false;
page.on("console", (message) => {
  console.log(message.text());
  if (/^\{"event":"refused"/.test(message.text())) isRefused = true;
});
await page.goto(site.origin);
for await (const line of createInterface({ input: process.stdin })) {
  await page.getByLabel("Message").fill(line);
  await page.getByLabel("Message").press("Enter");
}
await browser.close();
site.stop();
process.exitCode = isRefused ? 1 : 0;
