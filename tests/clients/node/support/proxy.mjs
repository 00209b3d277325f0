// A TCP proxy before the server that loses answers: the request arrives and is served, its answer does not come back.
import { connect, createServer } from "node:net";

/** @returns {Promise<{url: string, key: string, loseAnswerTo: (text: string) => () => number, stop: () => Promise<void>}>} */
export async function startProxy(server) {
  const { hostname, port } = new URL(server.url);
  const sockets = new Set();
  let lost = { text: undefined, count: 0 };
  const proxy = createServer((inside) => {
    const outside = connect(Number(port), hostname);
    for (const socket of [inside, outside]) {
      sockets.add(socket);
      // Either end gone is the other's end too.
      socket.on("error", () => {}).on("close", () => (sockets.delete(socket), inside.destroy(), outside.destroy()));
    }
    let isDoomed = false;
    inside.on("data", (bytes) => {
      if (lost.text !== undefined && bytes.includes(lost.text)) {
        isDoomed = true;
        lost = { text: undefined, count: lost.count + 1 };
      }
      outside.write(bytes);
    });
    outside.on("data", (bytes) => (isDoomed ? inside.destroy() : inside.write(bytes)));
  });
  await new Promise((resolve) => proxy.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${proxy.address().port}`,
    key: server.key,
    /** The next request with this text in its head loses its answer; gives back how many were lost so far. */
    loseAnswerTo(text) {
      lost = { text, count: 0 };
      return () => lost.count;
    },
    async stop() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => proxy.close(resolve));
    },
  };
}
