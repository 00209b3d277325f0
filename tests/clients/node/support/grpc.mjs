// The gRPC services, from the definitions themselves.
import { loadPackageDefinition, credentials, Metadata } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const PROTO = fileURLToPath(new URL("../../../../proto/", import.meta.url));
const FILES = ["admin_service", "token_service"].map((name) => `continuo/v1/${name}.proto`);
const OPTIONS = { includeDirs: [PROTO], longs: Number, enums: String, oneofs: true };
const { v1 } = loadPackageDefinition(loadSync(FILES, OPTIONS)).continuo;

export function metadata(token) {
  const made = new Metadata();
  made.set("authorization", `Bearer ${token}`);
  return made;
}

/** A client of one service; `call(method, request)` is a unary call with the server's key. */
export function service(server, name) {
  const client = new v1[name](new URL(server.url).host, credentials.createInsecure());
  const call = (method, request, token = server.key) =>
    promisify(client[method]).call(client, request, metadata(token));
  return { client, call, close: () => client.close() };
}
