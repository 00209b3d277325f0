// The published SDK's chat, in a program and in a browser.
import { use } from "./sdk.mjs";
const { AgentChat, TriggerChatTransport } = await import("@trigger.dev/sdk/chat");
const { chat } = await import("@trigger.dev/sdk/ai");
export { AgentChat, TriggerChatTransport, chat, use };
