// How the page keeps up: what it is asked for arrives, and how long its tasks took is printed. Times are measured here and not asserted.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { unique } from "../../node/support/http.mjs";
import { Visitor, each, open } from "../support/console.mjs";

/** 100000 take some minutes to make; CONTINUO_CONSOLE_SESSIONS=100000 does. */
const SESSIONS = Number(process.env.CONTINUO_CONSOLE_SESSIONS ?? 3_000);
const RECORDS = 2_000;
const PER_SECOND = 200;

let all;
before(async () => {
  all = await open();
  await each(
    SESSIONS,
    (i) => all.client.createSession({ externalId: `s-${i}`, taskIdentifier: "nobody", tags: [`t-${i % 50}`] }),
    64,
  );
});
after(() => all?.stop());

/**
 * What the tasks of the page's thread took while `doing` went on: by the clock, which a busy machine stretches, and of the
 * processor's time, which it does not.
 */
async function measured(t, what, visitor, doing) {
  await visitor.page.evaluate(() => void (window.longTasks.length = 0));
  await all.browser.startTracing(visitor.page, { categories: ["toplevel", "__metadata"] });
  const more = await doing();
  const { traceEvents } = JSON.parse(await all.browser.stopTracing());
  const clock = await visitor.page.evaluate(() => window.longTasks);
  const mains = new Set(
    traceEvents
      .filter(({ name, args }) => name === "thread_name" && args.name === "CrRendererMain")
      .map(({ pid, tid }) => `${pid} ${tid}`),
  );
  const tasks = traceEvents
    .filter(({ name, pid, tid }) => /RunTask$/.test(name) && mains.has(`${pid} ${tid}`))
    .map(({ tdur = 0 }) => tdur / 1000);
  const say = (tasks) =>
    `${tasks.filter((ms) => ms > 50).length} over 50 ms, longest ${Math.max(0, ...tasks).toFixed(0)} ms`;
  t.diagnostic(
    `${what}${more ?? ""}: ${tasks.length} tasks; processor's time: ${say(tasks)}; by the clock: ${say(clock)}`,
  );
}

test(`${SESSIONS} sessions are scrolled through, to the oldest one and back`, async (t) => {
  const visitor = await Visitor.enter(t, all);
  await visitor.page.locator(".session-row .name").first().waitFor();
  const toEnd = (n) => {
    const list = document.querySelector(".virtual");
    const all = document.querySelector(".virtual-all");
    return new Promise((resolve) => {
      const step = () => {
        list.scrollTop = list.scrollHeight;
        if (all.clientHeight >= n * 40) resolve();
        else requestAnimationFrame(step);
      };
      step();
    });
  };
  await measured(t, `pages down to the oldest of ${SESSIONS}`, visitor, () => visitor.page.evaluate(toEnd, SESSIONS));
  const sweep = () => {
    const list = document.querySelector(".virtual");
    const height = list.scrollHeight;
    return new Promise((resolve) => {
      let frame = 0;
      const step = () => {
        list.scrollTop = height * Math.abs(Math.cos((frame / 300) * Math.PI));
        if (++frame === 300) resolve(document.querySelectorAll(".session-row").length);
        else requestAnimationFrame(step);
      };
      step();
    });
  };
  await measured(t, `300 frames up and down through ${SESSIONS}`, visitor, async () => {
    assert.ok((await visitor.page.evaluate(sweep)) < 80, "only what is seen exists");
  });
});

test(`${PER_SECOND} records a second are followed, records and chat`, async (t) => {
  const name = unique("fast");
  await all.client.createSession({ externalId: name, taskIdentifier: "nobody" });
  await all.client.append(name, "out", JSON.stringify({ type: "start", messageId: "m" }));
  const visitor = await Visitor.enter(t, all, { path: `#/sessions/${name}` });
  const speak = async (from) => {
    const begin = performance.now();
    for (let i = from; i < from + RECORDS / 2; i += 10) {
      const late = begin + ((i - from) / PER_SECOND) * 1000 - performance.now();
      if (late > 0) await new Promise((resolve) => setTimeout(resolve, late));
      await each(
        10,
        () => all.client.append(name, "out", JSON.stringify({ type: "text-delta", id: "t", delta: "word " })),
        10,
      );
    }
    return ` at ${((RECORDS / 2 / (performance.now() - begin)) * 1000).toFixed(0)}/s`;
  };
  await visitor.pane(".out").getByText("live").waitFor();
  await measured(t, "records as they come", visitor, async () => {
    const rate = await speak(0);
    await visitor
      .pane(".out")
      .locator(`.entry[data-seq='${RECORDS / 2 + 1}']`)
      .waitFor();
    return rate;
  });
  await visitor.button("Chat").click();
  await measured(t, "the same as chat", visitor, async () => {
    const rate = await speak(RECORDS / 2);
    const whole = "word ".repeat(RECORDS);
    await visitor.page.waitForFunction(
      (n) => document.querySelector('[data-role="assistant"]')?.innerText.includes(`${n} more characters`),
      (whole.length - 8_000).toLocaleString("en"),
    );
    return rate;
  });
  await visitor.assertQuiet();
});
