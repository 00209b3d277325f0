// Chats with an agent from an MCP host, through the MCP server of the published command line tool.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { unique } from "../support/http.mjs";
import { startMcp } from "../support/mcp.mjs";
import { runs, sessions, use } from "../support/sdk.mjs";
import { startServer } from "../support/server.mjs";
import { until } from "../support/wait.mjs";

const personalToken = `tr_pat_${unique("p")}`;
const AGENT = { projectRef: "proj_dev", environment: "dev", agentId: "demo-agent" };

let server;
let mcp;
before(async () => {
  // The tool makes its session with a scoped token.
  const settings = { CONTINUO_ADMIN_KEY: personalToken, CONTINUO_CREATE_ALLOW_JWT: "true" };
  use((server = await startServer("dev", settings)));
  mcp = await startMcp(server, personalToken);
});
after(async () => {
  await mcp?.stop();
  await server?.stop();
});

async function said(tool, input, by = mcp) {
  const { text, isError } = await by.call(tool, input);
  assert.equal(isError, false, text);
  return text;
}

async function refused(tool, input, by = mcp) {
  const { text, isError } = await by.call(tool, input);
  assert.equal(isError, true, text);
  return text;
}

async function start() {
  const chatId = unique("chat");
  await said("start_agent_chat", { ...AGENT, chatId });
  return { chatId, send: (message) => said("send_agent_message", { chatId, message }) };
}

test("an agent is chatted with from start to close, turn after turn", async () => {
  const chatId = unique("chat");
  const started = await said("start_agent_chat", { ...AGENT, chatId, clientData: { who: "a host" } });
  const session = await sessions.retrieve(chatId);
  assert.ok(started.includes(`Session ID: ${session.id}`) && started.includes(`Run ID: ${session.currentRunId}`), started);
  assert.deepEqual([session.type, session.taskIdentifier], ["chat.agent", "demo-agent"]);
  const run = await runs.retrieve(session.currentRunId);
  assert.deepEqual(run.payload.metadata, { who: "a host" });

  for (const [turn, message] of ["Hello, who is there?", "And who is there now?"].entries()) {
    const answer = await said("send_agent_message", { chatId, message });
    assert.ok(answer.startsWith(`You said: “${message}”. This is message ${turn + 1} of this session`), answer);
    assert.ok(answer.endsWith(`Run: ${session.currentRunId}`), answer);
  }

  assert.equal(await said("close_agent_chat", { chatId }), `Chat ${chatId} closed.`);
  await until(async () => (await runs.retrieve(session.currentRunId)).isCompleted, "the end of the run");
  assert.match(await refused("send_agent_message", { chatId, message: "Still there?" }), /No active chat/);
});

test("a chat whose run was cancelled is answered by the next one", async () => {
  const { chatId, send } = await start();
  await send("One");
  const first = (await sessions.retrieve(chatId)).currentRunId;
  await runs.cancel(first);
  const answer = await send("Two");
  const { currentRunId } = await sessions.retrieve(chatId);
  assert.notEqual(currentRunId, first);
  assert.ok(answer.startsWith("You said: “Two”. This is message 2") && answer.includes(currentRunId), answer);
});

test("a run that hands over is followed by its successor", async () => {
  const { chatId, send } = await start();
  await send("One");
  const first = (await sessions.retrieve(chatId)).currentRunId;
  await send("upgrade");
  const answer = await send("Three");
  const { currentRunId } = await sessions.retrieve(chatId);
  assert.notEqual(currentRunId, first);
  assert.ok(answer.startsWith("You said: “Three”") && answer.includes(currentRunId), answer);
});

test("the operator is known by the personal token, and nobody by another", async () => {
  const who = await said("whoami");
  assert.ok(who.includes("**User ID:** operator") && who.includes(`**Dashboard:** ${server.url}`), who);
  const stranger = await startMcp(server, "tr_pat_of_somebody_else");
  try {
    assert.match(await refused("start_agent_chat", AGENT, stranger), /Invalid or Missing Access Token/);
  } finally {
    await stranger.stop();
  }
});

test("a project or an environment that is not there is refused", async () => {
  for (const wrong of [{ projectRef: "proj_nowhere" }, { environment: "prod" }]) {
    assert.match(await refused("start_agent_chat", { ...AGENT, ...wrong }), /Could not get the authentication token/);
  }
});

test("without create.allow_jwt no chat is started", async () => {
  const strict = await startServer("dev", { CONTINUO_ADMIN_KEY: personalToken });
  const host = await startMcp(strict, personalToken);
  try {
    assert.match(await refused("start_agent_chat", AGENT, host), /Invalid API key/);
  } finally {
    await host.stop();
    await strict.stop();
  }
});
