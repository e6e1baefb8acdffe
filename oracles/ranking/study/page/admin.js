// The researcher's page: it asks every two seconds how things are, and shows it.

import { $, ask, make, redraw, say, startAsking } from "./dom.js";
import { showLink, showRaters } from "./raters.js";
import { call } from "./server.js";
import { showAgreement, showAsked, showBest, showStudies, showTiles } from "./sums.js";

async function act(path, body, said) {
  const reply = await call(path, body);
  if (reply.status !== 200) say(reply.error || "The server cannot be reached.", true);
  else say(said);
  await refresh();
  return reply;
}

let away = false;

async function refresh() {
  const state = await call("state");
  if (state.status !== 200) {
    away = true;
    return say(`${state.error || "The server cannot be reached."} Trying again …`, true);
  }
  if (away) say("");
  away = false;
  showTiles(state);
  showBest(state.best);
  showStudies(state.studies);
  $("doubts").hidden = !state.warnings.length;
  redraw($("warnings"), state.warnings.map((text) => make("li", { textContent: text, dir: "auto" })));
  showRaters(state.raters, act);
  showAsked(state.asked, state.answers_per_round);
  showAgreement(state.agreement);
  $("past").hidden = !state.history.some((h) => h.best);
  redraw($("strip"), state.history.map((h) => make("li", {}, h.best && h.best.kind === "image"
    ? make("img", { src: `../${h.best.url}`, alt: `Best of round ${h.step + 1}` }) : make("span", { textContent: h.best ? "✓" : "–" }), String(h.step + 1))));
  $("pause").textContent = state.state === "paused" ? "Continue" : "Pause";
  $("pause").disabled = $("finish").disabled = state.state === "finished";
}

$("pause").addEventListener("click", () => ($("pause").textContent === "Pause"
  ? act("pause", {}, "Paused: the raters' pages wait.") : act("continue", {}, "The study continues.")));
$("finish").addEventListener("click", async () => {
  if (await ask("Finish the study? The raters are told that it is over. The same command can continue it later.", "Finish", "Cancel"))
    act("finish", {}, "Finished.");
});
$("invite").querySelector("button").disabled = false; // before this, the form would be sent the browser's way
$("invite").addEventListener("submit", async (event) => {
  event.preventDefault();
  const reply = await act("invite", { name: $("name").value }, "The link is below.");
  showLink(reply);
  if (reply.link) $("name").value = "";
});

startAsking();
refresh();
setInterval(refresh, 2000);
