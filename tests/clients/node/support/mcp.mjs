// The published command line tool as an MCP server, started and spoken to as an MCP host does it: over its standard streams.
import { mkdtemp, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const FOLDER = new URL("../../mcp/", import.meta.url);
const TOOL = fileURLToPath(new URL("node_modules/trigger.dev/dist/esm/index.js", FOLDER));
const require = createRequire(FOLDER);
const { Client } = require("@modelcontextprotocol/sdk/client/index.js");
const { StdioClientTransport } = require("@modelcontextprotocol/sdk/client/stdio.js");

/**
 * Starts the tool with this personal token. `call` calls one of its tools and gives what it says and whether it is an error.
 * @returns {Promise<{call: (name: string, input?: object) => Promise<{text: string, isError: boolean}>, stop: Function}>}
 */
export async function startMcp(server, accessToken) {
  // A developer's own profiles would be found here.
  const home = await mkdtemp(join(tmpdir(), "continuo-mcp-"));
  const transport = new StdioClientTransport({
    command: process.execPath,
    args: [TOOL, "mcp", "--skip-telemetry"],
    cwd: home,
    env: { HOME: home, XDG_CONFIG_HOME: home, TRIGGER_API_URL: server.url, TRIGGER_ACCESS_TOKEN: accessToken },
  });
  const client = new Client({ name: "continuo-tests", version: "1.0.0" });
  await client.connect(transport);

  const call = async (name, input = {}) => {
    const { content, isError = false } = await client.callTool({ name, arguments: input });
    return { text: content.map((part) => part.text).join("\n"), isError };
  };
  const stop = async () => {
    await client.close();
    await rm(home, { recursive: true, force: true });
  };
  return { call, stop };
}
