// The definitions as Markdown: services with their rpcs, messages and enums with their fields, each under its comment.

/** One file of definitions. Their layout is what buf's formatter and its rule of comments make of them: one thing a line. */
export function markdownOf(source) {
  const out = [];
  let comment = [];
  const stack = [];
  for (const raw of source.split("\n")) {
    const line = raw.trim();
    if (line.startsWith("//")) {
      comment.push(line.slice(2).trim());
      continue;
    }
    const said = comment.join(" ");
    if (line !== "") comment = [];
    const begun = /^(service|message|enum|oneof) (\w+) \{(\})?/.exec(line);
    if (begun) {
      const [, kind, name, isEmpty] = begun;
      if (kind !== "oneof") {
        const level = kind === "service" ? "##" : "###";
        out.push("", `${level} ${[...stack.filter(Boolean), name].join(".")}`, "", said, "");
      } else out.push(`- one of **${name}**: ${said}`);
      if (!isEmpty) stack.push(kind === "oneof" ? undefined : name);
    } else if (line === "}") {
      stack.pop();
    } else {
      const item = entry(line);
      if (item) out.push(`${stack.at(-1) === undefined ? "  " : ""}- ${item}: ${said}`);
    }
  }
  return out.join("\n").replace(/\n{3,}/g, "\n\n");
}

function entry(line) {
  const rpc = /^rpc (\w+)\((stream )?(\w+)\) returns \((stream )?(\w+)\)/.exec(line);
  if (rpc) {
    const [, name, isUp, request, isDown, response] = rpc;
    return `**\`${name}\`** (${isUp ? "stream of " : ""}\`${request}\`) → ${isDown ? "stream of " : ""}\`${response}\``;
  }
  const field = /^(optional |repeated )?([\w.]+|map<.+>) (\w+) = (\d+)/.exec(line);
  if (field) return `\`${field[3]}\` ${field[1] ?? ""}${field[2].replace("google.protobuf.", "")}, ${field[4]}`;
  const value = /^([A-Z][A-Z0-9_]+) = (\d+);/.exec(line);
  return value && `\`${value[1]}\` ${value[2]}`;
}
