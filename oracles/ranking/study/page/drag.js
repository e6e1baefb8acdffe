// Dragging a candidate into the order, or within it.

import { $, make, rightToLeft } from "./dom.js";
import { byId, named, order, put } from "./order.js";
import { sending } from "./server.js";

const FAR = 8, AROUND = 24, EDGE = 48; // CSS pixels

let drag = null;

export function grab(e, id) {
  if (e.button || sending()) return;
  drag = { id, x: e.clientX, y: e.clientY, ghost: null, pointer: e.pointerId };
}

/** Where in the order a pointer is: before, after or on a place, or at the end; null: elsewhere. */
function target(e) {
  const tray = $("tray").getBoundingClientRect();
  if (e.clientY < tray.top - AROUND || e.clientY > tray.bottom + AROUND) return null;
  const mirrored = rightToLeft();
  for (const li of $("tray").children) {
    const box = li.getBoundingClientRect();
    const share = (mirrored ? box.right - e.clientX : e.clientX - box.left) / box.width;
    if (share <= 1) return { place: Number(li.dataset.place), how: share < 0.3 ? "before" : share <= 0.7 ? "join" : "after", li };
  }
  return { place: order.groups.length, how: "end", li: null };
}

function lift() {
  const c = byId(drag.id);
  if (!c) return (drag = null);
  const inside = c.kind === "image" ? make("img", { src: c.url, alt: "" }) : make("span", { textContent: named(c) });
  drag.ghost = make("div", { id: "ghost" }, inside);
  document.body.append(drag.ghost);
  $("grid").querySelector(`[data-id="${drag.id}"]`)?.classList.add("dragged");
}

function move(e) {
  if (!drag || e.pointerId !== drag.pointer) return;
  if (!drag.ghost) {
    if (Math.hypot(e.clientX - drag.x, e.clientY - drag.y) < FAR) return;
    lift();
    if (!drag) return;
  }
  e.preventDefault();
  drag.ghost.style.transform = `translate(${e.clientX + 8}px, ${e.clientY - 60}px)`;
  const at = target(e), tray = $("tray"), box = tray.getBoundingClientRect();
  mark(at);
  if (at && e.clientX < box.left + EDGE) tray.scrollLeft -= 12;
  if (at && e.clientX > box.right - EDGE) tray.scrollLeft += 12;
}

function mark(at) {
  $("tray").classList.toggle("over", Boolean(at));
  for (const li of $("tray").children)
    for (const how of ["before", "after", "join"]) li.classList.toggle(how, at?.li === li && at.how === how);
}

function end(e) {
  const d = drag;
  drag = null;
  if (!d || !d.ghost) return;
  d.ghost.remove();
  $("grid").querySelector(`[data-id="${d.id}"]`)?.classList.remove("dragged");
  if (e.pointerType === "mouse") { // after a finger's drag comes no click, and the next tap must not be lost
    const swallow = (click) => { click.stopPropagation(); click.preventDefault(); };
    addEventListener("click", swallow, { capture: true, once: true });
    setTimeout(() => removeEventListener("click", swallow, true), 0);
  }
  const at = e.type === "pointerup" && target(e);
  mark(null);
  if (at && order.round && byId(d.id)) put(d.id, at.place, at.how);
}

export function startDragging() {
  addEventListener("pointermove", move);
  addEventListener("pointerup", end);
  addEventListener("pointercancel", end);
}
