// The researcher's page: it asks every two seconds how things are, and shows it.

import { chart } from "./chart.js";
import { $, ask, button, make } from "./dom.js";
import { call } from "./server.js";

const say = (text, bad = false) => {
  $("status").textContent = text;
  $("status").classList.toggle("bad", bad);
};

const percent = (share) => `${Math.round(100 * share)} %`;

function ago(seconds) {
  if (seconds === null) return "never";
  if (seconds < 10) return "here";
  if (seconds < 120) return `${Math.round(seconds)} s ago`;
  return seconds < 7200 ? `${Math.round(seconds / 60)} min ago` : `${Math.round(seconds / 3600)} h ago`;
}

async function act(path, body, said) {
  const reply = await call(path, body);
  if (reply.status !== 200) say(reply.error || "The server cannot be reached.", true);
  else say(said);
  await refresh();
  return reply;
}

function showLink(reply) {
  if (!reply.link) return;
  $("link").hidden = false;
  const copy = button("Copy", "Copy the link", () => navigator.clipboard?.writeText(reply.link));
  $("link").replaceChildren("Give this link to the rater; it works once: ", make("code", { textContent: reply.link }), " ", copy);
}

function tiles(state) {
  const { done, rounds, comparisons } = state.progress;
  const here = state.raters.filter((r) => r.seen !== null && r.seen < 10).length;
  const shown = [
    [state.state, "state"], [rounds ? `${done} of ${rounds}` : done, "rounds"], [Math.round(comparisons), "comparisons"],
    [`${here} of ${state.raters.length}`, "raters here"],
  ];
  if (state.votes !== null) shown.push([state.votes.split(" (")[0], "final vote"]);
  if (state.progress.agreement !== null) shown.push([percent(state.progress.agreement), "agreement lately"]);
  $("tiles").replaceChildren(...shown.map(([figure, label]) =>
    make("div", {}, make("b", { textContent: figure }), make("span", { textContent: label }))));
}

function row(rater) {
  const cell = (text, number = false) => make("td", { textContent: text, className: number ? "number" : "" });
  const name = make("td", { textContent: rater.name, dir: "auto" });
  const acts = make("td");
  acts.append(
    button("New link", `New link for ${rater.name}; the old one ends`, async () => {
      if (rater.link !== "used" || await ask(`A new link ends the page that ${rater.name} has open. Make it?`, "New link", "Cancel"))
        showLink(await act("renew", { rater: rater.id }, "The new link is below."));
    }), " ",
    button("Revoke", `Revoke the link of ${rater.name}`, async () => {
      if (await ask(`${rater.name} will not be able to answer any more. The answers so far stay.`, "Revoke", "Cancel"))
        act("revoke", { rater: rater.id }, `${rater.name} is shut out.`);
    }),
  );
  return make("tr", {}, name, cell(rater.link === "open" ? "not opened yet" : rater.link === "revoked" ? "revoked" : rater.enough ? "has answered all" : ago(rater.seen)),
    ...["counts", "skipped", "withdrawn", "void"].map((kind) => cell(rater[kind], true)),
    cell(rater.weight == null ? "–" : rater.weight.toFixed(2), true),
    cell(rater.checks?.[1] ? rater.checks.join(" of ") : "–", true),
    cell(rater.retest ? `${rater.retest.tau.toFixed(2)} (${rater.retest.n})` : "–", true), acts);
}

function agreement(found) {
  $("agreed").hidden = found.length < 2;
  if (found.length < 2) return;
  const x = found.map((_, i) => i + 1), named = (share) => percent(share);
  $("agreement").replaceChildren(chart("Agreement by round", x, found, { marks: [0, 0.5, 1], named }));
}

function studies(found) {
  $("studies").hidden = !found.length;
  const here = location.pathname.replace(/\/admin\/$/, "").split("/").at(-1);
  const items = found.map((s) => make("li", {},
    s.name === here ? make("b", { textContent: s.name }) : make("a", { href: `../../${s.name}/admin/`, textContent: s.name }),
    ` ${s.title}: ${s.state}, ${s.done}${s.rounds ? ` of ${s.rounds}` : ""} rounds`));
  const list = $("studies").lastElementChild, next = make("ul", {}, ...items);
  if (next.innerHTML !== list.innerHTML) list.replaceWith(next);
}

function best(found) {
  $("best").hidden = found === null;
  if (found === null) return;
  $("best-text").textContent = `The winner of round ${found.step + 1}. Its utility is ${found.mean.toFixed(1)} ± ${found.stderr.toFixed(1)}`
    + " above that of the first winner, in units of an answer's noise (one standard deviation of a model of all answers).";
  const url = found.picture?.kind === "image" ? `../${found.picture.url}` : "";
  if (($("best-picture").dataset.shown || "") === url) return;
  $("best-picture").dataset.shown = url;
  $("best-picture").replaceChildren(...(url ? [make("img", { src: url, alt: `Winner of round ${found.step + 1}` })] : []));
}

async function refresh() {
  const state = await call("state");
  if (state.status !== 200) return say(state.error || "The server cannot be reached; trying again …", true);
  if ($("status").classList.contains("bad")) say("");
  tiles(state);
  best(state.best);
  studies(state.studies);
  $("doubts").hidden = !state.warnings.length;
  $("warnings").replaceChildren(...state.warnings.map((text) => make("li", { textContent: text, dir: "auto" })));
  const head = ["rater", "page", "answers", "skipped", "withdrawn", "void", "weight", "checks passed", "retest τ (n)", ""];
  const focused = $("raters").contains(document.activeElement) && document.activeElement.getAttribute("aria-label");
  $("raters").replaceChildren(
    make("tr", {}, ...head.map((text, i) => make("th", { textContent: text, scope: "col", className: i > 1 && i < 9 ? "number" : "" }))),
    ...state.raters.map(row));
  if (focused) [...$("raters").querySelectorAll("button")].find((b) => b.getAttribute("aria-label") === focused)?.focus();
  const needed = state.answers_per_round;
  $("asked").replaceChildren(...state.asked.map((r) => make("li", { dir: "auto", textContent:
    `Round ${r.step + 1}: ${r.n} candidates${r.ranked ? `, the ${r.ranked === 1 ? "" : `${r.ranked} `}best` : ""}; ${r.answered.length} of ${needed} answered`
    + (r.answered.length ? ` (${r.answered.join(", ")})` : "") })));
  agreement(state.agreement);
  $("past").hidden = !state.history.some((h) => h.best);
  $("strip").replaceChildren(...state.history.map((h) => make("li", {}, h.best && h.best.kind === "image"
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
$("invite").addEventListener("submit", async (event) => {
  event.preventDefault();
  showLink(await act("invite", { name: $("name").value }, "The link is below."));
  $("name").value = "";
});

$("ask-yes").addEventListener("click", () => $("ask").close("yes"));
$("ask-no").addEventListener("click", () => $("ask").close());
refresh();
setInterval(refresh, 2000);
