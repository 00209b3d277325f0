// A small chat page: the SDK's transport under the AI SDK's hook, and what such a page keeps for its reload.
import { useEffect, useState } from "react";
import { createRoot } from "react-dom/client";
import { useChat } from "@ai-sdk/react";
import { useTriggerChatTransport } from "@trigger.dev/sdk/chat/react";

const asked = new URLSearchParams(location.search);
const chatId = asked.get("chat");
const watch = asked.has("watch");

const slot = (name) => `${chatId}/${name}`;
const load = (name) => JSON.parse(localStorage.getItem(slot(name)) ?? "null") ?? undefined;
const save = (name, value) => localStorage.setItem(slot(name), JSON.stringify(value ?? null));

/** The page's own backend, which holds the secret key. */
async function backend(path) {
  const answer = await fetch(path, { method: "POST", body: JSON.stringify({ chatId }) });
  if (!answer.ok) throw new Error(`${path} answered ${answer.status}`);
  return answer.json();
}

function Chat({ server, session }) {
  const [closed, setClosed] = useState(session?.closed ? (session.closedReason ?? "") : undefined);
  const transport = useTriggerChatTransport({
    task: "demo-agent",
    baseURL: server,
    multiTab: true,
    watch,
    sessions: session && { [chatId]: session },
    startSession: () => backend("/api/session"),
    accessToken: async () => (await backend("/api/token")).token,
    onSessionChange: (_, changed) => save("session", changed),
    onEvent: (event) => event.type === "session-closed" && setClosed(event.reason ?? ""),
  });
  const { messages, setMessages, sendMessage, status, stop, error } = useChat({
    id: chatId,
    messages: load("messages"),
    transport,
    resume: true,
  });
  const isReadOnly = useOtherTabs(transport, setMessages);
  // An answer under way is not kept: a reload gets it from the stream.
  useEffect(() => {
    if (status !== "streaming" && !watch) save("messages", messages);
  }, [messages, status]);

  const send = (form) => sendMessage({ text: form.get("text") });
  const halt = async () => {
    await transport.stopGeneration(chatId);
    stop();
  };
  return (
    <>
      <ol>
        {messages.map(({ id, role, parts }) => (
          <li key={id} data-role={role}>
            {parts.map((part) => (part.type === "text" ? part.text : ""))}
          </li>
        ))}
      </ol>
      <p role="status">{status}</p>
      {isReadOnly && <p role="note">This chat is active in another tab.</p>}
      {error && <p role="alert">{error.message}</p>}
      {closed !== undefined && <p data-closed="">This conversation is closed. {closed}</p>}
      <form action={send}>
        <input name="text" aria-label="Message" disabled={isReadOnly || closed !== undefined} />
        <button type="submit">Send</button>
        <button type="button" onClick={halt}>
          Stop
        </button>
      </form>
    </>
  );
}

/** Tabs of one visitor speak one at a time, and show what the others kept. */
function useOtherTabs(transport, setMessages) {
  const [isReadOnly, setIsReadOnly] = useState(transport.isReadOnly(chatId));
  useEffect(() => {
    const claimed = (id, isReadOnly) => id === chatId && setIsReadOnly(isReadOnly);
    const kept = ({ key }) => key === slot("messages") && setMessages(load("messages"));
    transport.addReadOnlyListener(claimed);
    addEventListener("storage", kept);
    return () => {
      transport.removeReadOnlyListener(claimed);
      removeEventListener("storage", kept);
    };
  }, [transport, setMessages]);
  return isReadOnly;
}

/** Who only watches has sent nothing, and so asks for a token first. */
const session = watch ? { publicAccessToken: (await backend("/api/token")).token, isStreaming: false } : load("session");
const { server } = await (await fetch("/api/settings")).json();
createRoot(document.getElementById("root")).render(<Chat server={server} session={session} />);
