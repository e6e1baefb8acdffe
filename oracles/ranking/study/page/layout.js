// How many columns: pictures as large as fit the screen, all at once if they do not become tiny.

import { $ } from "./dom.js";
import { order } from "./order.js";

const GAP = 12, SMALL = 150, COMFORTABLE = 180, TEXT = 280; // CSS pixels
const ROW = 54, MORE = 38; // below each picture, with the card's border; and below a text that is cut

/** As many columns, at most, as rows of the same length need. */
const even = (n, most) => Math.ceil(n / Math.ceil(n / most));

/** The columns and the width of a picture for n pictures of a ratio (width / height) in a room. */
export function fit(n, ratio, width, height) {
  let best = { columns: 1, size: 0, fits: false };
  for (let columns = 1; columns <= n; columns++) {
    const rows = Math.ceil(n / columns);
    const wide = (width - GAP * (columns - 1)) / columns - 20;
    const high = (height - GAP * (rows - 1)) / rows - ROW;
    const size = Math.min(wide, high * ratio);
    if (size > best.size) best = { columns, size, fits: true };
  }
  const least = Math.min(COMFORTABLE, Math.max(SMALL, width / 4)), most = Math.min(least, width / 2 - 26);
  if (best.size / Math.sqrt(ratio) >= most || n === 1) return best; // the side of a square as large
  const columns = even(n, Math.max(1, Math.floor((width + GAP) / (most + 20 + GAP)))); // they scroll
  return { columns, size: (width - GAP * (columns - 1)) / columns - 20, fits: false };
}

function ratioOf() {
  const found = [...$("grid").querySelectorAll(".face img, .face video")]
    .map((e) => (e.naturalWidth || e.videoWidth || 0) / (e.naturalHeight || e.videoHeight || 1)).filter((r) => r > 0);
  found.sort((a, b) => a - b);
  return Math.min(4, Math.max(0.25, found[found.length >> 1] || 1));
}

/** Lay the candidates out anew. */
export function arrange() {
  if (!order.round || $("grid").hidden) return;
  const grid = $("grid"), n = order.round.candidates.length;
  const kinds = new Set(order.round.candidates.filter((c) => c && c.kind !== "error").map((c) => c.kind));
  const width = grid.clientWidth, dock = $("dock").offsetHeight;
  document.documentElement.style.setProperty("--dock", `${dock}px`);
  const height = innerHeight - dock - (grid.getBoundingClientRect().top + scrollY) - GAP;
  let found;
  if (["text", "audio"].some((kind) => kinds.has(kind))) {
    const most = Math.max(1, Math.floor((width + GAP) / (TEXT + GAP)));
    const columns = even(n, most);
    found = { columns, size: Math.min((width - GAP * (columns - 1)) / columns - 20, 680) };
    const rows = Math.ceil(n / columns);
    grid.style.setProperty("--text", `${Math.max(232, (height - GAP * (rows - 1)) / rows - ROW - MORE - 10)}px`);
  } else {
    found = fit(n, ratioOf(), width, height);
  }
  grid.style.setProperty("--columns", found.columns);
  grid.style.setProperty("--size", `${Math.floor(found.size)}px`);
  grid.style.setProperty("--ratio", ratioOf());
  for (const e of grid.querySelectorAll(".card.text")) {
    const text = e.querySelector(".text");
    e.querySelector(".more").hidden = text.scrollHeight <= text.clientHeight + 1;
  }
}

export function startLayout() {
  const watch = new ResizeObserver(() => requestAnimationFrame(arrange));
  watch.observe(document.documentElement);
  watch.observe($("dock"));
  addEventListener("resize", arrange);
}
