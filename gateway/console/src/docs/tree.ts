export type Attributes = Record<string, string | number | boolean> | null;

/** Text, or an element: its tag, its attributes, what is in it. */
export type Node = string | [tag: string, attributes: Attributes, ...children: Node[]];

/** A place in a page that its contents name. */
export interface Section {
  anchor: string;
  text: string;
  /** How deep it lies, from 0. */
  level: number;
}

export interface Doc {
  contents: Section[];
  body: Node[];
}

/** Where the href of a link leads to here; undefined if it is no link here. */
export type Link = (href: string) => string | undefined;

/** The name of a heading in links. However a link spells it, it comes to the same. */
export const anchorOf = (text: string) =>
  text
    .toLowerCase()
    .replace(/[^\p{L}\p{N}]+/gu, "-")
    .replace(/^-|-$/g, "");

/** The id of what an anchor names. */
export const idOf = (anchor: string) => `doc-${anchor}`;
