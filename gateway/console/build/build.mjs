// Builds the console into a folder: index.html and, under names that hold their content's hash, what it loads. The docs are
// not among it: the server holds their sources, and the page reads them when they are opened.
// node build/build.mjs [folder]
import { mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const HERE = fileURLToPath(new URL("..", import.meta.url));
/** Everything together, compressed. */
const GZIP_BYTES_MAX = 150_000;

const out = process.argv[2] ?? join(HERE, "dist");
rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });

const { metafile } = await build({
  absWorkingDir: HERE,
  entryPoints: ["src/main.tsx"],
  outdir: out,
  bundle: true,
  format: "esm",
  splitting: true,
  minify: true,
  target: "es2022",
  jsx: "automatic",
  jsxImportSource: "preact",
  entryNames: "[name]-[hash]",
  chunkNames: "[name]-[hash]",
  legalComments: "none",
  metafile: true,
});
const files = Object.keys(metafile.outputs).map((path) => basename(path));
const entry = Object.entries(metafile.outputs).find(([, { entryPoint }]) => entryPoint === "src/main.tsx");

const html = readFileSync(join(HERE, "src/index.html"), "utf8")
  .replace("main.js", basename(entry[0]))
  .replace("main.css", basename(entry[1].cssBundle));
writeFileSync(join(out, "index.html"), html);

const parts = new Set(
  Object.keys(metafile.inputs).flatMap((path) => /^node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(path)?.[1] ?? []),
);
writeFileSync(join(out, "licenses.txt"), licenses([...parts].sort()));

let whole = 0;
for (const file of [...files, "index.html", "licenses.txt"]) {
  const bytes = gzipSync(readFileSync(join(out, file)), { level: 9 }).length;
  whole += bytes;
  console.log(`${String(statSync(join(out, file)).size).padStart(8)}  ${String(bytes).padStart(7)} gzip  ${file}`);
}
console.log(`${String(whole).padStart(16)} gzip in all, at most ${GZIP_BYTES_MAX}`);
if (whole > GZIP_BYTES_MAX) process.exit(1);

/** What the libraries inside ask for: their licence, once for those that share its words. */
function licenses(parts) {
  const named = new Map();
  for (const part of parts) {
    const folder = join(HERE, "node_modules", part);
    const file = readdirSync(folder).find((file) => /^licen[cs]e/i.test(file));
    const text = file
      ? readFileSync(join(folder, file), "utf8").trim()
      : JSON.parse(readFileSync(join(folder, "package.json"), "utf8")).license;
    named.set(text, [...(named.get(text) ?? []), part]);
  }
  return [...named].map(([text, parts]) => `${parts.join(", ")}\n\n${text}\n`).join("\n\n");
}
