// The queues with runs that are not over.
import { count, duration, msOf, now } from "../app/format.ts";
import type { Queue } from "../gen/continuo/v1/run_service_pb.ts";
import { Empty } from "../parts/basics.tsx";
import { Table } from "./table.tsx";
import { seenQueues, sum } from "./work.ts";

/** What a run that is not over does, how that is shown, and how many do. */
const COUNTS = [
  ["pending", "waiting", (queue: Queue) => queue.pending],
  ["executing", "active", (queue: Queue) => queue.executing],
  ["dequeued", "waiting", (queue: Queue) => queue.dequeued],
  ["delayed", "waiting", (queue: Queue) => queue.delayed],
  ["retrying", "failing", (queue: Queue) => queue.retrying],
  ["suspended", "waiting", (queue: Queue) => queue.waiting],
] as const;
/** Those that have no column of their own. */
const OTHERS = COUNTS.slice(2);

export function Queues() {
  const { rows = [], isMore } = seenQueues.value;
  return (
    <Table
      title="Queues"
      seen={seenQueues.value}
      more="Those with the most pending runs are listed and counted."
      columns={["Queue", "Pending", "Oldest", "Executing", "Others"]}
      row={(queue) => <Row key={queue.name} queue={queue} />}
      head={
        <ul class="work">
          {COUNTS.map(([what, tone, of]) => (
            <li key={what}>
              <span class={`pill ${tone}`}>{what}</span>
              <strong>
                {count(sum(rows, of))}
                {isMore && "+"}
              </strong>
            </li>
          ))}
        </ul>
      }
    >
      <Empty title="No run is under way" />
    </Table>
  );
}

function Row({ queue }: { queue: Queue }) {
  const oldest = msOf(queue.oldestPendingAt);
  const others = OTHERS.flatMap(([what, , of]) => (of(queue) > 0n ? [`${count(of(queue))} ${what}`] : []));
  return (
    <tr>
      <th scope="row">
        <code>{queue.name}</code>
      </th>
      <td data-after="pending">{count(queue.pending)}</td>
      <td data-before="oldest">{oldest !== undefined && age(oldest)}</td>
      <td data-after="executing">{count(queue.executing)}</td>
      <td class="others">{others.join(", ")}</td>
    </tr>
  );
}

/** In whole seconds: more would flicker. */
function age(ms: number): string {
  const s = Math.max(0, Math.floor((now.value - ms) / 1000));
  return s < 10 ? `${s} s` : duration(s * 1000);
}
