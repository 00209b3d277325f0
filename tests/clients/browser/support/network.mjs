// What went over the wire, preflights included, which a page's script never sees.
import { EventEmitter, once } from "node:events";

const WAIT_MS_MAX = 30_000;

export class Network {
  calls = [];
  #byId = new Map();
  #changes = new EventEmitter();

  static async of(page) {
    const network = new Network();
    const devtools = await page.context().newCDPSession(page);
    const note = (event, change) =>
      devtools.on(`Network.${event}`, (said) => {
        change(network.#call(said.requestId), said);
        network.#changes.emit("change");
      });
    note("requestWillBeSent", (call, { request: { method, url, ...request } }) => {
      Object.assign(call, { method, url: new URL(url), preflight: method === "OPTIONS" });
      call.request = { ...lower(request.headers), ...call.request };
      network.calls.push(call);
    });
    note("requestWillBeSentExtraInfo", (call, { headers }) => Object.assign(call.request, lower(headers)));
    note("responseReceived", (call, { response }) => {
      Object.assign(call, { status: response.status, protocol: response.protocol });
      call.response = { ...lower(response.headers), ...call.response };
    });
    note("responseReceivedExtraInfo", (call, { headers }) => Object.assign(call.response, lower(headers)));
    note("loadingFailed", (call) => Object.assign(call, { ended: true }));
    note("loadingFinished", (call) => Object.assign(call, { ended: true }));
    await devtools.send("Network.enable");
    return network;
  }

  #call(id) {
    if (!this.#byId.has(id)) this.#byId.set(id, { request: {}, response: {} });
    return this.#byId.get(id);
  }

  /** Calls to a path that ends so, in order. */
  to(ending, { method, preflight = false } = {}) {
    const fits = (call) => call.url.pathname.endsWith(ending) && call.preflight === preflight;
    return this.calls.filter((call) => fits(call) && (method === undefined || call.method === method));
  }

  /** Appends and subscriptions of the page. */
  appends = () => this.to("/in/append", { method: "POST" });
  reads = () => this.to("/out", { method: "GET" });

  /** The `n`th of `calls()`, once it was answered. */
  async answered(calls, n = 0) {
    const signal = AbortSignal.timeout(WAIT_MS_MAX);
    while (calls()[n]?.status === undefined) await once(this.#changes, "change", { signal });
    return calls()[n];
  }

  /** Forgets what was so far. */
  clear() {
    this.calls = [];
  }
}

const lower = (headers) => Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));
