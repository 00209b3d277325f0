// The docs: sources from the server, read into trees here; each becomes elements one by one, and nothing of it is ever HTML.
import { type ComponentChildren, h } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";
import { useLoaded } from "../app/loaded.ts";
import { href, route } from "../app/route.ts";
import { Empty, Note } from "../parts/basics.tsx";
import { isNarrow } from "../parts/media.ts";
import { type Page, fetchDoc, fetchPages } from "./library.ts";
import { type Attributes, type Doc, type Node, idOf } from "./tree.ts";

export function DocsPage() {
  const [, name = "readme", anchor] = route.value.path;
  const pages = useLoaded(fetchPages, []);
  const page = pages.value?.find((page) => page.name === name);
  const doc = useLoaded(async () => page && pages.value && fetchDoc(page, pages.value), [page]);
  const article = useMemo(() => doc.value && <article>{doc.value.body.map(element)}</article>, [doc.value]);
  useEffect(() => {
    if (!doc.value) return;
    document.querySelector('.docs > nav [aria-current="location"]')?.scrollIntoView({ block: "nearest" });
    if (anchor) document.getElementById(idOf(anchor))?.scrollIntoView();
    else scrollTo(0, 0);
  }, [doc.value, anchor]);
  const failed = [pages, doc].find(({ failure }) => failure);
  return (
    <main class="page docs">
      {pages.value && <Menu pages={pages.value} page={page} doc={doc.value} />}
      {failed?.failure ? (
        <Note failure={failed.failure} onRetry={failed.again} />
      ) : pages.value && !page ? (
        <Empty title="There is no such page" />
      ) : (
        article
      )}
    </main>
  );
}

const GROUPS = ["Guides", "REST", "gRPC"] as const;

function Menu({ pages, page, doc }: { pages: Page[]; page?: Page; doc?: Doc }) {
  const links = GROUPS.map((group) => (
    <section key={group} aria-label={group}>
      <h2>{group}</h2>
      {pages
        .filter((each) => each.group === group)
        .map((each) => (
          <div key={each.name} class={each.isBelow ? "below" : undefined}>
            <a href={href(["docs", each.name])} aria-current={each === page ? "page" : undefined}>
              {each.title}
            </a>
            {each === page && doc && <Contents page={each} doc={doc} />}
          </div>
        ))}
    </section>
  ));
  // On a phone it folds away, and closes with each step.
  if (!isNarrow.value) return <nav aria-label="Docs">{links}</nav>;
  return (
    <nav aria-label="Docs">
      <details key={route.value.path.join("/")}>
        <summary>{page ? `${page.group}: ${page.title}` : "All pages"}</summary>
        {links}
      </details>
    </nav>
  );
}

function Contents({ page, doc }: { page: Page; doc: Doc }) {
  const [, , here] = route.value.path;
  return (
    <ul>
      {doc.contents.map(({ anchor, text, level }) => (
        <li key={anchor} class={`level-${level}`}>
          <a href={href(["docs", page.name, anchor])} aria-current={anchor === here ? "location" : undefined}>
            {text}
          </a>
        </li>
      ))}
    </ul>
  );
}

function element(node: Node): ComponentChildren {
  if (typeof node === "string") return node;
  const [tag, attributes, ...children] = node;
  if (tag === "details") return <Fold attributes={attributes} parts={children} />;
  return h(tag, attributes, ...children.map(element));
}

/** What is folded away is not made before it is opened: of some pages it is the larger part. */
function Fold({ attributes, parts: [summary, ...inside] }: { attributes: Attributes; parts: Node[] }) {
  const [isMade, setIsMade] = useState(attributes?.open === true);
  return (
    <details {...attributes} onToggle={() => setIsMade(true)}>
      {summary && element(summary)}
      {isMade && inside.map(element)}
    </details>
  );
}
