// A headless Chromium, and the chat page as a person uses it.
import { chromium } from "playwright-core";
import { channelPath } from "../../node/support/http.mjs";
import { subscribe } from "../../node/support/sse.mjs";
import { Network } from "./network.mjs";

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

export const startBrowser = (...args) =>
  chromium.launch({ executablePath: EXECUTABLE, headless: true, args: [...QUIET, ...args] });

export class ChatPage {
  static async open(context, site, chatId, { watch = false } = {}) {
    const chat = new ChatPage();
    chat.page = await context.newPage();
    chat.network = await Network.of(chat.page);
    await chat.page.goto(`${site.origin}/?chat=${encodeURIComponent(chatId)}${watch ? "&watch" : ""}`);
    await chat.input.waitFor();
    return chat;
  }

  get input() {
    return this.page.getByLabel("Message");
  }

  async reload() {
    await this.page.reload();
    await this.input.waitFor();
  }

  async send(text) {
    await this.input.fill(text);
    await this.input.press("Enter");
  }

  /** Says something and waits for the whole answer. */
  async ask(text) {
    const before = (await this.answers()).length;
    await this.send(text);
    return this.whenAnswered(before);
  }

  stop() {
    return this.page.getByRole("button", { name: "Stop" }).click();
  }

  answers() {
    return this.#texts("assistant");
  }

  questions() {
    return this.#texts("user");
  }

  #texts(role) {
    return this.page.locator(`[data-role=${role}]`).allTextContents();
  }

  /** A person sees so much: `look(n)` in the page is true. */
  when(look, n) {
    return this.page.waitForFunction(look, n, { polling: 20 });
  }

  /** The `n`th answer has begun and is not over; what is there of it. */
  async whenSpeaking(n = 0) {
    const look = (n) => {
      const text = document.querySelectorAll("[data-role=assistant]")[n]?.textContent ?? "";
      const streaming = document.querySelector("[role=status]").textContent === "streaming";
      return streaming && text.length > 40 && text;
    };
    return (await this.when(look, n)).jsonValue();
  }

  /** The only answer is under way and has got further than `before`. */
  async whenLonger(before) {
    const look = (before) => {
      const text = document.querySelector("[data-role=assistant]")?.textContent ?? "";
      return text.length > before.length && text.startsWith(before);
    };
    await this.when(look, before);
  }

  /** These answers are there, and no others. */
  async whenAnswers(answers) {
    const look = (answers) => {
      const there = [...document.querySelectorAll("[data-role=assistant]")].map((answer) => answer.textContent);
      return JSON.stringify(there) === JSON.stringify(answers);
    };
    await this.when(look, answers);
  }

  /** The `n`th answer is there and the page is ready for more. */
  async whenAnswered(n = 0) {
    const look = (n) => {
      const text = document.querySelectorAll("[data-role=assistant]")[n]?.textContent;
      return document.querySelector("[role=status]").textContent === "ready" && text;
    };
    return (await this.when(look, n)).jsonValue();
  }

  closedNote() {
    return this.page.locator("[data-closed]").textContent();
  }

  alert() {
    return this.page.getByRole("alert").textContent();
  }

  /** What the page keeps of the session for its reload; `change` alters it there. */
  stored(chatId, change = {}) {
    const alter = ([key, change]) => {
      const session = { ...JSON.parse(localStorage.getItem(key)), ...change };
      localStorage.setItem(key, JSON.stringify(session));
      return session;
    };
    return this.page.evaluate(alter, [`${chatId}/session`, change]);
  }
}

const endsTurn = ({ headers = [] }) =>
  headers.some(([name, value]) => name === "trigger-control" && value === "turn-complete");

/** Waits for the end of a session's first turn, whoever else listens. */
export async function turnCompleted(client, session) {
  const reader = await subscribe(client, channelPath(session, "out"));
  while (!(await reader.nextOf("batch")).json.records.some(endsTurn));
  reader.close();
}

/** The answers as they stand on `.out`, turn by turn. */
export async function answersOf(client, session) {
  const turns = [""];
  for (const record of await client.records(session, "out")) {
    if (record.data.type === "text-delta") turns.push(turns.pop() + record.data.delta);
    if (endsTurn(record)) turns.push("");
  }
  return turns.filter((text) => text !== "");
}
