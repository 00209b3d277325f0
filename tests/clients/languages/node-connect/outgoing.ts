/** What is still to be sent on a stream: messages are added while it is open. */
export class Outgoing<T> implements AsyncIterable<T> {
  #queue: T[] = [];
  #isEnded = false;
  #wake = () => {};

  send(message: T) {
    this.#queue.push(message);
    this.#wake();
  }

  end() {
    this.#isEnded = true;
    this.#wake();
  }

  async *[Symbol.asyncIterator]() {
    for (;;) {
      while (this.#queue.length > 0) yield this.#queue.shift()!;
      if (this.#isEnded) return;
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }
}
