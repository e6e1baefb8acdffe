// The order, always in sight: it is shown, and a candidate in it can be moved and taken out.

import { $, button, make, ordinal } from "./dom.js";
import { byId, choose, label, named, number, order, placeOf, shift } from "./order.js";

let grab = () => {};
/** What a press on a candidate of the order begins. */
export const onTrayGrab = (act) => { grab = act; };

let selected = null, shown = 0;

/** Show the order. */
export function paintTray() {
  const { round, groups } = order, tray = $("tray");
  const focused = tray.contains(document.activeElement) && document.activeElement.closest(".chip");
  const again = focused && { id: focused.dataset.id, what: document.activeElement.className };
  tray.hidden = !round;
  if (!round) return;
  if (selected !== null && !groups.flat().includes(selected)) selected = null;
  tray.dataset.hint = round.needed === 1 ? "Pick the best, or drag it here."
    : `Pick the ${round.needed} best, best first, or drag them here.`;
  tray.replaceChildren(...groups.map((group, place) => {
    const li = make("li", {}, make("b", { textContent: label(place) }), ...group.map((id) => chip(byId(id))));
    li.dataset.place = place;
    return li;
  }));
  if (again) focusChip(again);
  if (groups.flat().length > shown) tray.lastElementChild?.scrollIntoView({ block: "nearest", inline: "nearest" });
  shown = groups.flat().length;
}

function focusChip({ id, what }) {
  const chips = [...$("tray").querySelectorAll(".chip")];
  const at = chips.find((e) => e.dataset.id === id);
  const to = at ? at.getElementsByClassName(what)[0] || at.firstElementChild : chips.at(-1)?.firstElementChild;
  (to || $("grid").querySelector('.pick[tabindex="0"]'))?.focus({ preventScroll: true });
}

function chip(c) {
  const out = make("span", { className: "chip" });
  out.dataset.id = c.id;
  const face = make("button", { type: "button", className: "chip-face" },
    c.kind === "image" ? make("img", { src: c.url, alt: "", draggable: false }) : "", String(number(c)));
  face.setAttribute("aria-label", `${named(c)}: move`);
  face.setAttribute("aria-expanded", selected === c.id);
  face.addEventListener("click", () => { selected = selected === c.id ? null : c.id; paintTray(); });
  face.addEventListener("pointerdown", (e) => grab(e, c.id));
  out.append(face);
  const tool = (name, text, what, act) => {
    const found = button(text, what, act);
    found.classList.add(name);
    out.append(found);
  };
  if (selected === c.id) {
    tool("better", "◂", `Move ${named(c)} to a better place`, () => shift(c.id, -1));
    tool("later", "▸", `Move ${named(c)} to a later place`, () => shift(c.id, 1));
  }
  tool("off", "×", `Take ${named(c)} out of the order`, () => choose(c.id));
  return out;
}

/** The candidate that keys are to move: the one of the order that has the focus, or else of the cards. */
export function keyed() {
  const at = document.activeElement?.closest?.(".chip");
  return at ? at.dataset.id : order.round?.candidates[order.focus]?.id;
}

/** A place's name, for a round that is over. */
export const placeNamed = (groups, id) => {
  const place = groups.findIndex((g) => g.includes(id));
  if (place < 0) return "not ranked";
  return `${groups[place].length > 1 ? "= " : ""}${ordinal(groups.slice(0, place).flat().length + 1)}`;
};
