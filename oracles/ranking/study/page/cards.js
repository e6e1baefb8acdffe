// The candidates of a round.

import { $, button, make } from "./dom.js";
import { arrange } from "./layout.js";
import { enlarge } from "./look.js";
import { picture, play, sound } from "./media.js";
import { byId, choose, named, order, placeOf, label, spoken } from "./order.js";

let grab = () => {};
/** What a press on a candidate begins. */
export const onGrab = (act) => { grab = act; };

export const pickButton = (i) => $("grid").children[i]?.querySelector(".pick");

/** Show the round's candidates anew. */
export function showCards() {
  const had = $("grid").contains(document.activeElement);
  $("grid").replaceChildren(...(order.round ? order.round.candidates.map(card) : []));
  for (const medium of $("grid").querySelectorAll("img, video"))
    for (const event of ["load", "loadedmetadata"]) medium.addEventListener(event, arrange, { once: true });
  arrange();
  return had;
}

function card(c, i) {
  if (!c) return make("div", { className: "card drawing", textContent: "Drawing …" });
  const out = make("article", { className: `card ${c.kind}` });
  out.dataset.id = c.id;
  const right = make("span", { className: "tools" });
  const row = make("div", { className: "row" }, make("span", { className: "key", textContent: i + 1 }), right);
  if (c.kind === "error") {
    const why = make("p", { className: "note", textContent: "This candidate could not be drawn, and loses:" });
    const text = picture({ ...c, kind: "text" }, "");
    text.tabIndex = 0; // it may scroll
    out.append(why, text, row);
    return out;
  }
  const pick = make("button", { className: "pick", type: "button" });
  pick.addEventListener("click", () => { order.focus = i; choose(c.id); });
  pick.addEventListener("focus", () => { order.focus = i; roving(); });
  pick.addEventListener("pointerdown", (e) => e.pointerType === "mouse" && grab(e, c.id));
  const handle = make("span", { className: "handle", textContent: "⠿", title: "Drag into your order" });
  handle.setAttribute("aria-hidden", "true");
  handle.addEventListener("pointerdown", (e) => grab(e, c.id));
  right.append(handle);
  if (c.kind === "video") right.append(button("⏯", `Play or pause ${named(c)}`, () => play(out)));
  const zoom = button("Zoom", `Zoom ${named(c)}`, () => enlarge(c));
  zoom.classList.add("zooms");
  right.append(zoom);
  const more = button("… show all", `Show all of ${named(c)}`, () => enlarge(c));
  more.classList.add("more");
  more.hidden = true;
  // The button lies over the picture, and holds nothing that could take part in what it does.
  out.append(make("div", { className: "face" }, picture(c, named(c)), pick), more);
  if (c.kind === "audio") out.append(sound(c, named(c)));
  if (c.note) out.append(make("p", { className: "note", textContent: c.note, dir: "auto" }));
  out.append(row);
  return out;
}

/** Of the candidates, only one is on the way of the Tab key. */
function roving() {
  [...$("grid").children].forEach((e, i) => {
    const pick = e.querySelector(".pick");
    if (pick) pick.tabIndex = i === order.focus ? 0 : -1;
  });
}

/** Show on the candidates which place each has. */
export function paintCards() {
  if (!pickButton(order.focus)) order.focus = Math.max(0, [...$("grid").children].findIndex((e) => e.querySelector(".pick")));
  for (const e of $("grid").querySelectorAll(".card[data-id]")) {
    const c = byId(e.dataset.id), place = placeOf(c.id), pick = e.querySelector(".pick");
    e.classList.toggle("placed", place >= 0);
    e.querySelector(".place")?.remove();
    if (place >= 0) e.querySelector(".key").after(make("span", { className: "place", textContent: label(place) }));
    if (!pick) continue;
    const text = c.kind === "text" ? `: ${c.text.slice(0, 300)}` : "";
    pick.setAttribute("aria-label", `${named(c)}, ${place >= 0 ? spoken(place) : "not ranked"}${text}`);
    pick.setAttribute("aria-pressed", place >= 0);
  }
  roving();
}

/** Go to the next candidate in the direction of an arrow key. */
export function arrow(key, mirrored) {
  const cards = [...$("grid").children];
  const columns = Math.max(1, cards.filter((e) => e.offsetTop === cards[0].offsetTop).length);
  const side = mirrored ? -1 : 1;
  const by = { ArrowLeft: -side, ArrowRight: side, ArrowUp: -columns, ArrowDown: columns }[key];
  for (let i = order.focus + by; i >= 0 && i < cards.length; i += by) if (pickButton(i)) {
    order.focus = i;
    roving();
    return pickButton(i).focus();
  }
}
