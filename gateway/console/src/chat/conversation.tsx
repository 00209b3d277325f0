// A thread as a conversation.
import { Component, type ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { clockTime, fullTime, short } from "../app/format.ts";
import { isObject } from "../channel/fields.ts";
import { Empty } from "../parts/basics.tsx";
import { Json, Text } from "../parts/json.tsx";
import type { Item, Part, Said, Thread } from "./thread.ts";

interface Props {
  thread: Thread;
  /** What is said while nothing was said. */
  hint: string;
  /** A run lives that may end what was begun. */
  isLive: boolean;
}

export function Conversation({ thread, hint, isLive }: Props) {
  const version = thread.version.value;
  const box = useRef<HTMLDivElement>(null);
  const isAtEnd = useRef(true);
  useLayoutEffect(() => {
    if (isAtEnd.current && box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [version]);
  useEffect(() => {
    const seen = new ResizeObserver(() => {
      if (isAtEnd.current && box.current) box.current.scrollTop = box.current.scrollHeight;
    });
    if (box.current) seen.observe(box.current);
    return () => seen.disconnect();
  }, []);
  const scrolled = () => {
    const { scrollTop, clientHeight, scrollHeight } = box.current!;
    isAtEnd.current = scrollTop + clientHeight >= scrollHeight - 40;
  };
  return (
    <div class="conversation" ref={box} onScroll={scrolled} tabIndex={0} role="log" aria-label="Conversation">
      {thread.items.length === 0 && <Empty title={hint} />}
      {thread.items.map((item) => (
        <Line key={item.key} item={item} version={item.by === "event" ? 0 : item.version} isLive={isLive} />
      ))}
    </div>
  );
}

/** Drawn again only when its item changed: a long conversation stands still while its last message grows. */
class Line extends Component<{ item: Item; version: number; isLive: boolean }> {
  override shouldComponentUpdate(next: Line["props"]) {
    const { item, version, isLive } = this.props;
    return next.item !== item || next.version !== version || next.isLive !== isLive;
  }
  render() {
    const { item, isLive } = this.props;
    return item.by === "event" ? <p class="chat-event">{item.text}</p> : <Message said={item} isLive={isLive} />;
  }
}

function Message({ said, isLive }: { said: Said; isLive: boolean }) {
  const state = said.state === "streaming" && !isLive ? "cut off" : said.state;
  const run = isObject(said.metadata) && typeof said.metadata.runId === "string" ? said.metadata.runId : undefined;
  return (
    <article class={`message ${said.by}`} data-role={said.by} data-state={state}>
      <div class="parts">
        {said.parts.map((part, i) => (
          <PartView key={i} part={part} />
        ))}
        {state === "streaming" && <span class="caret" aria-label="still speaking" role="img" />}
      </div>
      <footer>
        <time title={fullTime(said.ms)}>{clockTime(said.ms).slice(0, 8)}</time>
        {run && <span title={run}>{short(run)}</span>}
        {state !== "done" && state !== "streaming" && <strong>{state}</strong>}
      </footer>
      {said.error && <p class="chat-error">{said.error}</p>}
    </article>
  );
}

function PartView({ part }: { part: Part }) {
  switch (part.type) {
    case "text":
      return (
        <p class="said">
          <Text text={part.text} />
        </p>
      );
    case "reasoning":
      return (
        <Fold title="Reasoning">
          <p class="said">
            <Text text={part.text} />
          </p>
        </Fold>
      );
    case "tool":
      return (
        <Fold title={`${part.name} · ${part.state.replaceAll("-", " ")}`}>
          <Json name="input" value={part.input ?? part.inputText} />
          {part.output !== undefined && <Json name="output" value={part.output} />}
          {part.error && <p class="chat-error">{part.error}</p>}
        </Fold>
      );
    case "file":
      return <p class="faint">file · {part.mediaType}</p>;
    case "source":
      return <p class="faint">source · {part.title}</p>;
    case "data":
      return (
        <Fold title={part.name}>
          <Json value={part.value} />
        </Fold>
      );
  }
}

function Fold({ title, children }: { title: string; children: ComponentChildren }) {
  const [isOpen, setIsOpen] = useState(false);
  return (
    <div class="fold">
      <button type="button" class="json-fold" aria-expanded={isOpen} onClick={() => setIsOpen(!isOpen)}>
        {title}
      </button>
      {isOpen && children}
    </div>
  );
}
