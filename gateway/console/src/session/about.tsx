// What is known of a session besides what was said.
import { fullTime, msOf } from "../app/format.ts";
import { href } from "../app/route.ts";
import type { Session } from "../gen/continuo/v1/session_pb.ts";
import { Copy } from "../parts/basics.tsx";
import { Json } from "../parts/json.tsx";

export function About({ session }: { session: Session }) {
  const { triggerConfig } = session;
  const times = [
    ["Created", session.createdAt],
    ["Changed", session.updatedAt],
    ["Expires", session.expiresAt],
  ] as const;
  return (
    <div class="about" tabIndex={0} role="group" aria-label="Details">
      <dl>
        <dt>Id</dt>
        <dd>
          <code>{session.id}</code> <Copy text={session.id} />
        </dd>
        {session.externalId !== undefined && (
          <>
            <dt>Name</dt>
            <dd>
              <code>{session.externalId}</code> <Copy text={session.externalId} />
            </dd>
          </>
        )}
        <dt>Task</dt>
        <dd>{session.taskIdentifier}</dd>
        <dt>Type</dt>
        <dd>{session.type}</dd>
        <dt>Tags</dt>
        <dd>
          {session.tags.length === 0 && "none"}
          {session.tags.map((tag) => (
            <a key={tag} class="chip" href={href(["sessions"], new URLSearchParams({ tag }))}>
              {tag}
            </a>
          ))}
        </dd>
        {times.map(
          ([label, time]) =>
            time && (
              <>
                <dt>{label}</dt>
                <dd>{fullTime(msOf(time) ?? 0)}</dd>
              </>
            ),
        )}
      </dl>
      <Held title="Metadata" json={session.metadataJson} />
      <Held title="What its runs are started with" json={triggerConfig?.basePayloadJson} />
    </div>
  );
}

function Held({ title, json }: { title: string; json: string | undefined }) {
  if (json === undefined || json === "") return null;
  let value: unknown = json;
  try {
    value = JSON.parse(json);
  } catch {
    // Shown as the text it is.
  }
  return (
    <section>
      <h3>{title}</h3>
      <Json value={value} />
    </section>
  );
}
