// Keys. Letters and digits also where a keyboard has others in their places: `code` names the place.

import { $, asking, dialog, make, rightToLeft } from "./dom.js";
import { answer, redo, submit, undo } from "./acts.js";
import { arrow, pickButton } from "./cards.js";
import { keep, kept } from "./keep.js";
import { compare, enlarge } from "./look.js";
import { play } from "./media.js";
import { choose, order, shift, tie } from "./order.js";
import { showPast } from "./past.js";
import { sending } from "./server.js";
import { keyed } from "./tray.js";

const KEYS = [
  ["1 … 9", "put this candidate next in the order, or take it out"],
  ["arrows", "go from candidate to candidate"],
  ["space", "put it next in the order, or take it out"],
  ["Shift + arrows", "move it in the order: left and up to a better place, right and down to a later one"],
  ["T", "the next one is tied with the last"],
  ["U", "undo one step: the last change of the order, or else the last answer"],
  ["Y, Shift + U", "redo"],
  ["Enter", "submit"],
  ["C", "cannot tell"], ["N", "none is acceptable"], ["S", "skip this round"],
  ["Z", "zoom"], ["D", "compare two side by side"], ["P", "play or pause a sound or film"],
  ["H", "your answers"],
];

export function help() {
  const list = KEYS.flatMap(([k, what]) => [make("dt", {}, make("kbd", { textContent: k })), make("dd", { textContent: what })]);
  const box = make("input", { type: "checkbox", checked: !kept("keys-off"), id: "letters" });
  box.addEventListener("change", () => keep("keys-off", !box.checked));
  dialog("Keys", [make("label", { className: "check" }, box, " Letters and digits act"), make("dl", {}, ...list)]);
}

/** The digit or letter of a key, whatever the keyboard; or the key itself. */
function named(e) {
  const digit = /^(Digit|Numpad)([1-9])$/.exec(e.code);
  if (e.key === "?") return "?";
  if (digit && (digit[1] === "Digit" || /^[1-9]$/.test(e.key))) return digit[2];
  if (/^[a-z]$/i.test(e.key)) return e.key.toLowerCase();
  const letter = e.key.length === 1 && /^Key([A-Z])$/.exec(e.code);
  return letter ? letter[1].toLowerCase() : e.key;
}

const LETTERS = {
  t: tie, s: () => answer("skip"), c: () => answer("undecided"), n: () => answer("none"), d: compare,
  z: () => { const c = order.round.candidates[order.focus]; if (c) enlarge(c); },
  p: () => play($("grid").children[order.focus]),
};

/** Do what a key stands for; whether it stands for anything. */
function act(e, key) {
  if (key.length === 1 && kept("keys-off")) return false;
  if (key === "?") return help(), true;
  if (key === "h") return showPast(), true;
  if (key === "u") return (e.shiftKey ? redo : undo)(), true;
  if (key === "y") return redo(), true;
  if (!order.round) return false;
  if (key.startsWith("Arrow")) return toward(key, e.shiftKey), true;
  if (key === "Enter") return !e.target.closest("button:not(.pick), a, summary") && (submit(), true);
  if (sending()) return false;
  if (LETTERS[key]) return LETTERS[key](), true;
  if (!/^[1-9]$/.test(key)) return false;
  const c = order.round.candidates[key - 1];
  if (c) {
    order.focus = key - 1;
    choose(c.id);
    pickButton(order.focus)?.focus();
  }
  return true;
}

function toward(key, moves) {
  const mirrored = rightToLeft();
  if (!moves) return arrow(key, mirrored);
  const better = key === "ArrowUp" || key === (mirrored ? "ArrowRight" : "ArrowLeft");
  if (keyed() && !sending()) shift(keyed(), better ? -1 : 1);
}

export function startKeys() {
  addEventListener("keydown", (e) => {
    if (e.ctrlKey || e.metaKey || e.altKey || e.isComposing || asking() || !$("door").hidden) return;
    if (/^(INPUT|SELECT|AUDIO|VIDEO)$/.test(e.target.tagName)) return;
    const key = named(e);
    if (e.repeat && (e.shiftKey || !key.startsWith("Arrow"))) {
      if (key.length === 1 && key !== " ") e.preventDefault();
      return; // one step a press
    }
    if (act(e, key)) e.preventDefault();
  });
}
