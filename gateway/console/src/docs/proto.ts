// Definitions as Markdown: the service with its rpcs, then messages and enums with their fields, each under its comment.

/** Where a message or an enum is described, as an href; undefined if nowhere here. */
export type TypeLink = (name: string) => string | undefined;

/** One file of definitions. Their layout is what buf's formatter and its rule of comments make of them: one thing a line. */
export function markdownOf(source: string, link: TypeLink): string {
  const out: string[] = [];
  let comment: string[] = [];
  /** Names of what is open; a oneof has none. */
  const open: (string | undefined)[] = [];
  for (const raw of source.split("\n")) {
    const line = raw.trim();
    if (line.startsWith("//")) {
      comment.push(line.slice(2).trim());
      continue;
    }
    const said = comment.join(" ");
    if (line !== "") comment = [];
    const begun = BEGIN.exec(line);
    const rpc = RPC.exec(line);
    if (begun) {
      const [, kind, name = "", isEmpty] = begun;
      if (kind === "oneof") out.push(`- one of **${name}**: ${said}`);
      else out.push("", `## ${[...open.filter(Boolean), name].join(".")}`, "", said, "");
      if (!isEmpty) open.push(kind === "oneof" ? undefined : name);
    } else if (rpc) {
      const [, name, isUp, request = "", isDown, response = ""] = rpc;
      const [takes, gives] = [type(request, link), type(response, link)];
      const shape = `${isUp ? "stream of " : ""}${takes} → ${isDown ? "stream of " : ""}${gives}`;
      out.push("", `### ${name}`, "", shape, "", said, "");
    } else if (line === "}") {
      open.pop();
    } else {
      const item = entry(line, link);
      if (item) out.push(`${open.length > 0 && open.at(-1) === undefined ? "  " : ""}- ${item}: ${said}`);
    }
  }
  return out.join("\n").replace(/\n{3,}/g, "\n\n");
}

const BEGIN = /^(service|message|enum|oneof) (\w+) \{(\})?/;
const RPC = /^rpc (\w+)\((stream )?(\w+)\) returns \((stream )?(\w+)\)/;
const FIELD = /^(optional |repeated )?([\w.]+|map<.+>) (\w+) = (\d+)/;
const VALUE = /^([A-Z][A-Z0-9_]+) = (\d+);/;

/** The messages and enums that a file declares at its top. */
export const typesOf = (source: string): string[] =>
  [...source.matchAll(/^(?:message|enum) (\w+) \{/gm)].map(([, name = ""]) => name);

function entry(line: string, link: TypeLink): string | undefined {
  const field = FIELD.exec(line);
  if (field) {
    const [, rule = "", kind = "", name, number] = field;
    return `\`${name}\` ${rule}${type(kind, link)}, ${number}`;
  }
  const value = VALUE.exec(line);
  return value ? `\`${value[1]}\` ${value[2]}` : undefined;
}

function type(name: string, link: TypeLink): string {
  const short = name.replace("google.protobuf.", "");
  const href = link(short);
  return href ? `[${short}](${href})` : `\`${short}\``;
}
