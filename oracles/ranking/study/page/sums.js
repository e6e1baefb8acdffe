// How a study stands, for its researcher: figures, the best so far, agreement, other studies.

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
  const known = found.map((share, i) => [i, share]).filter(([, share]) => share !== null);
  $("agreed").hidden = known.length < 2;
  if (known.length < 2) return;
  const at = ([i, share]) => `${30 + (560 * i) / Math.max(1, found.length - 1)} ${110 - 100 * share}`;
  const svg = (tag, props, text = "") => {
    const out = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(props)) out.setAttribute(name, value);
    out.textContent = text;
    return out;
  };
  const rule = (share) => [
    svg("line", { x1: 30, x2: 590, y1: 110 - 100 * share, y2: 110 - 100 * share }),
    svg("text", { x: 0, y: 114 - 100 * share }, percent(share)),
  ];
  $("agreement").replaceChildren(...[0, 0.5, 1].flatMap(rule), svg("path", { d: `M ${known.map(at).join(" L ")}` }));
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
