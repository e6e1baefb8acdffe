// What the person does beside ordering: submit, the other answers, undo, redo.

import { $, ask, dialog, make, ordinal, say } from "./dom.js";
import { picture } from "./media.js";
import { again, back, lacking, order, sent } from "./order.js";
import { call, post, sending } from "./server.js";

const SAID = { undecided: "Cannot tell", none: "None is acceptable", skip: "Skip" };

let redoable = false;
/** Whether the server would restore an answer. */
export const setRedoable = (can) => { redoable = can; };
export const canRedo = () => order.future.length > 0 || redoable;

function send(kind, groups) {
  const ms = Math.round(performance.now() - order.began);
  post("api/answer", { round: order.round.round, kind, groups, ms });
}

export function submit() {
  if (sending()) return;
  const missing = lacking();
  if (missing) say(missing, true);
  else send("rank", order.groups);
}

/** Answer without an order; one that is half made is not thrown away unasked. A skipped round keeps its own. */
export async function answer(kind) {
  const { round } = order, ranked = order.groups.flat().length;
  if (!round || sending() || order.sent) return;
  if (kind === "skip" && round.purpose === "final") return say("“Cannot tell” is an answer, too.");
  if (ranked && kind !== "skip") {
    const what = `You have ranked ${ranked === 1 ? "a candidate" : `${ranked} candidates`}.`;
    if (!(await ask(`${what} Answer “${SAID[kind]}” instead?`, SAID[kind], "Keep ranking"))) return;
    if (order.round !== round) return say("The round has changed meanwhile.", true);
  }
  send(kind, []);
}

/** One step: the last change of the order, and where there is none, the last answer. */
export function undo() {
  if (!sending() && !back()) post("api/undo", {});
}

export function redo() {
  if (!sending() && !again()) post("api/redo", {}); // the server says if there is nothing to redo
}

/** Withdraw an answer, by its number. */
export const withdraw = (number) => post("api/undo", { answer: number });

/** After a practice round: whether the order was right, and which one is. */
function showKnown({ right, order: best }, candidates) {
  say("Saved.");
  const shown = new Map(candidates.map((c) => [c.id, c]));
  const figures = best.map((id, i) => make("figure", {},
    make("figcaption", { textContent: ordinal(i + 1) }), picture(shown.get(id), ordinal(i + 1), true)));
  dialog(right ? "That was right" : "That was not right",
    [make("p", { textContent: "Practice does not count. The right order is:" }), make("div", { className: "figures known" }, ...figures)]);
  $("dialog").addEventListener("close", () => { order.began = performance.now(); }, { once: true }); // of the next round
}

/** What the server said to something sent. */
export async function replied({ path, body }, reply) {
  const { round } = order; // what was answered, unless the page was loaded anew meanwhile
  if (reply.asks) {
    if (await ask(reply.error, "Withdraw it", "Keep it")) post(path, { ...body, sure: true });
    return;
  }
  if (reply.status !== 200) return say(reply.error || "The server did not take this answer.", true);
  if (path === "api/undo") return say(reply.round === null ? "There is nothing to undo." : "Undone: answer again.");
  if (path === "api/redo") return say(reply.round === null ? "There is nothing to redo." : "Your answer counts again.");
  if (body.kind !== "skip") sent(body.round);
  if (reply.practice) {
    const { candidates } = round?.round === body.round ? round : await call(`api/history/${reply.id}`);
    return candidates && showKnown(reply.practice, candidates);
  }
  if (reply.again) return say("Skipped. There is no other round now, so the same one comes again.");
  const comes = round?.purpose === "practice" ? "" : " The round comes again later.";
  say(body.kind === "skip" ? `Skipped.${comes}` : "Saved.");
}
