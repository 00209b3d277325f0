// What there is to read, and where each page comes from: the server holds the sources, as they are in the repository.
import { href } from "../app/route.ts";
import { docOf } from "./markdown.ts";
import type { OpenApi } from "./openapi.ts";
import { markdownOf, typesOf } from "./proto.ts";
import { restOf } from "./rest.ts";
import { type Doc, type Link, anchorOf } from "./tree.ts";

const SOURCES = "docs/";
const OPENAPI = "/openapi.json";

export interface Page {
  /** In addresses of the console. */
  name: string;
  title: string;
  group: "Guides" | "REST" | "gRPC";
  /** In the repository. */
  path: string;
  /** A page in the folder of another one. */
  isBelow: boolean;
}

interface Entry {
  path: string;
  title: string;
}

/** Every page, in the order to show them. */
export async function fetchPages(): Promise<Page[]> {
  const index: { pages: Entry[]; definitions: Entry[] } = await (await got(`${SOURCES}index.json`)).json();
  const guides = index.pages.map(({ path, title }): Page => ({
    name: nameOf(path),
    title: path === "README.md" ? "Quick start" : title,
    group: "Guides",
    path,
    isBelow: path.split("/").length > 2,
  }));
  const rest: Page = { name: "rest", title: "Routes", group: "REST", path: OPENAPI, isBelow: false };
  const definitions = index.definitions.map(({ path, title }): Page => ({
    name: nameOf(path),
    title,
    group: "gRPC",
    path,
    isBelow: false,
  }));
  return [...guides, rest, ...definitions];
}

export async function fetchDoc(page: Page, pages: Page[]): Promise<Doc> {
  const link = linkFrom(page, pages);
  switch (page.group) {
    case "Guides":
      return docOf(await source(page), link);
    case "REST":
      return restOf((await (await got(OPENAPI)).json()) as OpenApi, link);
    case "gRPC":
      return fetchDefinitions(page, pages);
  }
}

/** All the definitions, for a message of one file may name those of another. */
async function fetchDefinitions(page: Page, pages: Page[]): Promise<Doc> {
  const all = pages.filter(({ group }) => group === "gRPC");
  const sources = await Promise.all(all.map(source));
  const homes = new Map(all.flatMap(({ name }, i) => typesOf(sources[i] ?? "").map((type) => [type, name] as const)));
  const link = (type: string) => {
    const home = homes.get(type);
    return home && href(["docs", home, anchorOf(type)]);
  };
  const text = markdownOf(sources[all.indexOf(page)] ?? "", link);
  return docOf(`# ${page.title}\n\n\`${page.path}\`\n\n${text}`, own, 3);
}

/** What definitions link to is within the console, or far away. */
const own: Link = (to) => (/^(#\/|https?:\/\/)/.test(to) ? to : undefined);

/** README.md is `readme`, docs/clients/go.md `clients-go`, and proto/continuo/v1/run_service.proto `grpc-run-service`. */
function nameOf(path: string): string {
  const file = path.replace(/^docs\//, "").replace(/^proto\/continuo\/v1\//, "grpc-");
  return file
    .replace(/\.\w+$/, "")
    .replace(/[/_]/g, "-")
    .toLowerCase();
}

/** Links between pages lead to the pages; what else a page names lies in the repository and is no link here. */
function linkFrom({ name, path }: Page, pages: Page[]): Link {
  return (to) => {
    if (/^https?:\/\//.test(to)) return to;
    const [file = "", anchor] = to.split("#", 2);
    const target = file === "" ? name : pageAt(resolved(path, file), pages)?.name;
    return target && href(anchor ? ["docs", target, anchorOf(anchor)] : ["docs", target]);
  };
}

/** The page of a file, or the first one of a folder. */
const pageAt = (path: string, pages: Page[]) =>
  pages.find((page) => page.path === path) ?? pages.find((page) => page.path.startsWith(`${path.replace(/\/$/, "")}/`));

function resolved(from: string, file: string): string {
  const at = from.split("/").slice(0, -1);
  for (const part of file.split("/")) {
    if (part === "..") at.pop();
    else if (part !== ".") at.push(part);
  }
  return at.join("/");
}

const source = async ({ path }: Page) => (await got(SOURCES + path)).text();

async function got(url: string): Promise<Response> {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${url}: HTTP ${answer.status}`);
  return answer;
}
