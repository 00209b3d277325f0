// Starts the server under test: the debug binary on a free loopback port, its data in a temp directory.
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../../../../", import.meta.url));
const BINARY = process.env.CONTINUO_BIN ?? join(ROOT, "target/debug/continuo");
const START_MS_MAX = 60_000;
const STOP_MS_MAX = 30_000;

const letters = (n) => randomBytes(n * 2).toString("base64").replace(/[^A-Za-z0-9]/g, "").slice(0, n);
const devKey = () => `tr_dev_${letters(24)}`;

/**
 * `profile` is `dev` (with the demo agent, at full speed) or `serve` (nobody takes the runs); `settings` are more variables.
 * `restart` ends it with a signal and starts it again, on the same address with the same data.
 * @returns {Promise<{url: string, key: string, otherKey: string, restart: Function, stop: () => Promise<number|null>}>}
 */
export async function startServer(profile, settings = {}) {
  const directory = await mkdtemp(join(tmpdir(), "continuo-node-"));
  const key = devKey();
  const otherKey = devKey();
  const environment = {
    PATH: process.env.PATH,
    CONTINUO_LISTEN: "127.0.0.1:0",
    CONTINUO_DATA_DIR: directory,
    CONTINUO_DEV_SECRET_KEY: key,
    CONTINUO_DEV_SECRET_KEY_2: otherKey,
    CONTINUO_DEMO_TOKEN_MS: "0",
    CONTINUO_DEMO_IDLE_MS: "0",
    ...settings,
  };
  let node = await launch(profile, environment);
  const { url } = node;
  // A test process that ends must not leave its server behind.
  process.once("exit", () => node.child.kill("SIGKILL"));
  for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => process.exit(1));

  const restart = async (signal = "SIGTERM") => {
    await end(node, signal);
    node = await launch(profile, { ...environment, CONTINUO_LISTEN: new URL(url).host });
  };
  const stop = async () => {
    const code = await end(node, "SIGTERM");
    await rm(directory, { recursive: true, force: true });
    if (code !== 0) throw new Error(`the server ended with ${code} after SIGTERM:\n${node.said.slice(-60).join("\n")}`);
    return code;
  };
  return { url, key, otherKey, restart, stop };
}

async function launch(profile, env) {
  const child = spawn(BINARY, [profile], { env, stdio: ["ignore", "pipe", "pipe"] });
  const said = [];
  const ended = new Promise((resolve) => child.once("exit", (code, signal) => resolve(code ?? signal)));
  child.once("error", (error) => said.push(String(error)));
  for (const stream of [child.stdout, child.stderr]) {
    createInterface({ input: stream }).on("line", (line) => {
      said.push(line);
      if (said.length > 400) said.shift();
    });
  }
  const url = await listening(child, ended, said);
  await ready(url, ended, said);
  return { child, said, ended, url };
}

async function end({ child, ended }, signal) {
  child.kill(signal);
  const late = setTimeout(() => child.kill("SIGKILL"), STOP_MS_MAX);
  const code = await ended;
  clearTimeout(late);
  return code;
}

function listening(child, ended, said) {
  return new Promise((resolve, reject) => {
    const fail = (why) => reject(new Error(`${BINARY} ${why}:\n${said.join("\n")}`));
    const late = setTimeout(() => fail("did not say where it listens"), START_MS_MAX);
    ended.then((code) => fail(`ended with ${code}`));
    child.once("error", () => fail("could not be started; build it with: cargo build"));
    createInterface({ input: child.stdout }).on("line", (line) => {
      const found = /listening on (https?:\/\/\S+)/.exec(line);
      if (found) {
        clearTimeout(late);
        resolve(found[1].replace(/\/$/, ""));
      }
    });
  });
}

async function ready(url, ended, said) {
  let over = false;
  ended.then(() => (over = true));
  for (const end = Date.now() + START_MS_MAX; !over && Date.now() < end; ) {
    const answer = await fetch(`${url}/readyz`).catch(() => undefined);
    await answer?.arrayBuffer();
    if (answer?.ok) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`the server did not become ready:\n${said.join("\n")}`);
}
