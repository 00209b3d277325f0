// The repository's own pages. They were read into trees when the console was built, so what arrives here is data and becomes elements one by one.
import { type ComponentChildren, h } from "preact";
import { useEffect, useState } from "preact/hooks";
import { href, route } from "../app/route.ts";
import { Empty } from "../parts/basics.tsx";
import type { Doc, Docs, Node } from "./tree.ts";

export function DocsPage() {
  const docs = useDocs();
  const [, name = "readme", anchor] = route.value.path;
  const doc = docs?.find((doc) => doc.name === name);
  useEffect(() => {
    if (!doc) return;
    if (anchor) document.getElementById(`doc-${anchor}`)?.scrollIntoView();
    else scrollTo(0, 0);
  }, [doc, anchor]);
  return (
    <main class="page docs">
      <nav aria-label="Docs">
        {docs?.map((each) => (
          <div key={each.name}>
            <a href={href(["docs", each.name])} aria-current={each === doc ? "page" : undefined}>
              {each.title}
            </a>
            {each === doc && <Contents doc={doc} />}
          </div>
        ))}
      </nav>
      {docs === null ? (
        <Empty title="The docs could not be fetched" />
      ) : doc ? (
        <article>{doc.body.map(element)}</article>
      ) : (
        docs && <Empty title="There is no such page" />
      )}
    </main>
  );
}

function Contents({ doc }: { doc: Doc }) {
  return (
    <ul>
      {doc.contents.map(([anchor, text]) => (
        <li key={anchor}>
          <a href={href(["docs", doc.name, anchor])}>{text}</a>
        </li>
      ))}
    </ul>
  );
}

/** The pages, once they are there; null if they cannot be had. */
function useDocs(): Docs | undefined | null {
  const [docs, setDocs] = useState<Docs | null>();
  useEffect(() => {
    const source = document.querySelector<HTMLMetaElement>("meta[name=docs]")?.content;
    if (source)
      fetch(source)
        .then((answer) => answer.json())
        .then(setDocs, () => setDocs(null));
  }, []);
  return docs;
}

function element(node: Node): ComponentChildren {
  if (typeof node === "string") return node;
  const [tag, attributes, ...children] = node;
  return h(tag, attributes, ...children.map(element));
}
