// Streams of chunks to write from.

/** All of these, and then the end. */
export function streamOf(chunks) {
  const { stream, write, close } = source();
  write(...chunks);
  close();
  return stream;
}

/** One that is fed by hand. */
export function source() {
  let controller;
  const stream = new ReadableStream({ start: (it) => void (controller = it) });
  return { stream, write: (...chunks) => chunks.forEach((chunk) => controller.enqueue(chunk)), close: () => controller.close() };
}
