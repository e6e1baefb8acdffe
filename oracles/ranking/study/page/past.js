// The person's own answers: each round can be looked at again, and an answer that counts be withdrawn.

import { button, closeDialog, dialog, make } from "./dom.js";
import { withdraw } from "./acts.js";
import { picture } from "./media.js";
import { call } from "./server.js";
import { placeNamed } from "./tray.js";

const KINDS = { rank: "your order", undecided: "cannot tell", none: "none is acceptable", skip: "skipped" };
const BECAME = {
  counts: "counts", skipped: "comes again later", withdrawn: "withdrawn",
  void: "no longer counts: an earlier answer was withdrawn",
};
const SIGNS = { audio: "♪", video: "▶", image: "", text: "¶", html: "¶" };

const ROUNDS = {
  search: (n) => `Round ${n}`, practice: (n) => `Practice ${n}`, check: (n) => `Check ${n}`, repeat: (n) => `Round ${n} again`,
  final: () => "Last question",
};

const named = (a) => ROUNDS[a.purpose](a.step + 1);
const inside = (a) => named(a).toLowerCase();

/** What became of an answer. Only rounds of the search come again; practice does not count. */
function became({ status, purpose }) {
  if (status === "counts" && purpose === "practice") return "for practice";
  return status === "skipped" && purpose !== "search" ? "not asked again" : BECAME[status];
}
const told = (a) => `${named(a)}: ${KINDS[a.kind]}`;

function back(a) {
  const out = button("Withdraw", `Withdraw the answer to ${inside(a)}`, () => {
    closeDialog();
    withdraw(a.answer);
  });
  out.hidden = !a.open;
  return out;
}

export async function showPast() {
  const reply = await call("api/history");
  if (reply.status !== 200) return fails(reply);
  const items = reply.answers.map((a) => make("li", { className: a.status },
    a.best && a.best.kind === "image" ? make("img", { src: a.best.url, alt: "" })
      : make("span", { className: "sign", textContent: SIGNS[a.best?.kind] || "–", ariaHidden: "true" }),
    make("span", {}, make("b", { textContent: told(a) }), make("br"), make("span", { className: "muted", textContent: became(a) })),
    button("Look", `Look at ${inside(a)}`, () => showOne(a.answer)), back(a)));
  const none = make("p", { textContent: "You have not answered yet." });
  dialog("Your answers", [items.length ? make("ol", { className: "answers", reversed: true }, ...items) : none]);
}

async function showOne(number) {
  const a = await call(`api/history/${number}`);
  if (a.status === 403 || a.candidates === undefined) return fails(a);
  const place = (c) => a.groups.flat().indexOf(c.id);
  const order = a.candidates.map((c, i) => [c, `Candidate ${i + 1}`]).filter(([c]) => c)
    .sort(([c], [d]) => (place(c) < 0 ? Infinity : place(c)) - (place(d) < 0 ? Infinity : place(d)) || 0);
  const figures = order.map(([c, name]) => make("figure", {}, picture(c, name, true),
    make("figcaption", {}, make("b", { textContent: a.kind === "rank" ? placeNamed(a.groups, c.id) : "" }), ` ${name}`)));
  const row = make("div", { className: "buttons" }, button("Back to your answers", "", showPast), back(a));
  dialog(`${told(a)} (${became(a)})`, [row, make("div", { className: "figures" }, ...figures)]);
}

const fails = (reply) => dialog("Your answers", [make("p", { textContent: reply.error || "The server cannot be reached." })]);
