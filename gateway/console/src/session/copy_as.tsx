// The session's calls, to be taken along. The key stays out of them: it is read from the environment.
import { useSignal } from "@preact/signals";
import type { Session } from "../gen/continuo/v1/session_pb.ts";
import { Copy, Dialog, Segments } from "../parts/basics.tsx";

const WAYS = [
  ["curl", "curl"],
  ["grpcurl", "grpcurl"],
  ["sdk", "SDK"],
  ["cli", "continuo"],
] as const;
type Way = (typeof WAYS)[number][0];

export function CopyAs({ session, onClose }: { session: Session; onClose: () => void }) {
  const way = useSignal<Way>("curl");
  const snippets = calls(session.externalId ?? session.id, session.taskIdentifier)[way.value];
  return (
    <Dialog title="Copy as" onClose={onClose} isWide>
      <Segments label="Language" options={WAYS} value={way.value} onChange={(value) => (way.value = value)} />
      <p class="faint">
        The key comes from the environment variable of the quick start:{" "}
        {way.value === "sdk" ? "TRIGGER_SECRET_KEY" : "CONTINUO_SECRET_KEY"}.
      </p>
      {snippets.map(([title, code]) => (
        <section key={title} class="snippet">
          <div class="row">
            <h3>{title}</h3>
            <span class="grow" />
            <Copy text={code} />
          </div>
          <pre tabIndex={0} aria-label={title}>
            {code}
          </pre>
        </section>
      ))}
    </Dialog>
  );
}

/** Quoted for a shell, whatever is in it. */
const sh = (text: string) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`);

function calls(name: string, task: string): Record<Way, [string, string][]> {
  const { origin, host, protocol } = location;
  const path = `${origin}/realtime/v1/sessions/${encodeURIComponent(name)}`;
  const curl = (url: string, more = "") =>
    `curl -sN ${sh(url)} \\\n  -H "Authorization: Bearer $CONTINUO_SECRET_KEY"${more}`;
  const grpc = (method: string, request: unknown) =>
    `grpcurl ${protocol === "https:" ? "" : "-plaintext "}-H "authorization: Bearer $CONTINUO_SECRET_KEY" \\\n  -d ${sh(JSON.stringify(request))} \\\n  ${host} continuo.v1.${method}`;
  const channel = (direction: string) => ({ session: name, direction });
  const hello = btoa(JSON.stringify({ data: "Hello" }));
  const quoted = JSON.stringify(name);
  const cli = `continuo sessions`;
  return {
    curl: [
      ["Follow .out", curl(`${path}/out`)],
      ["Append to .in", curl(`${path}/in/append`, ` \\\n  -H "X-Part-Id: $(uuidgen)" \\\n  -d Hello`)],
      ["The session", curl(`${origin}/api/v1/sessions/${encodeURIComponent(name)}`)],
      ["Its runs", curl(`${origin}/api/v1/sessions/${encodeURIComponent(name)}/runs`)],
    ],
    grpcurl: [
      ["Follow .out", grpc("ChannelService/Read", { channel: channel("DIRECTION_OUT") })],
      [
        "Append to .in",
        grpc("ChannelService/Append", { channel: channel("DIRECTION_IN"), records: [{ body: hello }] }),
      ],
      ["The session", grpc("SessionService/GetSession", { session: name })],
      ["Its runs", grpc("SessionService/ListSessionRuns", { session: name })],
    ],
    sdk: [
      [
        "Follow .out and append to .in",
        `import { configure, sessions } from "@trigger.dev/sdk";\n\nconfigure({ baseURL: ${JSON.stringify(origin)}, accessToken: process.env.TRIGGER_SECRET_KEY });\nconst session = sessions.open(${quoted});\n\nawait session.in.send("Hello");\nfor await (const chunk of await session.out.read()) {\n  console.log(chunk);\n}`,
      ],
      [
        "Start it, or find it",
        `import { sessions } from "@trigger.dev/sdk";\n\nconst session = await sessions.start({\n  type: "chat.agent",\n  externalId: ${quoted},\n  taskIdentifier: ${JSON.stringify(task)},\n  triggerConfig: { basePayload: {} },\n});`,
      ],
    ],
    cli: [
      ["Say something and wait for the answer", `${cli} send ${sh(name)} "Hello" --wait`],
      ["Its runs", `${cli} runs ${sh(name)}`],
      ["Hand over to a new run", `${cli} end-and-continue ${sh(name)}`],
      ["Close it", `${cli} close ${sh(name)} --reason done`],
    ],
  };
}
