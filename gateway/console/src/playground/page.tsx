// A conversation with the demo agent, and everything that may happen to it: reload, kill the run, hand over. It goes on.
import { useEffect, useMemo } from "preact/hooks";
import { useSignal } from "@preact/signals";
import { sessions } from "../app/api.ts";
import { type Failure, failureOf } from "../app/failure.ts";
import { isRootKey } from "../app/key.ts";
import { usePoll } from "../app/poll.ts";
import { go, href, route } from "../app/route.ts";
import { Conversation } from "../chat/conversation.tsx";
import { SessionStatus } from "../gen/continuo/v1/session_pb.ts";
import { Empty, Note } from "../parts/basics.tsx";
import { Composer } from "../session/composer.tsx";
import { inOf, outOf, partId } from "../session/send.ts";
import { SessionStore } from "../session/store.ts";
import { useTapes, useThread } from "../session/tapes.ts";
import { Timeline } from "../session/timeline.tsx";

const REFRESH_MS = 1_000;
const TASK = "demo-agent";

export function PlaygroundPage() {
  const name = route.value.path[1];
  if (!isRootKey()) {
    return (
      <main class="page">
        <h1>Playground</h1>
        <Empty title="A new session needs the secret key">
          It makes a session of its own and talks to the demo agent in it.
        </Empty>
      </main>
    );
  }
  return name ? <Talk key={name} name={name} /> : <Begin />;
}

function Begin() {
  const failure = useSignal<Failure | undefined>(undefined);
  const isBusy = useSignal(false);
  const begin = async () => {
    const externalId = `playground-${partId().slice(0, 8)}`;
    isBusy.value = true;
    try {
      await sessions.createSession({
        externalId,
        type: "chat.agent",
        taskIdentifier: TASK,
        tags: ["playground"],
        triggerConfig: { basePayloadJson: "{}" },
      });
      go(["playground", externalId]);
    } catch (cause) {
      failure.value = failureOf(cause);
    }
    isBusy.value = false;
  };
  return (
    <main class="page begin">
      <h1>Playground</h1>
      <p class="lead">
        Talk to the demo agent, then be unkind to it. Reload this page in the middle of an answer. Kill the run that is
        speaking. Hand the session to another run. The conversation goes on.
      </p>
      {failure.value && <Note failure={failure.value} />}
      <button type="button" class="primary" disabled={isBusy.value} onClick={begin}>
        New conversation
      </button>
      <p class="faint">
        <code>continuo dev</code> runs the demo agent. On another server, a worker of yours that knows the task{" "}
        <code>{TASK}</code> answers.
      </p>
    </main>
  );
}

function Talk({ name }: { name: string }) {
  const store = useMemo(() => new SessionStore(name), [name]);
  usePoll(REFRESH_MS, [store], (signal) => store.refresh(signal));
  const { tapes } = useTapes([inOf(name), outOf(name)], { seq: 0 });
  const [heard, said] = tapes;
  const thread = useThread(heard, said);
  thread.version.value;
  useEffect(() => void document.getElementById("composer")?.focus(), []);
  const session = store.session.value;
  const failure = store.failure.value;
  const isClosed = session !== undefined && session.status !== SessionStatus.ACTIVE;
  const isBusy = store.doing.value !== undefined;

  if (failure && !session && !failure.isPassing) {
    return (
      <main class="page">
        <Note failure={failure} />
        <a href={href(["playground"])}>Begin another conversation</a>
      </main>
    );
  }
  return (
    <main class="page session playground">
      <div class="head">
        <h1>Playground</h1>
        <a class="faint name" href={href(["sessions", name])}>
          {name}
        </a>
        <span class="grow" />
        <div class="actions">
          <button type="button" onClick={() => location.reload()}>
            Reload page
          </button>
          <button type="button" disabled={isBusy || !store.hasLiveRun} onClick={() => void store.killRun()}>
            Kill run
          </button>
          <button type="button" disabled={isBusy || !store.hasLiveRun} onClick={() => void store.endAndContinue()}>
            Hand over
          </button>
          <a class="button" href={href(["playground"])}>
            New
          </a>
        </div>
      </div>
      {store.refusal.value && <Note failure={store.refusal.value} />}
      <div class="session-body">
        <aside aria-label="Runs">
          <h2>Runs</h2>
          <Timeline store={store} />
        </aside>
        <div class="session-main">
          <Conversation
            thread={thread}
            hint="Say something, then reload the page while the agent answers"
            isLive={store.mayGoOn}
          />
          <Composer
            session={name}
            isStreaming={thread.isStreaming && store.hasLiveRun}
            others={[]}
            isClosed={isClosed}
            isPlain
          />
        </div>
      </div>
    </main>
  );
}
