// How a study stands, for its researcher: figures, the best so far, agreement, other studies.

import { chart } from "./chart.js";
import { $, make, redraw } from "./dom.js";

export const percent = (share) => `${Math.round(100 * share)} %`;

export function showTiles({ state, progress, raters, votes }) {
  const { done, rounds, comparisons, agreement } = progress;
  const here = raters.filter((r) => r.seen !== null && r.seen < 10).length;
  const shown = [
    [state, "state"], [rounds ? `${done} of ${rounds}` : done, "rounds"], [Math.round(comparisons), "comparisons"],
    [`${here} of ${raters.length}`, "raters here"],
  ];
  if (votes !== null) shown.push([votes, "final vote"]);
  if (agreement !== null) shown.push([percent(agreement), "recent agreement"]);
  redraw($("tiles"), shown.map(([figure, label]) =>
    make("div", {}, make("b", { textContent: figure }), make("span", { textContent: label }))));
}

export function showBest(found) {
  $("best").hidden = found === null;
  if (found === null) return;
  const { step, mean, stderr, picture } = found, winner = `Winner of round ${step + 1}`;
  $("best-text").textContent = `${winner}, liked ${mean.toFixed(1)} ± ${stderr.toFixed(1)} more than that of round 1. `
    + "The unit is the noise of one answer.";
  redraw($("best-picture"), picture?.kind === "image" ? [make("img", { src: `../${picture.url}`, alt: winner })] : []);
}

export function showAgreement(found) {
  $("agreed").hidden = found.length < 2;
  if (found.length < 2) return;
  const [rounds, shares] = [0, 1].map((i) => found.map((told) => told[i]));
  redraw($("agreement"), [chart("Agreement by round", rounds, shares, { marks: [0, 0.5, 1], named: percent })]);
}

export function showStudies(found) {
  $("studies").hidden = !found.length;
  const here = location.pathname.replace(/\/admin\/$/, "").split("/").at(-1);
  redraw($("studies").lastElementChild, found.map((s) => make("li", {},
    s.name === here ? make("b", { textContent: s.name }) : make("a", { href: `../../${s.name}/admin/`, textContent: s.name }),
    ` “${s.title}”: ${s.state}, ${s.done}${s.rounds ? ` of ${s.rounds}` : ""} rounds`)));
}

export function showAsked(asked, needed) {
  redraw($("asked"), asked.map(({ step, n, ranked, answered }) => make("li", { dir: "auto", textContent:
    `Round ${step + 1}: ${ranked ? `the ${ranked === 1 ? "" : `${ranked} `}best of ${n}` : `all ${n}`} candidates; `
    + `${answered.length} of ${needed} answered${answered.length ? ` (${answered.join(", ")})` : ""}` })));
}
