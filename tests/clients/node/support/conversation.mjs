// Both ends of a conversation are the SDK's: a page in a browser, and its agent in a run of the server under test.
import { after, before } from "node:test";
import { Page, use } from "./chat.mjs";
import { Client } from "./http.mjs";
import { startServer } from "./server.mjs";
import { Runner } from "./task.mjs";
import { within } from "./wait.mjs";

/** A server for the tests of this file, and a worker for these agents. */
export function stage(...agents) {
  const set = new Stage();
  before(async () => {
    use((set.server = await startServer("serve")));
    set.client = new Client(set.server);
    set.runner = await Runner.start(set.server, ...agents);
  });
  after(async () => {
    await set.runner?.stop();
    await set.server?.stop();
  });
  return set;
}

class Stage {
  /** A page that has not said anything yet. */
  page(t, agent, options) {
    const page = new Page(this.server, { task: agent.id, ...options });
    t.after(() => page.close());
    return page;
  }

  /** A page with a session for this agent; no run of it is executed yet. */
  async open(t, agent, options) {
    const page = this.page(t, agent, options);
    await page.transport.preload(page.id);
    return page;
  }

  /** A page, and its first run under way. */
  async begin(t, agent, options) {
    const page = await this.open(t, agent, options);
    return { page, run: this.next(t, page) };
  }

  /** Executes the next run, which this page is talking to; it is over when the test is, if not before. */
  next(t, page, options) {
    const run = this.runner.next(page.id, options);
    t.after(() => run.isOver || this.end(page, run).finally(() => run.abort()));
    return run;
  }

  /** Tells the agent that the conversation is over for now. */
  async end(page, run) {
    const payload = { chatId: page.id, trigger: "close" };
    if (!run.isOver) await this.client.append(page.id, "in", JSON.stringify({ kind: "message", payload }));
    return within(run, "the end of the run");
  }

  async session(page) {
    return (await this.client.call("GET", `/api/v1/sessions/${page.id}`)).body;
  }
}

/** Sends, and takes the turn to its end; `fn` is what happens meanwhile. */
export async function turn(page, text, fn) {
  const sending = page.chat.sendMessage({ text });
  const result = await fn();
  await within(sending, `the answer to “${text}”`);
  if (page.chat.error) throw page.chat.error;
  return result;
}
