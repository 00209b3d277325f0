// The health page: workers and queues as they are, and what it says when it cannot know.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { unique } from "../../node/support/http.mjs";
import { scoped } from "../../node/support/tokens.mjs";
import { Worker } from "../../node/support/worker.mjs";
import { Visitor, each, open } from "../support/console.mjs";

/** More than a page of runs. */
const MANY = 130;

let all;
// Nobody takes the runs but the workers of these tests.
before(async () => (all = await open({}, "serve")));
after(() => all?.stop());

const enter = (t, more) => Visitor.enter(t, all, { path: "#/health", ...more });
const row = (visitor, table, name) =>
  visitor.page
    .getByRole("region", { name: table })
    .getByRole("row")
    .filter({ has: visitor.page.getByText(name, { exact: true }) });

test("without a worker and a run, the page says so, and where to read on", async (t) => {
  const visitor = await enter(t);
  await visitor.text("No worker is connected").waitFor();
  await visitor.text("No run is under way").waitFor();
  await visitor.page.getByRole("link", { name: "Read how to write one" }).waitFor();
  await visitor.assertQuiet();
});

test("a worker is listed with what it holds, drains, and goes", async (t) => {
  const task = unique("task");
  const name = `<b>worker</b> ${unique("w")}`;
  const worker = await Worker.start(all.server, [task, "second", "third", "fourth"], {
    worker_id: name,
    capacity: 4,
    version: "2026.11",
  });
  t.after(() => worker.stop());
  const visitor = await enter(t);
  const listed = row(visitor, "Workers", name);
  await listed.getByText("0 of 4").waitFor();
  await listed.getByText("version 2026.11").waitFor();
  await listed.getByText("and 1 more").waitFor();
  await listed.getByText("taking runs").waitFor();
  await all.client.createSession({ externalId: unique("held"), taskIdentifier: task });
  await worker.take();
  await listed.getByText("1 of 4").waitFor();
  await row(visitor, "Queues", `task/${task}`).getByRole("cell", { name: "1", exact: true }).waitFor();
  await visitor.shot("health-workers");
  worker.drain();
  await listed.getByText("draining").waitFor();
  await worker.stop();
  await listed.waitFor({ state: "detached" });
  await visitor.assertQuiet();
});

test("queues are counted to the last run, those with most pending first, also on a phone", async (t) => {
  const [busy, calm] = [unique("busy"), unique("calm")];
  await each(MANY, () => all.client.createSession({ externalId: unique("waits"), taskIdentifier: busy }));
  await all.client.createSession({ externalId: unique("waits"), taskIdentifier: calm });
  const visitor = await enter(t);
  await row(visitor, "Queues", `task/${busy}`)
    .getByRole("cell", { name: String(MANY), exact: true })
    .waitFor();
  await row(visitor, "Queues", `task/${busy}`)
    .getByText(/^\d+ (s|min)/)
    .waitFor();
  const names = await visitor.page.getByRole("region", { name: "Queues" }).getByRole("rowheader").allTextContents();
  assert.ok(names.indexOf(`task/${busy}`) < names.indexOf(`task/${calm}`), names.join(" "));
  const pending = visitor.page.locator(".work li", { hasText: "pending" }).locator("strong");
  assert.ok(Number(await pending.textContent()) > MANY);
  await visitor.page.locator(".card", { hasText: "executing" }).locator("canvas").waitFor();
  await visitor.page.setViewportSize({ width: 390, height: 844 });
  await row(visitor, "Queues", `task/${busy}`).waitFor();
  await visitor.page.getByRole("region", { name: "Queues" }).scrollIntoViewIfNeeded();
  await visitor.shot("health-queues-phone");
  const over = await visitor.page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(over <= 0, `${over} pixels too wide`);
  await visitor.assertQuiet();
});

test("a scoped token is told that workers and queues are not for it", async (t) => {
  const { id } = await all.client.createSession({ externalId: unique("scoped"), taskIdentifier: "nobody" });
  const visitor = await enter(t, { key: await scoped(all.client, `read:sessions:${id}`) });
  await visitor.text("Workers and queues are shown to a secret key").waitFor();
  await visitor.page.locator(".headline", { hasText: /^[\d.]+ ms$/ }).waitFor();
  await visitor.assertQuiet();
});

test("while the server cannot be reached, what was seen stays with its time, and is new again when it is back", async (t) => {
  const task = unique("stays");
  await all.client.createSession({ externalId: unique("stays"), taskIdentifier: task });
  const visitor = await enter(t);
  await row(visitor, "Queues", `task/${task}`).waitFor();
  await visitor.page.context().setOffline(true);
  await visitor.page
    .getByRole("region", { name: "Queues" })
    .getByText(/^as of \d/)
    .waitFor();
  await row(visitor, "Queues", `task/${task}`).waitFor();
  await visitor.shot("health-away");
  await visitor.page.context().setOffline(false);
  await visitor.page
    .getByRole("region", { name: "Queues" })
    .getByText(/^as of/)
    .waitFor({ state: "detached" });
  await row(visitor, "Queues", `task/${task}`).waitFor();
  await visitor.assertQuiet();
});
