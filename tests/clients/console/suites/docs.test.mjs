// The docs: pages, REST and gRPC as the server has them, read in the page; what is in them is text, whatever it looks like.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { Visitor, open } from "../support/console.mjs";

let all;
before(async () => (all = await open()));
after(() => all?.stop());

const read = (t, path, more) => Visitor.enter(t, all, { key: null, path: `#/docs${path}`, ...more });
const heading = (visitor, name) => visitor.page.getByRole("heading", { level: 1, name, exact: true });
const menu = (visitor) => visitor.page.getByRole("navigation", { name: "Docs" });
const get = async (path) => (await fetch(new URL(path, all.url))).text();
/** The top of what a link led to is at the top of the window, below the bar. */
const whenAtTop = (visitor, name) =>
  visitor.page.waitForFunction(
    (name) =>
      [...document.querySelectorAll("article :is(h2, h3)")].some((heading) => {
        const { top } = heading.getBoundingClientRect();
        return heading.textContent === name && top >= 0 && top < 120;
      }),
    name,
  );

test("every page of the index opens, with its title", async (t) => {
  const { pages, definitions } = JSON.parse(await get("docs/index.json"));
  const visitor = await read(t, "");
  await heading(visitor, "Continuo").waitFor();
  const links = await menu(visitor).locator("section > div > a").all();
  const names = await Promise.all(links.map((link) => link.textContent()));
  const rest = ["Quick start", ...pages.slice(1).map(({ title }) => title), "Routes"];
  assert.deepEqual(names, [...rest, ...definitions.map(({ title }) => title)]);
  for (const { path, title } of [...pages, ...definitions]) {
    const name = path === "README.md" ? "Quick start" : title;
    await menu(visitor).getByRole("link", { name, exact: true }).first().click();
    await heading(visitor, title).waitFor();
    const source = (await get(`docs/${path}`)).length;
    const shown = (await visitor.page.locator("article").innerText()).length;
    assert.ok(shown > source * 0.7, `${path}: ${shown} of ${source} characters`);
  }
  await visitor.assertQuiet();
});

test("links lead from page to page, to the place they name, and back", async (t) => {
  const visitor = await read(t, "");
  await visitor.page.getByRole("article").getByRole("link", { name: "docs/clients.md" }).click();
  await heading(visitor, "Clients and workers in any language").waitFor();
  await visitor.page.getByRole("row", { name: "Go" }).getByRole("link", { name: "worker" }).click();
  await heading(visitor, "Go").waitFor();
  await whenAtTop(visitor, "A worker in Go");
  await menu(visitor).getByRole("link", { name: "A chat in Go" }).click();
  await whenAtTop(visitor, "A chat in Go");
  await visitor.page.getByRole("article").getByRole("link", { name: "Clients and workers" }).click();
  await heading(visitor, "Clients and workers in any language").waitFor();
  await visitor.page.getByRole("article").getByRole("link", { name: "proto/continuo/v1" }).click();
  await heading(visitor, "SessionService").waitFor();
  await visitor.page.goBack();
  await heading(visitor, "Clients and workers in any language").waitFor();
  await visitor.assertQuiet();
});

test("the REST reference has every operation, with all that the document says of it", async (t) => {
  const document = JSON.parse(await get("/openapi.json"));
  const visitor = await read(t, "/rest");
  await heading(visitor, "REST routes").waitFor();
  const shown = await visitor.page.locator(".operation").evaluateAll((sections) =>
    sections.map((section) => ({
      title: section.querySelector("h3").textContent,
      id: section.querySelector("h3").id,
      answers: [...section.querySelectorAll(".answer")].map((answer) => answer.querySelector("code").textContent),
      text: section.textContent,
    })),
  );
  const operations = Object.entries(document.paths).flatMap(([path, item]) =>
    ["get", "head", "put", "post", "patch", "delete"]
      .filter((method) => item[method])
      .map((method) => ({ method, path, parameters: item.parameters ?? [], ...item[method] })),
  );
  assert.equal(shown.length, operations.length);
  for (const operation of operations) {
    const { method, path, operationId, parameters, summary, responses } = operation;
    const section = shown.find(({ id }) => id === `doc-${operationId}`) ?? assert.fail(operationId);
    assert.equal(section.title, `${method.toUpperCase()} ${path}`);
    assert.ok(section.text.includes(summary.replaceAll("`", "")), `${operationId}: ${summary}`);
    assert.deepEqual(section.answers, Object.keys(responses), operationId);
    for (const parameter of [...parameters, ...(document.paths[path][method].parameters ?? [])]) {
      const { name } = parameter.$ref ? document.components.parameters[parameter.$ref.split("/").at(-1)] : parameter;
      assert.ok(section.text.includes(name), `${operationId}: ${name}`);
    }
  }
  await visitor.assertQuiet();
});

test("schemas say nothing that the reference would pass over", async () => {
  const known = "$ref type description format contentMediaType const enum default pattern minimum maximum minLength maxLength minItems maxItems required properties items allOf anyOf oneOf not if then";
  const [document, found] = [JSON.parse(await get("/openapi.json")), new Set()];
  const walk = (schema) => {
    for (const [word, value] of Object.entries(schema)) {
      found.add(word);
      if (word === "properties") Object.values(value).forEach(walk);
      else if (["items", "not", "if", "then"].includes(word)) walk(value);
      else if (["allOf", "anyOf", "oneOf"].includes(word)) value.forEach(walk);
    }
  };
  const search = (value) => {
    if (typeof value !== "object" || value === null) return;
    for (const [key, inside] of Object.entries(value)) {
      if (key === "schema") walk(inside);
      else if (key === "schemas") Object.values(inside).forEach(walk);
      else if (key !== "example" && key !== "examples") search(inside);
    }
  };
  search(document);
  assert.deepEqual([...found].filter((word) => !known.split(" ").includes(word)), ["examples"], "those are for tools");
});

test("of an operation one sees its fields, their limits, who may call, and what a refusal holds", async (t) => {
  const visitor = await read(t, "/rest/createSession");
  const section = visitor.page.locator(".operation", { has: visitor.page.locator("#doc-createSession") });
  await section.waitFor();
  await visitor.page.waitForFunction(() => {
    const { top } = document.getElementById("doc-createSession").getBoundingClientRect();
    return top >= 0 && top < 120;
  });
  const field = (name) => section.locator("li", { has: visitor.page.locator(`> code:text-is("${name}")`) }).first();
  assert.match(await field("taskIdentifier").innerText(), /string, 1 to 128 characters.* required/);
  assert.match(await field("maxAttempts").innerText(), /integer, 1 to 10/);
  assert.match(await section.locator(".callers").innerText(), /secret key; public token with write:sessions and trigger:tasks:/);
  const refusal = section.locator("details", { hasText: "Another state of things" });
  assert.equal(await refusal.getByText("error", { exact: true }).count(), 0);
  await refusal.locator("summary").focus();
  await visitor.page.keyboard.press("Enter");
  await refusal.getByText("error", { exact: true }).waitFor();
  await refusal.getByText("Session is closed").waitFor();
  await menu(visitor).getByRole("link", { name: "appendRecords", exact: true }).click();
  await visitor.page.waitForFunction(() => location.hash === "#/docs/rest/appendRecords");
  await visitor.assertQuiet();
});

test("the gRPC reference has every rpc and every message, and leads from one to the other", async (t) => {
  const { definitions } = JSON.parse(await get("docs/index.json"));
  const visitor = await read(t, "/grpc-session-service");
  for (const { path, title } of definitions) {
    const source = await get(`docs/${path}`);
    await menu(visitor).getByRole("link", { name: title, exact: true }).first().click();
    await heading(visitor, title).waitFor();
    const names = (level) => visitor.page.locator(`article h${level}`).allInnerTexts();
    assert.deepEqual(await names(3), [...source.matchAll(/^ {2}rpc (\w+)/gm)].map(([, name]) => name), path);
    const types = [...source.matchAll(/^(?:service|message|enum) (\w+)/gm)].map(([, name]) => name);
    assert.deepEqual((await names(2)).filter((name) => !name.includes(".")), types, path);
  }
  await visitor.page.evaluate(() => (location.hash = "#/docs/grpc-channel-service/append"));
  await visitor.text("Appends records, all or none.").waitFor();
  await visitor.page.getByRole("article").getByRole("link", { name: "AppendRequest", exact: true }).first().click();
  await whenAtTop(visitor, "AppendRequest");
  await visitor.page.getByRole("article").getByRole("link", { name: "ChannelRef", exact: true }).first().click();
  await heading(visitor, "channel").waitFor();
  await whenAtTop(visitor, "ChannelRef");
  await visitor.assertQuiet();
});

test("what looks like markup is text, and a link of another kind is none", async (t) => {
  const HARM = '<img src=x onerror="window.harm=1"><script>window.harm=1</script>';
  const visitor = await Visitor.enter(t, all, { key: null });
  await visitor.page.route("**/console/docs/docs/limits.md", (route) =>
    route.fulfill({
      body: `# Limits\n\n${HARM}\n\nin a line ${HARM} <b>x</b>\n\n[a](javascript:window.harm=1) [b](data:text/html,x) ![i](x.png "t")\n\n| ${HARM} |\n|---|\n| &lt;i&gt; |\n\n- [ ] to do\n`,
    }),
  );
  await visitor.page.route("**/openapi.json", async (route) => {
    const document = await (await route.fetch()).json();
    document.paths["/healthz"].get.summary = HARM;
    document.paths["/healthz"].get.description = `${HARM} [a](javascript:window.harm=1)`;
    await route.fulfill({ json: document });
  });
  for (const page of ["limits", "rest"]) {
    await visitor.page.evaluate((page) => (location.hash = `#/docs/${page}`), page);
    await visitor.page.getByRole("article").getByText("<script>window.harm=1</script>").first().waitFor();
    const harm = await visitor.page.evaluate(() => ({
      harm: window.harm,
      foreign: document.querySelectorAll("article :is(script, img, b, i, input, svg)").length,
      links: [...document.querySelectorAll("article a")].filter((a) => !/^https?:$/.test(a.protocol)).length,
    }));
    assert.deepEqual(harm, { harm: undefined, foreign: 0, links: 0 }, page);
  }
  await visitor.assertQuiet();
});

test("a page that is not there says so, and the others stay within reach", async (t) => {
  const visitor = await read(t, "/nothing/at-all");
  await visitor.text("There is no such page").waitFor();
  await menu(visitor).getByRole("link", { name: "Concepts" }).click();
  await heading(visitor, "Concepts").waitFor();
  await visitor.assertQuiet();
});

test("a server that is away is waited for, before the docs came and after", async (t) => {
  const visitor = await Visitor.enter(t, all, { key: null });
  const break_ = async (pattern) => {
    await visitor.page.route(pattern, (route) => route.abort("connectionrefused"));
    return () => visitor.page.unroute(pattern);
  };
  const said = visitor.page.getByRole("alert").getByText("The server cannot be reached");
  const mend = await break_("**/console/**");
  await visitor.page.evaluate(() => (location.hash = "#/docs/limits"));
  await said.waitFor();
  await visitor.shot("docs-away");
  await mend();
  await heading(visitor, "Limits").waitFor();
  const mendOne = await break_("**/console/docs/**");
  await menu(visitor).getByRole("link", { name: "Concepts" }).click();
  await said.waitFor();
  await mendOne();
  await heading(visitor, "Concepts").waitFor();
  assert.equal(await said.count(), 0);
});

test("on a phone the menu folds away, and no page runs over the edge", async (t) => {
  const visitor = await read(t, "", { width: 390, height: 844, dark: true });
  await heading(visitor, "Continuo").waitFor();
  await menu(visitor).getByText("Guides: Quick start").click();
  await menu(visitor).getByRole("link", { name: "Go", exact: true }).click();
  await heading(visitor, "Go").waitFor();
  assert.equal(await menu(visitor).getByRole("link").count(), 0, "a step closes the menu");
  for (const [page, title] of [
    ["readme", "Continuo"],
    ["concepts", "Concepts"],
    ["clients", "Clients and workers in any language"],
    ["migration", "From the Trigger.dev SDK"],
    ["limits", "Limits"],
    ["rest", "REST routes"],
    ["grpc-run-service", "RunService"],
  ]) {
    await visitor.page.evaluate((page) => (location.hash = `#/docs/${page}`), page);
    await heading(visitor, title).waitFor();
    const over = await visitor.page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(over <= 0, `${page} is ${over} pixels too wide`);
    await visitor.shot(`docs-${page}-phone`);
  }
  await visitor.assertQuiet();
});
