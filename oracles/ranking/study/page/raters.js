// The table of raters, and their links.

import { $, ask, button, make, redraw } from "./dom.js";

function ago(seconds) {
  if (seconds === null) return "never";
  if (seconds < 10) return "here";
  if (seconds < 120) return `${Math.round(seconds)} s ago`;
  return seconds < 7200 ? `${Math.round(seconds / 60)} min ago` : `${Math.round(seconds / 3600)} h ago`;
}

const LINKS = { open: "not opened yet", revoked: "revoked" };

/** Each column: what it says of a rater, null for nothing; one that says nothing of anybody is left out. */
const COLUMNS = {
  rater: (r) => r.name,
  page: (r) => LINKS[r.link] || (r.enough ? "has answered all" : ago(r.seen)),
  answers: (r) => r.counts,
  skipped: (r) => r.skipped || null,
  withdrawn: (r) => r.withdrawn || null,
  void: (r) => r.void || null,
  weight: (r) => r.weight?.toFixed(2) ?? null,
  "checks passed": (r) => (r.checks?.[1] ? r.checks.join(" of ") : null),
  "retest τ (n)": (r) => (r.retest ? `${r.retest.tau.toFixed(2)} (${r.retest.n})` : null),
};

/** Show them; `act` posts what the researcher wants. */
export function showRaters(raters, act) {
  const table = $("raters"), said = Object.entries(COLUMNS).map(([name, of]) => [name, raters.map(of)]);
  const columns = said.filter(([, told]) => told.some((text) => text !== null));
  const number = (name) => (name === "rater" || name === "page" ? "" : "number");
  const focused = table.contains(document.activeElement) && document.activeElement.getAttribute("aria-label");
  const rows = raters.map((rater, i) => make("tr", {}, ...columns.map(([name, told]) => {
    const out = make("td", { textContent: told[i] ?? "–", className: number(name), dir: "auto" });
    out.dataset.label = name;
    return out;
  }), make("td", { className: "acts" }, ...links(rater, act))));
  const head = columns.map(([name]) => make("th", { textContent: name, scope: "col", className: number(name) }));
  redraw(table, raters.length ? [make("tr", {}, ...head, make("td")), ...rows] : []);
  if (focused) [...table.querySelectorAll("button")].find((b) => b.getAttribute("aria-label") === focused)?.focus();
}

function links(rater, act) {
  const renew = button("New link", `New link for ${rater.name}; the old one ends`, async () => {
    if (rater.link !== "used" || await ask(`A new link ends the page that ${rater.name} has open. Make it?`, "New link", "Cancel"))
      showLink(await act("renew", { rater: rater.id }, "The new link is below."));
  });
  const revoke = button("Revoke", `Revoke the link of ${rater.name}`, async () => {
    if (await ask(`${rater.name} will not be able to answer any more. The answers so far stay.`, "Revoke", "Cancel"))
      act("revoke", { rater: rater.id }, `${rater.name} is shut out.`);
  });
  return rater.link === "revoked" ? [renew] : [renew, revoke];
}

export function showLink(reply) {
  if (!reply.link) return;
  $("link").hidden = false;
  const copy = button("Copy", "Copy the link", () => navigator.clipboard?.writeText(reply.link));
  $("link").replaceChildren("Give this link to the rater; it works once: ", make("code", { textContent: reply.link }), " ", copy);
}
