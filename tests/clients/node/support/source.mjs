// A stream of chunks that is fed by hand.

export function source() {
  let controller;
  const stream = new ReadableStream({ start: (it) => void (controller = it) });
  return { stream, write: (...chunks) => chunks.forEach((chunk) => controller.enqueue(chunk)), close: () => controller.close() };
}
