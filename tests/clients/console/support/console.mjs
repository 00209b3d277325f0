// The console as a person has it before them.
import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { Client } from "../../node/support/http.mjs";
import { startServer } from "../../node/support/server.mjs";

const EXECUTABLE = process.env.CHROMIUM_BIN ?? "/usr/bin/chromium";
// Nothing that a browser does on its own account: no update, no sync, no network but the page's.
const QUIET = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];
/** Screenshots of the run; never committed. */
const SHOTS =
  process.env.CONTINUO_SHOTS ?? fileURLToPath(new URL("../../../../target/tests/console/", import.meta.url));

/** A server with its console, and a browser; both end with the suite. */
export async function open(settings = {}, profile = "dev") {
  const server = await startServer(profile, settings);
  const browser = await chromium.launch({ executablePath: EXECUTABLE, headless: true, args: QUIET });
  const stop = async () => {
    await browser.close();
    await server.stop();
  };
  return { server, browser, url: `${server.url}/console/`, client: new Client(server), stop };
}

/** A visitor with a tab of their own. */
export class Visitor {
  #said = [];

  static async enter(
    t,
    { browser, url, server },
    { path = "", key = server.key, width = 1280, height = 800, dark = false } = {},
  ) {
    const visitor = new Visitor();
    const context = await browser.newContext({ viewport: { width, height }, colorScheme: dark ? "dark" : "light" });
    t.after(() => context.close());
    visitor.page = await context.newPage();
    visitor.page.on("pageerror", (error) => visitor.#said.push(`error: ${error.stack}`));
    visitor.page.on("dialog", (dialog) => (visitor.#said.push(`dialog: ${dialog.message()}`), dialog.dismiss()));
    await visitor.page.addInitScript(watch);
    await visitor.page.goto(`${url}${path}`);
    if (key) await visitor.giveKey(key);
    return visitor;
  }

  async giveKey(key) {
    await this.page.getByLabel("Secret key or scoped token").fill(key);
    await this.page.keyboard.press("Enter");
    await this.page.getByLabel("Secret key or scoped token").waitFor({ state: "detached" });
  }

  button(name) {
    return this.page.getByRole("button", { name, exact: true });
  }

  text(text) {
    return this.page.getByText(text).first();
  }

  pane(label) {
    return this.page.getByRole("region", { name: label, exact: true });
  }

  answers() {
    return this.page.locator('[data-role="assistant"]');
  }

  async say(text) {
    await this.page.locator("#composer").fill(text);
    await this.page.locator("#composer").press("Enter");
  }

  /** The answer is under way and so long already. */
  async whenSpeaking(index = 0, length = 40) {
    const look = ([index, length]) => {
      const answer = document.querySelectorAll('[data-role="assistant"]')[index];
      const text = answer?.querySelector(".said")?.textContent ?? "";
      return answer?.dataset.state === "streaming" && text.length > length && text;
    };
    return (await this.page.waitForFunction(look, [index, length], { polling: 20 })).jsonValue();
  }

  /** The answer ended like this; its text. */
  async whenEnded(index = 0, state = "done") {
    const answer = this.page
      .locator('[data-role="assistant"]')
      .nth(index)
      .and(this.page.locator(`[data-state="${state}"]`));
    await answer.waitFor();
    return answer.locator(".said").first().textContent();
  }

  shot(name) {
    mkdirSync(SHOTS, { recursive: true });
    return this.page.screenshot({ path: `${SHOTS}/${name}.png` });
  }

  /** Nothing broke, nothing asked for anything, and the policy had nothing to refuse. */
  async assertQuiet() {
    assert.deepEqual(this.#said, []);
    assert.deepEqual(await this.page.evaluate(() => window.violations), []);
  }
}

/** Runs in the page before anything else. */
function watch() {
  window.violations = [];
  document.addEventListener("securitypolicyviolation", (event) =>
    window.violations.push(`${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}`),
  );
  window.longTasks = [];
  new PerformanceObserver((list) =>
    list.getEntries().forEach((entry) => window.longTasks.push(entry.duration)),
  ).observe({ type: "longtask", buffered: true });
}

/** A number of tasks, so many at a time. */
export async function each(n, task, atOnce = 24) {
  let next = 0;
  const worker = async () => {
    while (next < n) await task(next++);
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
}
