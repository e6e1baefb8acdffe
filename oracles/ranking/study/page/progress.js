// How far the study is, and what a page says while there is nothing to answer.

import { likingChart } from "./chart.js";
import { $, button, make } from "./dom.js";
import { keep, kept } from "./keep.js";
import { picture } from "./media.js";

export function showProgress({ state, progress, history, round, missing, purpose, practice, voting }) {
  const { done, rounds, comparisons, agreement, seconds_left: left } = progress;
  const minutes = left === null || state === "finished" ? "" : left < 90 ? `, about ${Math.max(1, Math.round(left))} s left`
    : `, about ${Math.round(left / 60)} min left`;
  const at = Math.max(1, round === null && !missing ? done : done + 1);
  if (round !== null && purpose === "practice") $("progress").textContent = `Practice ${practice[0]} of ${practice[1]}`;
  else if (voting) $("progress").textContent = "Last question";
  else $("progress").textContent = (rounds ? `Round ${Math.min(at, rounds)} of ${rounds}` : `Round ${at}`)
    + ` · ${Math.round(comparisons)} comparisons so far${minutes}`
    + (agreement === null ? "" : ` · raters agree in ${Math.round(100 * agreement)} % of them`);
  $("bar").hidden = !rounds;
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

/** Replace what is inside only where it differs, so that nothing flickers or is read out again. */
function redraw(element, inside) {
  const next = make("div", {}, ...inside);
  if (next.innerHTML !== element.innerHTML) element.replaceChildren(...next.childNodes);
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
function idle({ state, missing, raters, code, enough, rest, voting }) {
  if (state === "paused") return "The study is paused. This page continues by itself.";
  if (state === "finished") return `The study is finished. Thank you. Your completion code is ${code}.`;
  if (rest) return `Time for a break, of ${rest} s at least.`;
  if (voting) return "Thank you. The study ends when the others have answered the last question.";
  if (enough) return `You have answered all your rounds. Thank you. Your completion code is ${code}.`;
  if (!missing || raters < 2) return "The next round is being prepared …";
  return raters === 2 ? "Waiting for the other person …" : `Waiting for ${missing} of ${raters - 1} others …`;
}

export function showIdle(state) {
  const none = state.round === null, text = none ? idle(state) : "";
  $("idle").hidden = !none;
  $("rested").hidden = true;
  if ($("waiting").textContent !== text) $("waiting").textContent = text;
  const newest = none ? state.history.filter((h) => h.best).at(-1) : undefined;
  if (newest) load(newest.best);
  const last = state.state === "finished" ? newest : undefined;
  if (($("result").dataset.shown || "") === (last ? last.best.url : "")) return;
  $("result").dataset.shown = last ? last.best.url : "";
  $("result").replaceChildren();
  if (last) result(last, state.liking);
}

/** A break is over; the round waits until the person is back. */
export function showBreak() {
  $("waiting").textContent = "The break is over.";
  $("rested").hidden = false;
}

const loaded = new Map();

/** Have the result while the server is still there; the text of one that is text. */
function load({ kind, url }) {
  const bytes = () => fetch(url).then((reply) => (reply.ok && kind === "text" ? reply.text() : "")).catch(() => "");
  if (!loaded.has(url)) loaded.set(url, bytes());
  return loaded.get(url);
}

async function result({ step, best }, liking) {
  const name = `The best of the last round, ${step + 1}`;
  const found = { ...best, text: await load(best) };
  const grew = liking === null ? [] : [make("h2", { textContent: "How liking grew" }), likingChart(liking),
    make("p", { className: "muted", textContent: "Liking of each round's best above that of the first, by a model of all answers, with its uncertainty." })];
  $("result").replaceChildren(make("h2", { textContent: name }), make("div", { className: "zoom" }, picture(found, name, true)), ...grew);
}
