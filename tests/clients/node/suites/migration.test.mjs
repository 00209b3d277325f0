// What docs/migration.md says about the SDK: what works is shown by a suite that is there, and what is not here says so.
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { Client } from "../support/http.mjs";
import { errorOf, requestsOf, schedules, use } from "../support/sdk.mjs";
import { startServer } from "../support/server.mjs";

let server;
before(async () => use((server = await startServer("serve"))));
after(() => server?.stop());

const page = readFileSync(new URL("../../../../docs/migration.md", import.meta.url), "utf8");
const suite = (name) => new URL(`${name}.test.mjs`, import.meta.url);

/** The rows below a heading row: their cells. */
function table(heading) {
  const lines = page.slice(page.indexOf(heading)).split("\n").slice(2);
  const rows = lines.slice(0, lines.findIndex((line) => !line.startsWith("|")));
  return rows.map((row) => row.split("|").slice(1, -1).map((cell) => cell.trim()));
}

const rows = table("| SDK call | state | shown by |");

test("the table of SDK calls is there", () => {
  assert.ok(rows.length > 40, String(rows.length));
  assert.equal(new Set(rows.map(([call]) => call)).size, rows.length, "each call once");
});

test("what is said to work is shown by a test of that name", () => {
  for (const [call, state, shown] of rows) {
    assert.equal(state, "yes", call);
    const [, name, title] = /^`([\w-]+)`(?:: (.+))?$/.exec(shown) ?? assert.fail(`${call}: ${shown}`);
    assert.ok(existsSync(suite(name)), `${call}: there is no suite ${name}`);
    if (title === undefined) continue;
    const titles = readFileSync(suite(name), "utf8").matchAll(/^\s*test\("([^"]+)"/gm);
    assert.ok([...titles].some((found) => found[1] === title), `${call}: no test in ${name} is called ${title}`);
  }
});

test("what is not here answers 404 and names itself", async () => {
  const missing = table("| SDK call | route |");
  assert.ok(missing.length > 10, String(missing.length));
  const client = new Client(server);
  for (const [call, cell] of missing) {
    const [, method, path] = /^`([A-Z]+) (\/\S+)`$/.exec(cell) ?? assert.fail(`${call}: ${cell}`);
    const { status, body } = await client.call(method, path);
    assert.deepEqual([status, body], [404, { error: `${method} ${path} is not provided by this server` }], call);
  }
});

test("the SDK reports such a call at once, in the server's words", async () => {
  const { result: error, sent } = await requestsOf(() => errorOf(schedules.list()));
  assert.equal(error.status, 404);
  assert.match(error.message, /GET \/api\/v1\/schedules is not provided by this server/);
  assert.equal(sent, 1, "the SDK retried");
});
