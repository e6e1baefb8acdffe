// The order that is being made: lists of candidates' ids, best first, ties together.

import { ordinal } from "./dom.js";
import { keep, kept } from "./keep.js";

const DRAFTS = 12; // rounds of which the order is kept: skipped ones, and those that may be taken back

export const order = {
  round: null, // as the server gave it
  groups: [],
  tying: false, // whether the next pick shares the last place
  focus: 0, // which card the arrows are at
  began: 0,
  sent: false, // whether the server has the answer to this round, and a newer one is on its way
  past: [], // earlier `groups` of this round, for undo
  future: [],
};

let told = () => {};
/** What is to happen, with a sentence for the person, when the order has changed. */
export const onOrder = (act) => { told = act; };

export const byId = (id) => order.round.candidates.find((c) => c && c.id === id);
export const number = (c) => order.round.candidates.indexOf(c) + 1;
export const named = (c) => `Candidate ${number(c)}`;
export const placeOf = (id) => order.groups.findIndex((g) => g.includes(id));

export function label(place) {
  const rank = ordinal(order.groups.slice(0, place).flat().length + 1);
  return order.groups[place].length > 1 ? `= ${rank}` : rank;
}

export const spoken = (place) => label(place).replace("=", "tied");

// ---------------------------------------------------------------------------------------------------- drafts

/** Begin with a round, or with none; the order made of it before is there again. */
export function begin(round) {
  Object.assign(order, { round, groups: [], tying: false, focus: 0, began: performance.now(), sent: false, past: [], future: [] });
  const draft = round && (kept("drafts") || {})[round.round];
  const known = new Set(round ? round.candidates.filter(Boolean).map((c) => c.id) : []);
  if (draft && draft.groups.flat().every((id) => known.has(id))) Object.assign(order, draft);
}

function draft(round, value) {
  const drafts = { ...kept("drafts"), [round]: value };
  for (const old of Object.keys(drafts).slice(0, -DRAFTS)) delete drafts[old];
  keep("drafts", drafts);
}

/** The order of a round was sent: if it comes back, its order does; undo, even at once, withdraws the answer. */
export function sent(round) {
  const made = (kept("drafts") || {})[round];
  if (made) draft(round, { groups: made.groups, past: [] });
  if (order.round?.round === round) Object.assign(order, { sent: true, past: [], future: [] });
}

// ---------------------------------------------------------------------------------------------------- changes

function become(groups) {
  order.groups = groups.filter((g) => g.length);
  order.tying = false;
  draft(order.round.round, { groups: order.groups, past: order.past });
}

function change(groups, text) {
  order.past = [...order.past, order.groups].slice(-50);
  order.future = [];
  become(groups);
  told(text());
}

const without = (id) => order.groups.map((g) => g.filter((i) => i !== id));
const standing = (id) => `${named(byId(id))} is ${spoken(placeOf(id))}.`;

/** Put a candidate next in the order, or take it out. */
export function choose(id) {
  if (!byId(id) || byId(id).kind === "error") return;
  if (placeOf(id) >= 0) return change(without(id), () => `${named(byId(id))} is out of the order.`);
  const { groups, tying } = order;
  const next = tying && groups.length ? [...groups.slice(0, -1), [...groups.at(-1), id]] : [...groups, [id]];
  change(next, () => {
    const missing = order.round.needed - order.groups.flat().length;
    return `${standing(id)} ${missing > 0 ? `${missing} more.` : "Ready to submit."}`;
  });
}

/** Put a candidate before, after or into a place; "end" puts it last. */
export function put(id, place, how) {
  const to = order.groups[place];
  if (how === "join" && to.includes(id)) return told("");
  const next = how === "before" ? to : how === "after" ? order.groups[place + 1] : undefined;
  const groups = without(id);
  if (how === "join") groups[place] = [...groups[place], id];
  else groups.splice(next ? order.groups.indexOf(next) : groups.length, 0, [id]);
  change(groups, () => standing(id));
}

/** Move a candidate in the order by one place: -1 is better. One that shares a place gets one of its own. */
export function shift(id, by) {
  const place = placeOf(id), { groups } = order;
  if (place < 0) return told(`${named(byId(id))} is not in the order.`);
  if (groups[place].length > 1) return put(id, place, by < 0 ? "before" : "after");
  if (!groups[place + by]) return told(`${standing(id)} There is no ${by < 0 ? "better" : "later"} place.`);
  put(id, place + by, by < 0 ? "before" : "after");
}

export function tie() {
  order.tying = order.groups.length > 0 && !order.tying;
  told(order.tying ? `The next one is tied with ${order.groups.at(-1).map((id) => named(byId(id))).join(", ")}.` : "");
}

/** Take the last change back; whether there was one. */
export const back = () => step("past", "future", "Undone.");

/** Make again what was taken back. */
export const again = () => step("future", "past", "Made again.");

function step(from, to, text) {
  if (!order.round || !order[from].length) return false;
  const groups = order[from].at(-1);
  order[to] = [...order[to], order.groups];
  order[from] = order[from].slice(0, -1);
  become(groups);
  told(text);
  return true;
}

/** What is missing before the order can be sent; nothing is missing if it is empty. */
export function lacking() {
  const { round, groups } = order;
  if (!round) return "There is no round to answer.";
  if (order.sent) return "Saved. The next round is on its way.";
  if (groups.flat().length < round.needed) return `Rank at least ${round.needed} first.`;
  return round.candidates.every(Boolean) ? "" : "Wait until all candidates are drawn.";
}
