// What the server lists, in all states it can be in: not there yet, none, too many, refused, and of a while ago.
import { useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { clockTime, count } from "../app/format.ts";
import { Empty, Note } from "../parts/basics.tsx";
import type { Seen } from "./work.ts";

const SHOWN = 50;

interface Props<T> {
  title: string;
  seen: Seen<T>;
  columns: string[];
  row: (row: T) => ComponentChildren;
  /** Which ones are there where not all are. */
  more: string;
  /** Above the table. */
  head?: ComponentChildren;
  /** Instead of an empty table. */
  children: ComponentChildren;
}

export function Table<T>({ title, seen, columns, row, more, head, children }: Props<T>) {
  const isWhole = useSignal(false);
  const { rows, isMore, at, failure } = seen;
  const shown = isWhole.value ? rows : rows?.slice(0, SHOWN);
  return (
    <section aria-label={title}>
      <h2>
        {title}
        {rows && <span class="faint">{rows.length > 0 && `${count(rows.length)}${isMore ? "+" : ""}`}</span>}
        {rows && failure && <span class="faint">as of {clockTime(at).slice(0, 8)}</span>}
      </h2>
      {failure && !(failure.isPassing && rows) && <Note failure={failure} />}
      {!rows && !failure && <Empty title="Reading…" />}
      {rows?.length === 0 && children}
      {!!rows?.length && head}
      {!!shown?.length && (
        <table>
          <thead>
            <tr>
              {columns.map((column) => (
                <th scope="col" key={column}>
                  {column}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>{shown.map(row)}</tbody>
        </table>
      )}
      {rows && shown && rows.length > shown.length && (
        <div>
          <button type="button" onClick={() => (isWhole.value = true)}>
            Show all {count(rows.length)}
          </button>
        </div>
      )}
      {isMore && (
        <p class="faint">
          There are more than {count(rows?.length ?? 0)}. {more}
        </p>
      )}
    </section>
  );
}
