// The workers that are connected, and how much they hold.
import { count, msOf } from "../app/format.ts";
import { href } from "../app/route.ts";
import type { Worker } from "../gen/continuo/v1/worker_service_pb.ts";
import { Ago, Empty } from "../parts/basics.tsx";
import { Table } from "./table.tsx";
import { seenWorkers } from "./work.ts";

const TASKS_SHOWN = 3;

export function Workers() {
  return (
    <Table
      title="Workers"
      seen={seenWorkers.value}
      more="Those that connected last are listed."
      columns={["Worker", "Places taken", "State", "Connected", "Last heard"]}
      row={(worker) => <Row key={worker.workerId} worker={worker} />}
    >
      <Empty title="No worker is connected">
        <p>
          Runs wait until one comes that knows their task. <a href={href(["docs", "clients"])}>Read how to write one</a>
        </p>
      </Empty>
    </Table>
  );
}

function Row({ worker }: { worker: Worker }) {
  const { workerId, version, taskIdentifiers: tasks, heldLeases, capacity } = worker;
  const further = tasks.length - TASKS_SHOWN;
  return (
    <tr>
      <th scope="row">
        <code title={workerId}>{workerId}</code>
        <span class="faint">
          {version && `version ${version} · `}
          {tasks.slice(0, TASKS_SHOWN).join(", ")}
          {further > 0 && ` and ${count(further)} more`}
        </span>
      </th>
      <td class="places">
        {count(heldLeases)} of {count(capacity)}
        <span class="bar" aria-hidden="true">
          <span style={{ width: `${Math.min(100, (heldLeases / Math.max(1, capacity)) * 100)}%` }} />
        </span>
      </td>
      <td>
        <span class={`pill ${worker.isDraining ? "waiting" : "active"}`}>
          {worker.isDraining ? "draining" : "taking runs"}
        </span>
      </td>
      <td data-before="connected">
        <Ago ms={msOf(worker.connectedAt) ?? 0} />
      </td>
      <td data-before="heard">
        <Ago ms={msOf(worker.seenAt) ?? 0} />
      </td>
    </tr>
  );
}
