// What this browser keeps, by study: another study may have had this address before. Where a browser lets a page keep
// nothing, it is kept until the page is left.

import { meta } from "./dom.js";

const memory = new Map();
let denied = false;

function storage(act) {
  if (!denied) {
    try {
      return act(localStorage);
    } catch {
      denied = true; // denied, or full
    }
  }
  return act({
    getItem: (key) => memory.get(key) ?? null,
    setItem: (key, value) => memory.set(key, value),
    removeItem: (key) => memory.delete(key),
  });
}

const name = (what) => `${meta("study")}-${what}`;

export const kept = (what) => storage((s) => JSON.parse(s.getItem(name(what)) || "null"));

export const keep = (what, value) => storage((s) => s.setItem(name(what), JSON.stringify(value)));

export const drop = (what) => storage((s) => s.removeItem(name(what)));

/** Whether a reload would lose what is kept. */
export function forgets() {
  keep("try", 1);
  drop("try");
  return denied;
}
