// A certificate that signs itself, for a server on loopback.
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** The settings that make a server speak TLS, and what takes the files away again. Trusted by this process from here on. */
export function selfSigned() {
  // This process has nobody else to talk to.
  process.env.NODE_TLS_REJECT_UNAUTHORIZED = "0";
  const directory = mkdtempSync(join(tmpdir(), "continuo-tls-"));
  const [cert, key] = [join(directory, "cert.pem"), join(directory, "key.pem")];
  const subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"];
  const curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
  execFileSync("openssl", ["req", "-x509", ...curve, "-keyout", key, "-out", cert, ...subject], { stdio: "ignore" });
  const remove = () => rmSync(directory, { recursive: true, force: true });
  return { settings: { CONTINUO_TLS_CERT: cert, CONTINUO_TLS_KEY: key }, remove };
}
