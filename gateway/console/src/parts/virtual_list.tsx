// A list of any length, of which only what is seen exists. Rows have one height, so a place is a multiplication.
import type { ComponentChildren, RefObject } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";

/** Rows that exist beyond each edge of what is seen. */
const BEYOND = 12;

interface Props {
  count: number;
  rowHeight: number;
  label: string;
  /** A row, with the slot as its key: what scrolls out of one end comes in at the other with another text. */
  row: (index: number, slot: number) => ComponentChildren;
  /** Stay at the end while it grows, until somebody scrolls up. */
  follows?: boolean;
  /** Rows that went at the front since the list began: what is seen stays where it is. */
  dropped?: number;
  /** At the very top, what comes in front is shown instead. */
  pinsTop?: boolean;
  /** The selected row; arrow keys move it. */
  selected?: number;
  onSelect?: (index: number) => void;
  onOpen?: (index: number) => void;
  onRange?: (first: number, end: number) => void;
  scroller?: RefObject<HTMLDivElement | null>;
  /** Called when the list leaves its end or comes back to it. */
  onFollow?: (follows: boolean) => void;
}

export function VirtualList(props: Props) {
  const { count, rowHeight, label, row, follows = false, dropped = 0, selected, onRange } = props;
  const own = useRef<HTMLDivElement>(null);
  const box = props.scroller ?? own;
  const [range, setRange] = useState<[number, number]>([0, 40]);
  const isAtEnd = useRef(true);
  const isFollowing = useRef(follows);
  isFollowing.current = follows;

  const look = () => {
    const element = box.current;
    if (!element) return;
    const first = Math.max(0, Math.floor(element.scrollTop / rowHeight) - BEYOND);
    const end = Math.ceil((element.scrollTop + element.clientHeight) / rowHeight) + BEYOND;
    setRange((range) => (range[0] === first && range[1] === end ? range : [first, end]));
  };
  const scrolled = () => {
    const element = box.current;
    if (!element) return;
    const atEnd = element.scrollTop + element.clientHeight >= element.scrollHeight - rowHeight;
    if (atEnd !== isAtEnd.current) props.onFollow?.(atEnd);
    isAtEnd.current = atEnd;
    look();
  };

  useEffect(() => {
    const seen = new ResizeObserver(() => {
      if (box.current && isFollowing.current && isAtEnd.current) box.current.scrollTop = box.current.scrollHeight;
      look();
    });
    if (box.current) seen.observe(box.current);
    return () => seen.disconnect();
  }, [rowHeight]);

  const before = useRef(dropped);
  useLayoutEffect(() => {
    const element = box.current;
    if (!element) return;
    const gone = dropped - before.current;
    before.current = dropped;
    if (follows && isAtEnd.current) element.scrollTop = element.scrollHeight;
    else if (gone !== 0 && !(props.pinsTop && element.scrollTop < rowHeight)) element.scrollTop -= gone * rowHeight;
    look();
  }, [count, dropped, follows, rowHeight]);

  const first = Math.min(range[0], Math.max(0, count - 1));
  const end = Math.min(range[1], count);
  useEffect(() => onRange?.(first, end), [first, end, count]);

  const keys = (event: KeyboardEvent) => {
    const by = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1 }[event.key];
    if (by && props.onSelect && !event.metaKey && !event.ctrlKey) {
      event.preventDefault();
      const index = Math.min(count - 1, Math.max(0, (selected ?? (by > 0 ? first + BEYOND - 1 : first)) + by));
      props.onSelect(index);
      reveal(box.current, index, rowHeight);
    }
    if (event.key === "Enter" && selected !== undefined && event.target === box.current) props.onOpen?.(selected);
  };

  const rows: ComponentChildren[] = [];
  const slots = end - first;
  for (let index = first; index < end; index++) rows.push(row(index, index % slots));
  return (
    <div class="virtual" ref={box} onScroll={scrolled} onKeyDown={keys} tabIndex={0} role="group" aria-label={label}>
      <div class="virtual-all" style={{ height: `${count * rowHeight}px` }}>
        <div class="virtual-seen" role="list" style={{ transform: `translateY(${first * rowHeight}px)` }}>
          {rows}
        </div>
      </div>
    </div>
  );
}

/** Scrolls as little as shows the row. */
export function reveal(box: HTMLElement | null, index: number, rowHeight: number): void {
  if (!box) return;
  const top = index * rowHeight;
  if (top < box.scrollTop) box.scrollTop = top;
  else if (top + rowHeight > box.scrollTop + box.clientHeight) box.scrollTop = top + rowHeight - box.clientHeight;
}
