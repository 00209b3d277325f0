// Reads server-sent events as they stand on the wire, comments and unknown fields included.

/** Opens a subscription and hands out its frames one by one. */
export async function subscribe(client, path, { headers = {}, token } = {}) {
  const abort = new AbortController();
  const response = await client.fetch("GET", path, {
    headers: { accept: "text/event-stream", ...headers },
    signal: abort.signal,
    ...(token === undefined ? {} : { token }),
  });
  return new Subscription(response, abort);
}

export class Subscription {
  constructor(response, abort) {
    this.response = response;
    this.status = response.status;
    this.headers = response.headers;
    this.frames = frames(response.body);
    this.abort = abort;
  }

  /** The next frame; undefined once the server has ended the stream. */
  async next() {
    const { value, done } = await this.frames.next();
    return done ? undefined : value;
  }

  /** The next frame of this event. */
  async nextOf(event) {
    for (let frame = await this.next(); frame; frame = await this.next()) {
      if (frame.event === event) return frame;
    }
    throw new Error(`the stream ended without another ${event}`);
  }

  /** So many records, in order. */
  async records(count) {
    const records = [];
    while (records.length < count) records.push(...(await this.nextOf("batch")).json.records);
    return records;
  }

  /** Every frame up to the end that the server makes. */
  async rest() {
    const all = [];
    for (let frame = await this.next(); frame; frame = await this.next()) all.push(frame);
    return all;
  }

  /** Gives up, as a browser does that goes away. */
  close() {
    this.abort.abort();
  }
}

async function* frames(body) {
  let buffered = "";
  const text = body.pipeThrough(new TextDecoderStream());
  for await (const piece of text) {
    buffered += piece;
    for (let end = buffered.indexOf("\n\n"); end >= 0; end = buffered.indexOf("\n\n")) {
      yield parse(buffered.slice(0, end));
      buffered = buffered.slice(end + 2);
    }
  }
  if (buffered.trim() !== "") throw new Error(`the stream ended inside a frame: ${JSON.stringify(buffered)}`);
}

function parse(block) {
  const frame = { event: "message", comments: [] };
  for (const line of block.split("\n")) {
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "") frame.comments.push(value);
    else if (name === "data") frame.data = frame.data === undefined ? value : `${frame.data}\n${value}`;
    else frame[name] = value;
  }
  if (frame.data?.startsWith("{")) frame.json = JSON.parse(frame.data);
  return frame;
}
