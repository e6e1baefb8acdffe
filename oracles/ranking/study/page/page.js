"use strict";
// One page: the current round, the order so far, and an outbox that keeps an answer until the server has it.

const $ = (id) => document.getElementById(id);
const meta = (name) => document.querySelector(`meta[name=${name}]`).content;
const make = (tag, props = {}, ...inside) => {
  const e = Object.assign(document.createElement(tag), props);
  e.append(...inside);
  return e;
};
const ORDINALS = ["1st", "2nd", "3rd"];
const ordinal = (k) => ORDINALS[k] || `${k + 1}th`;
const newId = () => [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, "0")).join("");

// Local storage is kept per study: another study may have used this address before.
const kept = (what) => JSON.parse(localStorage.getItem(`${meta("study")}-${what}`) || "null");
const keep = (what, value) => localStorage.setItem(`${meta("study")}-${what}`, JSON.stringify(value));
const drop = (what) => localStorage.removeItem(`${meta("study")}-${what}`);

let round = null; // as received from the server
let groups = []; // the order so far: lists of ids, best first
let tying = false; // whether the next pick shares the last place
let focus = 0; // index of the card that the arrow keys have reached
let began = 0, sending = false, timer = 0, drag = null;

// ---------------------------------------------------------------------------------------------------- server

async function call(path, body) {
  const options = body && {
    method: "POST", headers: { "Content-Type": "application/json", "X-CSRF": meta("csrf") }, body: JSON.stringify(body),
  };
  const reply = await fetch(path, options);
  const found = (reply.headers.get("content-type") || "").startsWith("application/json") ? await reply.json() : {};
  return { status: reply.status, ...found };
}

const say = (text, bad = false) => {
  $("status").textContent = text;
  $("status").classList.toggle("bad", bad);
};

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

// An answer is in the outbox before it is sent, and is sent under the same id until the server confirms it.
async function flush() {
  if (sending) return;
  sending = true;
  buttons();
  try {
    for (let wait = 250, sent; (sent = kept("outbox")); wait = Math.min(4000, 2 * wait)) {
      const { path, body } = sent;
      let reply;
      try {
        reply = await call(path, body);
      } catch {
        reply = { status: 0 };
      }
      if (reply.status === 0 || reply.status === 429 || reply.status >= 500) {
        say(`${reply.error || "The server cannot be reached."} Your answer is kept here and will be sent.`, true);
        await pause(wait);
        continue;
      }
      drop("outbox");
      if (reply.status === 200) {
        drop("draft");
        say(path === "api/undo" ? (reply.round === null ? "There is nothing to undo." : "Undone: answer again.") : "Saved.");
      } else {
        say(reply.error || "The server refused this answer.", true);
      }
    }
  } finally {
    sending = false;
  }
  await refresh();
}

function post(path, body) {
  if (sending) return;
  keep("outbox", { path, body: { ...body, client_id: newId() } });
  flush();
}

async function refresh() {
  clearTimeout(timer);
  let state;
  try {
    state = await call("api/round");
  } catch {
    say("The server cannot be reached; trying again …", true);
    timer = setTimeout(refresh, 1000);
    return;
  }
  if (state.status === 403) return say(state.error || "Open your link again.", true);
  if (state.status !== 200) {
    say(`${state.error || "The server cannot be reached;"} Trying again …`, true);
    timer = setTimeout(refresh, 1000);
    return;
  }
  if ($("status").classList.contains("bad") && /reached|at the moment/.test($("status").textContent)) say("");
  progress(state);
  show(state);
  const drawn = state.round !== null && state.candidates.every(Boolean);
  if (!state.finished) timer = setTimeout(refresh, drawn ? 4000 : 250);
}

function progress(state) {
  const { done, rounds, comparisons, agreement, seconds_left: left } = state.progress;
  const minutes = left === null ? "" : left < 90 ? `, about ${Math.max(1, Math.round(left))} s left`
    : `, about ${Math.round(left / 60)} min left`;
  const at = state.round === null ? done : done + 1;
  $("progress").textContent = (rounds ? `Round ${Math.min(at, rounds)} of ${rounds}` : `Round ${at}`)
    + ` · ${Math.round(comparisons)} comparisons so far${minutes}`
    + (agreement === null ? "" : ` · raters agree in ${Math.round(100 * agreement)} % of them`);
  $("bar").hidden = !rounds;
  if (rounds) {
    $("bar").setAttribute("aria-valuemax", rounds);
    $("bar").setAttribute("aria-valuenow", done);
    $("bar").firstElementChild.style.width = `${(100 * done) / rounds}%`;
  }
  $("past").hidden = !state.history.some((h) => h.best);
  $("strip").replaceChildren(...state.history.map((h) => make("li", {},
    h.best && h.best.kind === "image" ? make("img", { src: h.best.url, alt: `Best of round ${h.step + 1}` })
      : make("span", { textContent: h.best ? { audio: "♪", video: "▶" }[h.best.kind] || "✓" : "–" }),
    String(h.step + 1))));
}

// ---------------------------------------------------------------------------------------------------- the round

function show(state) {
  const same = round && state.round === round.round && JSON.stringify(state.candidates) === JSON.stringify(round.candidates);
  const fresh = !round || state.round !== round.round;
  $("waiting").hidden = state.round !== null;
  $("waiting").textContent = state.finished ? "The study is finished. Thank you." : "The next round is being prepared …";
  $("actions").hidden = $("grid").hidden = $("tray").hidden = state.round === null;
  if (state.round === null) {
    round = null;
    $("grid").replaceChildren();
    return;
  }
  if (same) return;
  round = state;
  if (fresh) {
    groups = [];
    tying = false;
    focus = 0;
    began = Date.now();
    const draft = kept("draft");
    const known = new Set(round.candidates.filter(Boolean).map((c) => c.id));
    if (draft && draft.round === round.round && draft.groups.flat().every((i) => known.has(i))) groups = draft.groups;
    if ($("dialog").open) $("dialog").close();
    for (const url of round.ahead) new Image().src = url; // the next round, while the person decides
  }
  const had = document.activeElement && $("grid").contains(document.activeElement);
  $("grid").replaceChildren(...round.candidates.map(card));
  paint();
  if (fresh || had) pickButton(focus)?.focus({ preventScroll: true });
}

const named = (c) => `Candidate ${round.candidates.indexOf(c) + 1}`;
const byId = (id) => round.candidates.find((c) => c && c.id === id);

function picture(c, large = false) {
  if (c.kind === "image") return make("img", { src: c.url, alt: named(c), draggable: false });
  if (c.kind === "video") return make("video", { src: c.url, loop: true, muted: !large, autoplay: true, controls: large, playsInline: true });
  if (c.kind === "audio") return large ? make("audio", { src: c.url, controls: true }) : make("div", { className: "sound", textContent: "♪" });
  if (c.kind === "html") {
    const frame = make("iframe", { src: c.url, title: named(c), tabIndex: -1 });
    frame.setAttribute("sandbox", "");
    return frame;
  }
  return make("pre", { className: "text", textContent: c.text });
}

function card(c, i) {
  if (!c) return make("div", { className: "card drawing", textContent: "Drawing …" });
  const out = make("article", { className: "card" });
  out.dataset.id = c.id;
  const failed = c.kind === "error";
  const key = make("span", { className: "key", textContent: i + 1 });
  const right = make("span");
  const row = make("div", { className: "row" }, key, right);
  if (failed) {
    out.classList.add("failed");
    out.append(make("p", { className: "text", textContent: "This candidate could not be drawn and loses:" }), picture(c), row);
    return out;
  }
  const pick = make("button", { className: "pick", type: "button" }, picture(c));
  pick.addEventListener("click", () => { focus = i; choose(c.id); });
  pick.addEventListener("focus", () => { focus = i; roving(); });
  pick.addEventListener("pointerdown", (e) => e.pointerType === "mouse" && startDrag(e, c.id));
  const zoom = make("button", { className: "small", type: "button", textContent: "Zoom" });
  zoom.setAttribute("aria-label", `Zoom ${named(c)}`);
  zoom.addEventListener("click", () => enlarge(c));
  const handle = make("span", { className: "handle", textContent: "⠿", title: "Drag into your order" });
  handle.setAttribute("aria-hidden", "true");
  handle.addEventListener("pointerdown", (e) => startDrag(e, c.id));
  right.append(handle, zoom);
  out.append(pick);
  if (c.kind === "audio") out.append(make("audio", { src: c.url, controls: true, preload: "auto" }));
  if (c.note) out.append(make("p", { className: "note", textContent: c.note }));
  out.append(row);
  return out;
}

const pickButton = (i) => $("grid").children[i]?.querySelector(".pick");
const roving = () => [...$("grid").querySelectorAll(".card")].forEach((e, i) => {
  const pick = e.querySelector(".pick");
  if (pick) pick.tabIndex = i === focus ? 0 : -1;
});

const placeOf = (id) => groups.findIndex((g) => g.includes(id));
const rankOf = (place) => groups.slice(0, place).flat().length;

function paint() {
  for (const e of $("grid").querySelectorAll(".card[data-id]")) {
    const c = byId(e.dataset.id), place = placeOf(c.id), pick = e.querySelector(".pick");
    e.classList.toggle("placed", place >= 0);
    e.querySelector(".place")?.remove();
    if (place >= 0) e.querySelector(".key").after(make("span", { className: "place", textContent: label(place) }));
    if (pick) {
      pick.setAttribute("aria-label", `${named(c)}${place >= 0 ? `, ${label(place).replace("=", "tied")}` : ", not ranked"}${c.kind === "text" ? `: ${c.text.slice(0, 300)}` : ""}`);
      pick.setAttribute("aria-pressed", place >= 0);
    }
  }
  $("tray").dataset.hint = `Pick ${round.needed === 1 ? "the best" : `the ${round.needed} best, best first`}; or drag them here.`;
  $("tray").replaceChildren(...groups.map((g, place) => {
    const li = make("li", {}, make("b", { textContent: label(place) }), ...g.map((id) => chip(byId(id))));
    li.dataset.place = place;
    return li;
  }));
  roving();
  buttons();
}

const label = (place) => (groups[place].length > 1 ? `= ${ordinal(rankOf(place))}` : ordinal(rankOf(place)));

function chip(c) {
  const out = make("span", { className: "chip", title: named(c) }, c.kind === "image" ? make("img", { src: c.url, alt: "" }) : "",
    String(round.candidates.indexOf(c) + 1));
  const off = make("button", { className: "small", type: "button", textContent: "×" });
  off.setAttribute("aria-label", `Take ${named(c)} out of the order`);
  off.addEventListener("click", () => choose(c.id));
  out.addEventListener("pointerdown", (e) => startDrag(e, c.id));
  out.append(off);
  return out;
}

function buttons() {
  const ready = round && groups.flat().length >= round.needed && round.candidates.every(Boolean);
  $("submit").disabled = sending || !ready;
  $("tie").setAttribute("aria-pressed", tying);
  $("tie").disabled = !groups.length;
  for (const id of ["undecided", "none", "skip", "undo"]) $(id).disabled = sending;
}

function changed(text) {
  groups = groups.filter((g) => g.length);
  if (!groups.length) tying = false;
  keep("draft", { round: round.round, groups });
  say(text);
  paint();
}

function choose(id) {
  if (sending || !byId(id) || byId(id).kind === "error") return;
  if (placeOf(id) >= 0) {
    groups = groups.map((g) => g.filter((i) => i !== id));
    return changed(`${named(byId(id))} is out of the order.`);
  }
  if (tying && groups.length) groups[groups.length - 1].push(id);
  else groups.push([id]);
  tying = false;
  const missing = round.needed - groups.flat().length;
  changed(`${named(byId(id))} is ${label(placeOf(id)).replace("=", "tied")}. ${missing > 0 ? `${missing} more.` : "Enter submits."}`);
}

const submit = () => round && post("api/answer", { round: round.round, kind: "rank", groups, ms: Date.now() - began });
const answer = (kind) => round && post("api/answer", { round: round.round, kind, groups: [], ms: Date.now() - began });

function undo() {
  if (!groups.length) return post("api/undo", {});
  const id = groups[groups.length - 1].pop();
  changed(`${named(byId(id))} is out of the order.`);
}

function tie() {
  tying = groups.length > 0 && !tying;
  say(tying ? `The next one is tied with ${groups[groups.length - 1].map((i) => named(byId(i))).join(", ")}.` : "");
  buttons();
}

// ---------------------------------------------------------------------------------------------------- dragging

function startDrag(e, id) {
  if (e.button || sending || e.target.closest(".small")) return;
  drag = { id, x: e.clientX, y: e.clientY, ghost: null, pointer: e.pointerId };
}

function target(e) {
  const tray = $("tray").getBoundingClientRect();
  if (e.clientY < tray.top - 24 || e.clientY > tray.bottom + 24) return null;
  for (const li of $("tray").children) {
    const box = li.getBoundingClientRect(), share = (e.clientX - box.left) / box.width;
    if (share < 0.3) return { place: Number(li.dataset.place), how: "before", li };
    if (share <= 0.7) return { place: Number(li.dataset.place), how: "join", li };
    if (share <= 1) return { place: Number(li.dataset.place), how: "after", li };
  }
  return { place: groups.length, how: "end", li: null };
}

addEventListener("pointermove", (e) => {
  if (!drag || e.pointerId !== drag.pointer) return;
  if (!drag.ghost) {
    if (Math.hypot(e.clientX - drag.x, e.clientY - drag.y) < 8) return;
    const c = byId(drag.id);
    drag.ghost = make("div", { id: "ghost" }, c.kind === "image" ? make("img", { src: c.url, alt: "" }) : make("span", { textContent: named(c) }));
    document.body.append(drag.ghost);
    $("grid").querySelector(`[data-id="${drag.id}"]`)?.classList.add("dragged");
  }
  e.preventDefault();
  drag.ghost.style.transform = `translate(${e.clientX + 8}px, ${e.clientY + 8}px)`;
  const at = target(e);
  $("tray").classList.toggle("over", Boolean(at));
  for (const li of $("tray").children) for (const how of ["before", "after", "join"]) li.classList.toggle(how, at?.li === li && at.how === how);
});

function endDrag(e) {
  const d = drag;
  drag = null;
  if (!d || !d.ghost) return;
  d.ghost.remove();
  $("tray").classList.remove("over");
  $("grid").querySelector(`[data-id="${d.id}"]`)?.classList.remove("dragged");
  const swallow = (click) => { click.stopPropagation(); click.preventDefault(); };
  addEventListener("click", swallow, { capture: true, once: true });
  setTimeout(() => removeEventListener("click", swallow, true), 0);
  const at = e.type === "pointerup" && target(e);
  if (!at || !byId(d.id)) return paint();
  const to = groups[at.place], next = at.how === "after" ? groups[at.place + 1] : to;
  if (at.how === "join" && to.includes(d.id)) return paint();
  for (const g of groups) if (g.includes(d.id)) g.splice(g.indexOf(d.id), 1);
  if (at.how === "join") to.push(d.id);
  else groups.splice(next ? groups.indexOf(next) : groups.length, 0, [d.id]);
  groups = groups.filter((g) => g.length);
  changed(`${named(byId(d.id))} is ${label(placeOf(d.id))}.`);
}
addEventListener("pointerup", endDrag);
addEventListener("pointercancel", endDrag);

// ---------------------------------------------------------------------------------------------------- looking closer

function dialog(title, ...inside) {
  $("dialog-title").textContent = title;
  $("dialog-body").replaceChildren(...inside);
  if (!$("dialog").open) $("dialog").showModal();
}

const enlarge = (c) => dialog(named(c), make("div", { className: "zoom" }, picture(c, true)));

function compare() {
  const able = round.candidates.filter((c) => c && c.kind !== "error");
  if (able.length < 2) return;
  const first = round.candidates[focus] && able.includes(round.candidates[focus]) ? round.candidates[focus] : able[0];
  const last = byId(groups.flat().at(-1));
  const chosen = [last && last !== first ? last : able.find((c) => c !== first), first];
  const draw = () => {
    const difference = chosen.every((c) => c.kind === "text") ? diff(chosen[0].text, chosen[1].text) : null;
    dialog("Compare two", make("div", { className: "sides" }, ...chosen.map((c, side) => {
      const menu = make("select", { ariaLabel: side ? "Right" : "Left" }, ...able.map((a) => make("option", { textContent: named(a), value: a.id, selected: a === c })));
      menu.addEventListener("change", () => { chosen[side] = byId(menu.value); draw(); });
      const body = difference ? make("pre", {}, ...difference[side]) : picture(c, true);
      return make("div", {}, menu, body);
    })));
  };
  draw();
}

// Words that only the left or only the right text has (longest common subsequence).
function diff(a, b) {
  const x = a.split(/(\s+)/).slice(0, 2000), y = b.split(/(\s+)/).slice(0, 2000);
  const long = Array.from({ length: x.length + 1 }, () => new Uint16Array(y.length + 1));
  for (let i = x.length - 1; i >= 0; i--)
    for (let j = y.length - 1; j >= 0; j--)
      long[i][j] = x[i] === y[j] ? long[i + 1][j + 1] + 1 : Math.max(long[i + 1][j], long[i][j + 1]);
  const left = [], right = [];
  for (let i = 0, j = 0; i < x.length || j < y.length;) {
    if (i < x.length && j < y.length && x[i] === y[j]) { left.push(x[i++]); right.push(y[j++]); }
    else if (j >= y.length || (i < x.length && long[i + 1][j] >= long[i][j + 1])) left.push(make("del", { textContent: x[i++] }));
    else right.push(make("ins", { textContent: y[j++] }));
  }
  return [left, right];
}

const help = () => dialog("Keys", make("dl", {}, ...[
  ["1 … 9", "put this candidate next in the order, or take it out"], ["arrows", "move between candidates"],
  ["space", "put it next in the order, or take it out"], ["T", "the next one is tied with the last"],
  ["U", "undo the last place, else the last answer"], ["Enter", "submit"], ["C", "cannot tell"],
  ["N", "none is acceptable"], ["S", "skip this round"], ["Z", "zoom"], ["D", "compare two side by side"], ["P", "play, for sounds"],
].flatMap(([k, what]) => [make("dt", {}, make("kbd", { textContent: k })), make("dd", { textContent: what })])));

// ---------------------------------------------------------------------------------------------------- keys

function arrow(key) {
  const cards = [...$("grid").children];
  const columns = Math.max(1, cards.filter((e) => e.offsetTop === cards[0].offsetTop).length);
  const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[key];
  for (let i = focus + by; i >= 0 && i < cards.length; i += by) if (pickButton(i)) {
    focus = i;
    roving();
    return pickButton(i).focus();
  }
}

addEventListener("keydown", (e) => {
  if (e.ctrlKey || e.metaKey || e.altKey || $("study").hidden || /^(INPUT|SELECT|AUDIO|VIDEO)$/.test(e.target.tagName)) return;
  if ($("dialog").open) return;
  const key = e.key.length === 1 ? e.key.toLowerCase() : e.key;
  if (key === "u") { e.preventDefault(); return undo(); }
  if (key === "?") return help();
  if (!round || e.repeat) return;
  const acts = {
    t: tie, s: () => answer("skip"), c: () => answer("undecided"), n: () => answer("none"), d: compare,
    z: () => { const c = round.candidates[focus]; if (c) enlarge(c); },
    p: () => $("grid").children[focus]?.querySelector("audio")?.play(),
  };
  if (/^[1-9]$/.test(key)) {
    const c = round.candidates[key - 1];
    if (c) { focus = key - 1; choose(c.id); pickButton(focus)?.focus(); }
  } else if (key.startsWith("Arrow")) {
    arrow(key);
  } else if (key === "Enter" && !e.target.closest("#tray, footer, .small")) {
    if (!$("submit").disabled) submit();
    else say(`Rank at least ${round.needed} first.`, true);
  } else if (acts[key]) {
    acts[key]();
  } else {
    return;
  }
  e.preventDefault();
});

// ---------------------------------------------------------------------------------------------------- begin

$("submit").addEventListener("click", submit);
$("tie").addEventListener("click", tie);
$("undo").addEventListener("click", undo);
$("compare").addEventListener("click", () => round && compare());
$("help").addEventListener("click", help);
$("dialog-close").addEventListener("click", () => $("dialog").close());
for (const kind of ["undecided", "none", "skip"]) $(kind).addEventListener("click", () => answer(kind));
addEventListener("focus", () => round && !sending && refresh());

function begin() {
  $("door").hidden = true;
  $("study").hidden = false;
  flush();
}

$("door").addEventListener("submit", async (e) => {
  e.preventDefault();
  const reply = await call("api/name", { name: $("name").value }).catch(() => ({ status: 0 }));
  if (reply.status === 200 || reply.status === 409) begin();
  else say(reply.error || "The server cannot be reached.", true);
});

if (meta("rater")) begin();
else {
  $("door").hidden = false;
  $("name").focus();
}
