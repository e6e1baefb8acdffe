// How far the study is, and what a page says while there is nothing to answer.

import { likingChart } from "./chart.js";
import { $, button, make, redraw } from "./dom.js";
import { keep, kept } from "./keep.js";
import { picture } from "./media.js";

/** Where in the study the person is. */
function standing({ state, progress, round, missing, purpose, practice, voting, enough }) {
  const { done, rounds, agreement, seconds_left: left } = progress;
  if (state === "finished") return done === 1 ? "1 round" : `${done} rounds`;
  if (round !== null && purpose === "practice") return `Practice ${practice[0]} of ${practice[1]}`;
  if (voting) return "Last question";
  if (enough) return "";
  const at = Math.max(1, round === null && !missing ? done : done + 1);
  return (rounds ? `Round ${Math.min(at, rounds)} of ${rounds}` : `Round ${at}`)
    + (left === null ? "" : left < 90 ? `, about ${Math.max(1, Math.round(left))} s left` : `, about ${Math.round(left / 60)} min left`)
    + (agreement === null ? "" : ` · raters agree in ${Math.round(100 * agreement)} % of comparisons`);
}

export function showProgress(found) {
  const { state, progress: { done, rounds }, history } = found;
  $("progress").textContent = standing(found);
  $("bar").hidden = !rounds || state === "finished";
  if (rounds) {
    $("bar").setAttribute("aria-valuemax", rounds);
    $("bar").setAttribute("aria-valuenow", done);
    $("bar").firstElementChild.style.width = `${(100 * done) / rounds}%`;
  }
  $("past").hidden = !history.some((h) => h.best);
  redraw($("strip"), history.map((h) => make("li", {},
    h.best && h.best.kind === "image" ? make("img", { src: h.best.url, alt: `Best of round ${h.step + 1}` })
      : make("span", { textContent: h.best ? { audio: "♪", video: "▶" }[h.best.kind] || "✓" : "–" }),
    String(h.step + 1))));
}

/** What others' withdrawals did to this person's answers; each stays until it is dismissed. */
export function showNotices(notices) {
  const seen = new Set(kept("dismissed") || []);
  const waiting = notices.filter((n) => !seen.has(n.id));
  if (waiting.map((n) => n.id).join() === $("notices").dataset.shown) return;
  $("notices").dataset.shown = waiting.map((n) => n.id).join();
  $("notices").replaceChildren(...waiting.map((n) => make("p", { className: "notice" }, n.text, button("Dismiss", "", () => {
    keep("dismissed", [...(kept("dismissed") || []), n.id].slice(-200));
    showNotices(notices);
  }))));
}

/** The question of a round, where it is another than the study's. */
export function showQuestion(round) {
  const text = round?.question || $("question").dataset.usual;
  if ($("question").textContent !== text) $("question").textContent = text;
  $("question").hidden = !text;
}

/** What to say while there is no round. */
function idle({ state, missing, raters, code, enough, rest, voting }, resting) {
  const thanks = `Thank you. Your completion code is ${code}.`;
  if (state === "paused") return "The study is paused. This page continues by itself.";
  if (state === "finished") return `The study is finished. ${thanks}`;
  if (resting) return rest ? "Time for a break." : "The break is over.";
  if (enough) return voting ? `You have answered everything. ${thanks}` : `You have answered all your rounds. ${thanks}`;
  if (voting) return "The others answer the last question now. Thank you.";
  if (!missing || raters < 2) return "The next round is being prepared …";
  return raters === 2 ? "Waiting for the other person …" : `Waiting for ${missing} of ${raters - 1} others …`;
}

/** Show it; in a break, when it ends, and after that a button, for which the round waits. */
export function showIdle(state, resting) {
  const none = state.round === null, text = none ? idle(state, resting) : "", { rest } = state;
  $("idle").hidden = !none;
  $("rest").hidden = !resting || !rest;
  $("rest").textContent = `You can go on in ${rest < 100 ? `${rest} s` : `about ${Math.ceil(rest / 60)} min`}.`;
  const over = resting && !rest;
  if (over && $("rested").hidden) requestAnimationFrame(() => document.activeElement === document.body && $("rested").focus());
  $("rested").hidden = !over;
  if ($("waiting").textContent !== text) $("waiting").textContent = text;
  const newest = none ? state.history.filter((h) => h.best).at(-1) : undefined;
  if (newest) load(newest.best);
  const last = state.state === "finished" ? newest : undefined;
  if (($("result").dataset.shown || "") === (last ? last.best.url : "")) return;
  $("result").dataset.shown = last ? last.best.url : "";
  $("result").replaceChildren();
  if (last) result(last, state.liking);
}

const loaded = new Map();

/** Have the result while the server is still there; the text of one that is text. */
function load({ kind, url }) {
  const bytes = () => fetch(url).then((reply) => (reply.ok && kind === "text" ? reply.text() : "")).catch(() => "");
  if (!loaded.has(url)) loaded.set(url, bytes());
  return loaded.get(url);
}

async function result({ best }, liking) {
  const name = "The best of the last round";
  const found = { ...best, text: await load(best) };
  const grew = liking === null ? [] : [make("h2", { textContent: "How liking grew" }), likingChart(liking),
    make("p", { className: "muted", textContent: "How much more the best of each round is liked than that of the first: a model of all answers, with its uncertainty." })];
  $("result").replaceChildren(make("h2", { textContent: name }), make("div", { className: "zoom" }, picture(found, name, true)), ...grew);
}
