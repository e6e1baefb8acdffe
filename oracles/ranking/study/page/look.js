// Looking closer: one candidate large, or two side by side, texts with their differences.

import { dialog, make } from "./dom.js";
import { diff } from "./diff.js";
import { picture } from "./media.js";
import { byId, named, order } from "./order.js";

export const enlarge = (c) => dialog(named(c), [make("div", { className: "zoom" }, picture(c, named(c), true))], order.round.round);

export function compare() {
  const able = order.round ? order.round.candidates.filter((c) => c && c.kind !== "error") : [];
  if (able.length < 2) return;
  const at = order.round.candidates[order.focus];
  const first = able.includes(at) ? at : able[0];
  const last = byId(order.groups.flat().at(-1));
  show(able, [last && last !== first ? last : able.find((c) => c !== first), first]);
}

function show(able, chosen, focus = -1) {
  const texts = chosen.every((c) => c.kind === "text");
  const found = texts ? diff(chosen[0].text, chosen[1].text) : null;
  const sides = chosen.map((c, side) => {
    const options = able.map((a) => make("option", { textContent: named(a), value: a.id, selected: a === c }));
    const menu = make("select", {}, ...options);
    menu.setAttribute("aria-label", side ? "Right" : "Left");
    menu.addEventListener("change", () => {
      chosen[side] = byId(menu.value);
      show(able, chosen, side);
    });
    return make("div", {}, menu, found ? marked(found[side], side) : picture(c, named(c), true));
  });
  const note = "These texts differ too much for their differences to be marked.";
  const inside = [make("div", { className: "sides" }, ...sides)];
  if (texts && !found) inside.unshift(make("p", { className: "muted", textContent: note }));
  dialog("Compare two", inside, order.round.round);
  if (focus >= 0) sides[focus].firstChild.focus();
}

/** A text in which what the other does not have is marked; neighbours share a mark. */
function marked(pieces, side) {
  const out = make("span", { className: "text", dir: "auto" });
  for (let i = 0, j; i < pieces.length; i = j) {
    for (j = i; j < pieces.length && pieces[j].own === pieces[i].own;) j++;
    const text = pieces.slice(i, j).map((p) => p.text).join("");
    out.append(pieces[i].own ? make(side ? "ins" : "del", { textContent: text }) : text);
  }
  return out;
}
