// Markdown as a tree of elements. The tags are those named here and no others; HTML in the source is shown as the text it is.
import { marked } from "marked";

/** @returns {{ body: Node[], contents: [string, string][] }} */
export function treeOf(markdown, link) {
  const contents = [];
  const body = blocks(marked.lexer(markdown, { gfm: true }), { link, contents });
  return { body, contents };
}

export const anchorOf = (text) =>
  text
    .toLowerCase()
    .replace(/[^\p{L}\p{N}]+/gu, "-")
    .replace(/^-|-$/g, "");

function blocks(tokens, context) {
  return tokens.flatMap((token) => {
    switch (token.type) {
      case "space":
      case "def":
        return [];
      case "heading":
        return [heading(token, context)];
      case "paragraph":
        return [["p", null, ...inline(token.tokens, context)]];
      case "text":
        return token.tokens ? inline(token.tokens, context) : [unescaped(token.text)];
      case "code":
        return [
          ["pre", { tabIndex: 0 }, ["code", token.lang ? { class: `language-${token.lang}` } : null, token.text]],
        ];
      case "list":
        return [
          [
            token.ordered ? "ol" : "ul",
            null,
            ...token.items.map((item) => ["li", null, ...blocks(item.tokens, context)]),
          ],
        ];
      case "blockquote":
        return [["blockquote", null, ...blocks(token.tokens, context)]];
      case "hr":
        return [["hr", null]];
      case "table":
        return [table(token, context)];
      case "html":
        return [["p", null, token.text]];
      default:
        throw new Error(`Markdown that the console has no element for: ${token.type}`);
    }
  });
}

function heading({ depth, text, tokens }, context) {
  const anchor = anchorOf(text.replace(/[`*]/g, ""));
  if (depth === 2) context.contents.push([anchor, text.replace(/[`*]/g, "")]);
  return [`h${depth}`, { id: `doc-${anchor}` }, ...inline(tokens, context)];
}

function table({ header, rows }, context) {
  const row = (cells, tag) => [
    "tr",
    null,
    ...cells.map((cell) => [tag, tag === "th" ? { scope: "col" } : null, ...inline(cell.tokens, context)]),
  ];
  const head = ["thead", null, row(header, "th")];
  const body = ["tbody", null, ...rows.map((cells) => row(cells, "td"))];
  return ["div", { class: "table", tabIndex: 0, role: "group", "aria-label": "Table" }, ["table", null, head, body]];
}

function inline(tokens, context) {
  return tokens.flatMap((token) => {
    switch (token.type) {
      case "text":
      case "escape":
        return token.tokens ? inline(token.tokens, context) : [unescaped(token.text)];
      case "codespan":
        return [["code", null, unescaped(token.text)]];
      case "strong":
      case "em":
      case "del":
        return [[token.type, null, ...inline(token.tokens, context)]];
      case "br":
        return [["br", null]];
      case "link": {
        const href = context.link(token.href);
        const content = inline(token.tokens, context);
        return href ? [["a", { href }, ...content]] : content;
      }
      case "html":
        return [token.text];
      default:
        throw new Error(`Markdown that the console has no element for: ${token.type}`);
    }
  });
}

const NAMED = { "&amp;": "&", "&lt;": "<", "&gt;": ">", "&quot;": '"', "&#39;": "'" };
const unescaped = (text) => text.replace(/&(amp|lt|gt|quot|#39);/g, (entity) => NAMED[entity]);
