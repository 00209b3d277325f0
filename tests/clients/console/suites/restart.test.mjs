// The server goes away and comes back while a page is open on it.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { unique } from "../../node/support/http.mjs";
import { Visitor, open } from "../support/console.mjs";

let all;
before(async () => (all = await open()));
after(() => all?.stop());

for (const signal of ["SIGTERM", "SIGKILL"]) {
  test(`a session page says that the server is away, and goes on exactly where it was (${signal})`, async (t) => {
    const name = unique("restart");
    await all.client.createSession({ externalId: name, taskIdentifier: "nobody" });
    for (let i = 0; i < 5; i++) await all.client.append(name, "out", `before ${i}`);
    const visitor = await Visitor.enter(t, all, { path: `#/sessions/${name}` });
    await visitor.pane(".out").getByText("before 4").waitFor();
    const down = all.server.restart(signal);
    await visitor.page.getByRole("status").getByText("The server does not answer").waitFor();
    await visitor.shot("away");
    await down;
    for (let i = 0; i < 5; i++) await all.client.append(name, "out", `after ${i}`);
    await visitor.pane(".out").getByText("after 4").waitFor();
    const numbers = await visitor
      .pane(".out")
      .locator(".entry[data-seq]")
      .evaluateAll((rows) => rows.map((row) => Number(row.dataset.seq)));
    assert.deepEqual(
      numbers,
      Array.from(numbers, (_, i) => i),
      "without gap or repeat",
    );
    assert.equal(await visitor.pane(".out").locator(".entry.data").count(), 10);
    await visitor.text("The server does not answer").waitFor({ state: "detached" });
    await visitor.assertQuiet();
  });
}

test("what could not be sent stays in the field and is sent once, when the server is back", async (t) => {
  const name = unique("restart");
  await all.client.createSession({ externalId: name, taskIdentifier: "nobody" });
  const visitor = await Visitor.enter(t, all, { path: `#/sessions/${name}` });
  await visitor.pane(".in").getByText("live").waitFor();
  await visitor.page.route("**/*ChannelService/Append", (route) => route.fetch().then(() => route.abort()), {
    times: 1,
  });
  await visitor.say("said once");
  await visitor.page.getByRole("alert").getByText("The server cannot be reached").waitFor();
  assert.equal(await visitor.page.locator("#composer").inputValue(), "said once");
  await visitor.button("Try again").click();
  await visitor.page.getByRole("alert").waitFor({ state: "detached" });
  const records = await all.client.records(name, "in");
  assert.equal(records.length, 1, "the first one had arrived; only its answer was lost");
});
