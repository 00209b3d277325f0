// A chat as an application writes it in React: useChat on useTriggerChatTransport, rendered into a document.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { click, countOf, newPage, textAt } from "../support/dom.mjs";
import { Agent, PLAYED, begin, end, words } from "../support/agent.mjs";
import { chat, textOf, use } from "../support/chat.mjs";
import { unique } from "../support/http.mjs";
import { startServer } from "../support/server.mjs";
import { until } from "../support/wait.mjs";

const { createElement: h, useState } = await import("react");
const { createRoot } = await import("react-dom/client");
const { useChat } = await import("@ai-sdk/react");
const { useTriggerChatTransport } = await import("@trigger.dev/sdk/chat/react");

let server;
before(async () => use((server = await startServer("serve"))));
after(() => server?.stop());

/** The application, with what it kept for its user when the page was loaded before. */
function application(task, kept = { messages: [], sessions: {} }) {
  const start = chat.createStartSessionAction(task);
  const startSession = ({ chatId }) => start({ chatId });
  const accessToken = async ({ chatId }) => (await start({ chatId })).publicAccessToken;
  const onSessionChange = (chatId, session) => (kept.sessions[chatId] = session);
  return { task, kept, startSession, accessToken, onSessionChange };
}

function Conversation({ id, app, resume }) {
  const { task, kept, startSession, accessToken, onSessionChange } = app;
  const options = { task, baseURL: server.url, startSession, accessToken, onSessionChange, sessions: kept.sessions };
  const transport = useTriggerChatTransport(options);
  const { messages, status, sendMessage, stop } = useChat({ id, messages: kept.messages, transport, resume });
  const [draft] = useState("Tell me a story");
  return h(
    "main",
    { "data-status": status },
    h("i", { id: "status" }, status),
    messages.map((message) => h("p", { key: message.id, className: message.role }, textOf(message))),
    h("button", { id: "send", onClick: () => sendMessage({ text: draft }) }, "Send"),
    h("button", { id: "stop", onClick: () => transport.stopGeneration(id).then(stop) }, "Stop"),
  );
}

/** Loads the page into the document, in place of what was there. A page is not told that it goes away. */
function load(t, props) {
  const root = createRoot(newPage());
  t.after(() => root.unmount());
  root.render(h(Conversation, props));
}

const shows = (selector, text) => until(() => textAt(selector) === text, `“${text}” at ${selector}`);
const is = (status) => shows(`main[data-status=${status}] #status`, status);

test("say, read along, reload in mid-answer, and read on", async (t) => {
  const id = unique("react");
  const app = application(PLAYED);
  const agent = new Agent(server, id);
  t.after(() => agent.close());

  load(t, { id, app });
  await is("ready");
  click("#send");
  const input = await agent.next();
  await shows(".user", "Tell me a story");
  await agent.say(...begin("m"), ...words("m", "Once upon "));
  await shows(".assistant", "Once upon ");
  await is("streaming");

  const kept = { messages: [input.payload.message], sessions: structuredClone(app.kept.sessions) };
  const again = application(PLAYED, kept);
  load(t, { id, app: again, resume: true });
  await shows(".user", "Tell me a story");
  await shows(".assistant", "Once upon ");
  await agent.say(...words("m", "a time."), ...end("m"));
  await agent.turnComplete(input);
  await is("ready");
  await shows(".assistant", "Once upon a time.");
  assert.equal(countOf("p"), 2);
  assert.equal(again.kept.sessions[id].isStreaming, false);
});

test("a stopped answer stays as it was, and the next message is answered", async (t) => {
  const id = unique("react");
  const app = application(PLAYED);
  const agent = new Agent(server, id);
  t.after(() => agent.close());
  load(t, { id, app });
  await is("ready");
  click("#send");
  await agent.next();
  await agent.say(...begin("a"), ...words("a", "Once "));
  await shows(".assistant", "Once ");
  click("#stop");
  const stop = await agent.next();
  assert.equal(stop.kind, "stop");
  await agent.say(...words("a", "upon"), ...end("a"));
  await agent.turnComplete(stop);
  await is("ready");
  click("#send");
  await agent.answer(await agent.next(), "Very well.");
  await shows("p:last-of-type", "Very well.");
  await shows(".assistant", "Once ");
  await is("ready");
});
