// A language model whose every word the test says, through the AI SDK's own mock.
import { MockLanguageModelV4 } from "ai/test";
import { within } from "./wait.mjs";

const USAGE = {
  inputTokens: { total: 1, noCache: 1, cacheRead: 0, cacheWrite: 0 },
  outputTokens: { total: 1, text: 1, reasoning: 0 },
};

/** `model` goes to the agent; `next()` is the model's next call, which answers what the test has it say. */
export class Puppet {
  #calls = [];
  #waiting = [];
  model = new MockLanguageModelV4({ doStream: async (options) => ({ stream: this.#call(options) }) });

  #call({ prompt, abortSignal }) {
    let controller;
    const stream = new ReadableStream({ start: (made) => void (controller = made) });
    controller.enqueue({ type: "stream-start", warnings: [] });
    const call = new Call(prompt, controller);
    if (abortSignal?.aborted) call.abort(abortSignal.reason);
    abortSignal?.addEventListener("abort", () => call.abort(abortSignal.reason), { once: true });
    const waiting = this.#waiting.shift();
    if (waiting) waiting(call);
    else this.#calls.push(call);
    return stream;
  }

  next() {
    const call = this.#calls.shift();
    if (call) return Promise.resolve(call);
    return within(new Promise((resolve) => this.#waiting.push(resolve)), "a call of the model");
  }

  /** The next call, answered with this text. */
  async answer(text) {
    const call = await this.next();
    call.say(text).end();
    return call;
  }
}

class Call {
  #id = "t";
  #hasBegun = false;
  #isOver = false;
  #gaveUp;
  #aborted = new Promise((resolve) => (this.#gaveUp = resolve));

  constructor(prompt, controller) {
    this.prompt = prompt;
    this.controller = controller;
  }

  /** What the model was told, one line a message: `user: hello`. */
  get told() {
    const text = (part) => part.text ?? part.type ?? part;
    return this.prompt.map(({ role, content }) => `${role}: ${[content].flat().map(text).join("")}`);
  }

  /** The agent gave the call up. */
  get aborted() {
    return within(this.#aborted, "the end of the call");
  }

  say(text) {
    if (!this.#hasBegun) this.controller.enqueue({ type: "text-start", id: this.#id });
    this.#hasBegun = true;
    for (const delta of text.match(/\S+\s*/g)) this.controller.enqueue({ type: "text-delta", id: this.#id, delta });
    return this;
  }

  /** Asks for a tool instead of saying more. */
  use(toolName, input, toolCallId = `call-${toolName}`) {
    this.controller.enqueue({ type: "tool-call", toolCallId, toolName, input: JSON.stringify(input) });
    return this.end("tool-calls");
  }

  end(reason = "stop") {
    if (this.#hasBegun) this.controller.enqueue({ type: "text-end", id: this.#id });
    this.controller.enqueue({ type: "finish", finishReason: { unified: reason, raw: reason }, usage: USAGE });
    this.#isOver = true;
    this.controller.close();
  }

  abort(reason) {
    if (!this.#isOver) this.controller.error(reason);
    this.#isOver = true;
    this.#gaveUp();
  }
}
