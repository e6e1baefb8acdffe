// The page where people rank: it asks the server for the round, shows it, and sends the answer.

import { canRedo, answer, redo, replied, setRedoable, submit, undo } from "./acts.js";
import { onGrab, paintCards, pickButton, showCards } from "./cards.js";
import { $, closeAbout, make, meta, say, startDialogs } from "./dom.js";
import { grab, startDragging } from "./drag.js";
import { forgets } from "./keep.js";
import { help, startKeys } from "./keys.js";
import { arrange, startLayout } from "./layout.js";
import { compare } from "./look.js";
import { startSounds } from "./media.js";
import { begin, lacking, onOrder, order, tie } from "./order.js";
import { showPast } from "./past.js";
import { showIdle, showNotices, showProgress, showQuestion } from "./progress.js";
import { call, flush, hear, onSending, sending } from "./server.js";
import { onTrayGrab, paintTray } from "./tray.js";

const SOON = 250, DRAWN = 4000, FINISHED = 15000, SLOWEST = 4000; // ms between two looks at the server
const PATIENCE = 10000; // ms after which a look that was lost on its way is given up

let timer = 0, turn = 0, wait = 1000;
let state = "running"; // as the server said last
let resting = false; // in a break, and after it until the person goes on

function paint() {
  if (order.round) paintCards();
  paintTray();
  buttons();
}

function buttons() {
  const busy = sending(), none = !order.round;
  $("submit").disabled = busy || lacking() !== "";
  $("tie").setAttribute("aria-pressed", order.tying);
  $("tie").disabled = none || !order.groups.length;
  for (const id of ["undecided", "none", "skip", "compare"]) $(id).disabled = busy || none;
  $("skip").hidden = order.round?.purpose === "final";
  $("undo").disabled = busy;
  $("redo").disabled = busy || !canRedo();
}

/** Ask the server how things are, show it, and ask again in a while. */
async function refresh() {
  clearTimeout(timer);
  const mine = ++turn;
  const found = await call("api/round", undefined, PATIENCE);
  if (mine !== turn) return; // a newer look is under way
  if (found.status === 403) return say(found.error || "Open your link again.", true);
  if (found.status !== 200) {
    if (state === "running") say(found.error ? `${found.error} Trying again …` : "The server cannot be reached; trying again …", true);
    wait = Math.min(SLOWEST, 2 * wait);
    timer = setTimeout(refresh, state === "finished" ? FINISHED : wait);
    return;
  }
  if ($("status").classList.contains("bad") && /reached|at the moment/.test($("status").textContent)) say("");
  state = found.state;
  wait = state === "paused" ? Math.min(SLOWEST, 2 * wait) : SOON;
  setRedoable(found.redo);
  showProgress(found);
  showNotices(found.notices);
  resting = found.rest > 0 || (resting && state !== "finished" && !found.enough);
  const away = resting && state === "running"; // time for an answer counts from when a person is back
  const shown = away ? { ...found, round: null } : found;
  showIdle(shown, away);
  showRound(shown);
  showQuestion(shown.round === null ? null : found);
  if (state === "running") hear(refresh);
  else say("");
  const drawn = !away && found.round !== null && found.candidates.every(Boolean);
  timer = setTimeout(refresh, state === "finished" ? FINISHED : state === "paused" ? wait : drawn ? DRAWN : SOON);
}

function showRound(found) {
  const { round } = order, none = found.round === null;
  order.sent = false;
  $("grid").hidden = none;
  $("dock").classList.toggle("idle", none);
  $("dock").classList.toggle("over", state !== "running");
  if (none || !round || found.round !== round.round) {
    if (!none || round) {
      begin(none ? null : found);
      showCards();
      paint();
      closeAbout(none ? null : found.round);
    }
    if (!none) {
      arrange();
      pickButton(order.focus)?.focus({ preventScroll: true });
      for (const url of found.ahead) new Image().src = url; // the next round, while the person decides
    }
  } else if (JSON.stringify(found.candidates) !== JSON.stringify(round.candidates)) {
    Object.assign(round, found); // further candidates are drawn
    const had = showCards();
    paint();
    if (had) pickButton(order.focus)?.focus({ preventScroll: true });
  }
  buttons();
}

// ---------------------------------------------------------------------------------------------------- begin

onOrder((text) => { say(text); paint(); });
onSending({
  begins: buttons, ends: refresh,
  replied(sent, reply) {
    if (sent.path !== "api/answer") resting = false; // whoever withdraws an answer in a break is back
    replied(sent, reply);
  },
});
onGrab(grab);
onTrayGrab(grab);

const fold = () => $("more").setAttribute("aria-expanded", false);
for (const [id, act] of Object.entries({
  submit, tie, undo, redo, compare, help, history: showPast,
  undecided: () => answer("undecided"), none: () => answer("none"), skip: () => answer("skip"),
})) $(id).addEventListener("click", () => { fold(); act(); });
$("more").addEventListener("click", () => $("more").setAttribute("aria-expanded", $("more").ariaExpanded !== "true"));
addEventListener("keydown", (e) => {
  if (e.key !== "Escape" || $("more").ariaExpanded !== "true") return;
  fold();
  $("more").focus();
});
// The second click of a double click is not meant for the round that the first one brought.
addEventListener("click", (e) => {
  if (e.detail < 2 || performance.now() - order.began > 500) return;
  e.preventDefault();
  e.stopPropagation();
}, true);
addEventListener("pointerdown", (e) => e.target.closest("#more, #rare") || fold());

function start() {
  $("door").hidden = true;
  $("work").hidden = false;
  startLayout();
  addEventListener("focus", () => sending() || refresh());
  flush();
}

$("door").addEventListener("submit", async (e) => {
  e.preventDefault();
  const reply = await call("api/name", { name: $("name").value });
  if (reply.status === 200 || reply.status === 409) start();
  else say(reply.error || "The server cannot be reached.", true);
});

$("rested").addEventListener("click", () => {
  resting = false;
  refresh();
});
startDialogs();
startSounds();
startDragging();
startKeys();
if (forgets()) $("warnings").append(make("p", { className: "notice",
  textContent: "Your browser lets this page keep nothing: a reload would lose an order that is not sent yet." }));
if (meta("rater")) start();
else {
  $("door").hidden = false;
  $("name").focus();
}
