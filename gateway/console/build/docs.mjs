// The docs of the console: the README, what is in docs/, and the definitions of the services.
import { readFileSync, readdirSync } from "node:fs";
import { basename, join } from "node:path";
import { anchorOf, treeOf } from "./markdown.mjs";
import { markdownOf } from "./proto.mjs";

/** Shown in this order, before the rest. */
const SERVICES = [
  "session_service",
  "channel_service",
  "run_service",
  "worker_service",
  "token_service",
  "blob_service",
  "admin_service",
];

export function docs(root) {
  const read = (path) => readFileSync(join(root, path), "utf8");
  const pages = readdirSync(join(root, "docs"))
    .filter((file) => file.endsWith(".md"))
    .sort();
  const names = {
    "README.md": "readme",
    ...Object.fromEntries(pages.map((file) => [`docs/${file}`, basename(file, ".md")])),
  };
  const page = (path) => doc(names[path], read(path), linkFrom(path, names));
  return [page("README.md"), ...pages.map((file) => page(`docs/${file}`)), ...definitions(root, read)];
}

function definitions(root, read) {
  const folder = "proto/continuo/v1";
  const all = readdirSync(join(root, folder)).map((file) => basename(file, ".proto"));
  const others = all.filter((name) => !SERVICES.includes(name)).sort();
  return [...SERVICES.filter((name) => all.includes(name)), ...others].map((name) => {
    const markdown = `# ${title(name)}\n${markdownOf(read(`${folder}/${name}.proto`))}`;
    return doc(`grpc-${name.replaceAll("_", "-")}`, markdown, () => undefined);
  });
}

const title = (name) =>
  `gRPC: ${name
    .split("_")
    .map((word) => word[0].toUpperCase() + word.slice(1))
    .join(name.endsWith("_service") ? "" : " ")}`;

function doc(name, markdown, link) {
  const { body, contents } = treeOf(markdown, (href) => link(href, name));
  const heading = /^# (.+)$/m.exec(markdown)?.[1] ?? name;
  return { name, title: name === "readme" ? "Quick start and concepts" : heading, contents, body };
}

/** Links between pages lead to the pages; what else a page names lies in the repository and is no link here. */
function linkFrom(path, names) {
  return (href, own) => {
    if (/^https?:/.test(href)) return href;
    const [file, anchor] = href.split("#", 2);
    const target = file === "" ? own : names[join(path, "..", file)];
    return target && `#/docs/${target}${anchor ? `/${anchorOf(anchor)}` : ""}`;
  };
}
