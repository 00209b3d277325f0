/** Text, or an element: its tag, its attributes, what is in it. */
export type Node = string | [tag: string, attributes: Record<string, string | number> | null, ...children: Node[]];

export interface Doc {
  name: string;
  title: string;
  /** Anchors of its sections with their titles. */
  contents: [string, string][];
  body: Node[];
}

export type Docs = Doc[];
