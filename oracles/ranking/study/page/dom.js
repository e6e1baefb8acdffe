// Helpers over the document: elements, words, the line of status, and the two dialogs.

export const $ = (id) => document.getElementById(id);

export const meta = (name) => document.querySelector(`meta[name=${name}]`).content;

export function make(tag, props = {}, ...inside) {
  const element = Object.assign(document.createElement(tag), props);
  element.append(...inside);
  return element;
}

/** Replace what is inside only where it differs, so that nothing flickers or is read out again. */
export function redraw(element, inside) {
  const next = make("div", {}, ...inside);
  if (next.innerHTML !== element.innerHTML) element.replaceChildren(...next.childNodes);
}

/** A small button with a name for those who cannot see it. */
export function button(text, label, act) {
  const out = make("button", { type: "button", className: "small", textContent: text });
  if (label) out.setAttribute("aria-label", label);
  out.addEventListener("click", act);
  return out;
}

/** 1st, 2nd, 3rd, 4th, 11th, 21st. */
export function ordinal(n) {
  const teen = n % 100 > 10 && n % 100 < 14;
  return `${n}${(!teen && ["th", "st", "nd", "rd"][n % 10]) || "th"}`;
}

export const newId = () =>
  [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, "0")).join("");

export const pause = (ms) => new Promise((done) => setTimeout(done, ms));

export const rightToLeft = () => getComputedStyle(document.documentElement).direction === "rtl";

export function say(text, bad = false) {
  $("status").textContent = text;
  $("status").classList.toggle("bad", bad);
}

// ---------------------------------------------------------------------------------------------------- dialogs

let about = null; // the round that the dialog is about; null: none in particular

/** Show a dialog; one about a round closes when that round is over. */
export function dialog(title, inside, round = null) {
  about = round;
  $("dialog-title").textContent = title;
  $("dialog-body").replaceChildren(...inside);
  if (!$("dialog").open) $("dialog").showModal();
  $("dialog-body").scrollTop = 0;
}

export const closeDialog = () => $("dialog").open && $("dialog").close();

export const closeAbout = (round) => about !== null && about !== round && closeDialog();

/** Ask a question; whether the answer is yes. */
export function ask(question, yes, no) {
  const box = $("ask");
  if (box.open) return Promise.resolve(false);
  $("ask-text").textContent = question;
  $("ask-yes").textContent = yes;
  $("ask-no").textContent = no;
  box.returnValue = "";
  box.showModal();
  return new Promise((done) => {
    const closed = () => {
      if (box.open) return; // this tells of the question before
      box.removeEventListener("close", closed);
      done(box.returnValue === "yes");
    };
    box.addEventListener("close", closed);
  });
}

export const asking = () => $("dialog").open || $("ask").open;

export function startAsking() {
  $("ask-yes").addEventListener("click", () => $("ask").close("yes"));
  $("ask-no").addEventListener("click", () => $("ask").close());
}

export function startDialogs() {
  startAsking();
  $("dialog-close").addEventListener("click", closeDialog);
  $("dialog").addEventListener("close", () => {
    if ($("dialog").open) return; // it has opened anew meanwhile
    about = null;
    $("dialog-body").replaceChildren(); // what plays in it stops
  });
}
