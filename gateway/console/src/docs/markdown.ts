// Markdown as a tree of elements. The tags are those named here and no others; HTML in the source, and whatever else has no
// element here, is shown as the text it is.
import { Lexer, type MarkedToken, type Token, type Tokens } from "marked";
import { type Doc, type Link, type Node, anchorOf, idOf } from "./tree.ts";

interface Context {
  link: Link;
  /** Headings down to this depth are listed in the contents. */
  depth: number;
  contents: Doc["contents"];
  anchors: Set<string>;
}

export function docOf(markdown: string, link: Link, depth = 2): Doc {
  const contents: Doc["contents"] = [];
  const body = blocks(Lexer.lex(markdown, { gfm: true }), { link, depth, contents, anchors: new Set() });
  return { contents, body };
}

/** A description inside something else: its paragraphs, without headings of its own. */
export const blocksOf = (markdown: string, link: Link): Node[] => docOf(markdown, link, 0).body;

/** Words in a line. */
export const inlineOf = (markdown: string, link: Link): Node[] => inline(Lexer.lexInline(markdown, { gfm: true }), link);

function blocks(tokens: Token[], context: Context): Node[] {
  return (tokens as MarkedToken[]).flatMap((token): Node[] => {
    switch (token.type) {
      case "space":
      case "def":
        return [];
      case "heading":
        return [heading(token, context)];
      case "paragraph":
        return [["p", null, ...inline(token.tokens, context.link)]];
      case "text":
        return token.tokens ? inline(token.tokens, context.link) : [unescaped(token.text)];
      case "code":
        return [["pre", { tabIndex: 0 }, ["code", null, token.text]]];
      case "list":
        return [list(token, context)];
      case "blockquote":
        return [["blockquote", null, ...blocks(token.tokens, context)]];
      case "hr":
        return [["hr", null]];
      case "table":
        return [table(token, context)];
      default:
        return [["p", null, token.raw]];
    }
  });
}

function heading({ depth, text, tokens }: Tokens.Heading, context: Context): Node {
  const plain = text.replace(/[`*]/g, "");
  let anchor = anchorOf(plain);
  for (let again = 1; context.anchors.has(anchor); again++) anchor = `${anchorOf(plain)}-${again}`;
  context.anchors.add(anchor);
  if (depth > 1 && depth <= context.depth) context.contents.push({ anchor, text: plain, level: depth - 2 });
  return [`h${depth}`, { id: idOf(anchor) }, ...inline(tokens, context.link)];
}

function list({ ordered, start, items }: Tokens.List, context: Context): Node {
  const rows = items.map((item): Node => ["li", null, ...blocks(item.tokens, context)]);
  return ordered ? ["ol", start === 1 || start === "" ? null : { start }, ...rows] : ["ul", null, ...rows];
}

function table({ header, rows }: Tokens.Table, { link }: Context): Node {
  const row = (cells: Tokens.TableCell[], tag: string): Node => [
    "tr",
    null,
    ...cells.map((cell): Node => [tag, tag === "th" ? { scope: "col" } : null, ...inline(cell.tokens, link)]),
  ];
  const head: Node = ["thead", null, row(header, "th")];
  const body: Node = ["tbody", null, ...rows.map((cells) => row(cells, "td"))];
  return ["div", { class: "table", tabIndex: 0, role: "group", "aria-label": "Table" }, ["table", null, head, body]];
}

function inline(tokens: Token[] | undefined, link: Link): Node[] {
  return ((tokens ?? []) as MarkedToken[]).flatMap((token): Node[] => {
    switch (token.type) {
      case "text":
        return "tokens" in token && token.tokens ? inline(token.tokens, link) : [unescaped(token.text)];
      case "escape":
        return [unescaped(token.text)];
      case "codespan":
        return [["code", null, unescaped(token.text)]];
      case "strong":
      case "em":
      case "del":
        return [[token.type, null, ...inline(token.tokens, link)]];
      case "br":
        return [["br", null]];
      case "link": {
        const href = link(token.href);
        const content = inline(token.tokens, link);
        return href ? [["a", { href }, ...content]] : content;
      }
      default:
        return [token.raw];
    }
  });
}

const NAMED: Record<string, string> = { "&amp;": "&", "&lt;": "<", "&gt;": ">", "&quot;": '"', "&#39;": "'" };
const unescaped = (text: string) => text.replace(/&(amp|lt|gt|quot|#39);/g, (entity) => NAMED[entity] ?? entity);
