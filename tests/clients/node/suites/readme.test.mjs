// What the README says about the SDK is shown by a suite that is there.
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { test } from "node:test";

const readme = readFileSync(new URL("../../../../README.md", import.meta.url), "utf8");
const suite = (name) => new URL(`${name}.test.mjs`, import.meta.url);

/** The rows below a heading row: their cells. */
function table(heading) {
  const lines = readme.slice(readme.indexOf(heading)).split("\n").slice(2);
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
