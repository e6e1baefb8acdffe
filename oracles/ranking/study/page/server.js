// Requests, and an outbox that keeps what was answered until the server has it.

import { meta, newId, pause, say } from "./dom.js";
import { drop, keep, kept } from "./keep.js";

/** A reply, with its status; 0 if nobody is there, or says nothing for some milliseconds. */
export async function call(path, body, patience = 0) {
  const post = body && {
    method: "POST", headers: { "Content-Type": "application/json", "X-CSRF": meta("csrf") }, body: JSON.stringify(body),
  };
  const options = { ...post, ...(patience && { signal: AbortSignal.timeout(patience) }) };
  try {
    const reply = await fetch(path, options);
    const json = (reply.headers.get("content-type") || "").startsWith("application/json");
    return { status: reply.status, ...(json ? await reply.json() : {}) };
  } catch {
    return { status: 0 };
  }
}

let hearing = false;

/** Act when the study is paused or finished, or after a while. */
export async function hear(act) {
  if (hearing || document.hidden) return; // a browser has few connections to a server
  hearing = true;
  const { status } = await call("api/end");
  hearing = false;
  if (status === 200) act();
}

const WHY = { 0: "The server cannot be reached.", 429: "The server is busy." };
const passing = ({ status }) => [0, 404, 429].includes(status) || status >= 500; // 404: the study is not served now

let told = {};
/** What is to happen when sending begins, ends, and when the server has replied to what was sent. */
export const onSending = (acts) => { told = acts; };

let busy = false;
export const sending = () => busy;

/** Send what is in the outbox, under the same id until the server says that it has it. */
export async function flush() {
  if (busy) return;
  busy = true;
  told.begins();
  try {
    for (let wait = 250, sent; (sent = kept("outbox")); wait = Math.min(4000, 2 * wait)) {
      const reply = await call(sent.path, sent.body);
      if (passing(reply)) {
        say(`${reply.error || WHY[reply.status] || WHY[0]} Your answer is kept here and will be sent.`, true);
        await pause(wait);
        continue;
      }
      drop("outbox");
      told.replied(sent, reply);
    }
  } finally {
    busy = false;
  }
  await told.ends();
}

/** Put something into the outbox, under a new id, and send it. */
export function post(path, body) {
  if (busy) return;
  keep("outbox", { path, body: { ...body, client_id: newId() } });
  flush();
}
