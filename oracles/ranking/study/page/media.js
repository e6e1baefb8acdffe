// What a candidate looks or sounds like.

import { make } from "./dom.js";

const SHORT = 24; // letters that are shown large

const still = matchMedia("(prefers-reduced-motion: reduce)");

/** A candidate's picture, film, sound, page or text; a large one has controls. */
export function picture(c, name, large = false) {
  if (c.kind === "image") return make("img", { src: c.url, alt: name, draggable: false });
  if (c.kind === "video") {
    const film = { src: c.url, loop: true, muted: true, autoplay: !still.matches, controls: large, playsInline: true };
    const out = make("video", film);
    out.setAttribute("aria-label", name);
    return out;
  }
  if (c.kind === "audio" && large) return sound(c, name);
  if (c.kind === "audio") return make("span", { className: "sound", textContent: "♪" });
  if (c.kind === "html") {
    const frame = make("iframe", { src: c.url, title: name, tabIndex: -1 });
    frame.setAttribute("sandbox", "");
    return frame;
  }
  return make("span", { className: c.text.length > SHORT ? "text" : "text short", textContent: c.text, dir: "auto" });
}

export function sound(c, name) {
  const out = make("audio", { src: c.url, controls: true, preload: "auto" });
  out.setAttribute("aria-label", name);
  return out;
}

/** Play or pause what a card or dialog holds. */
export function play(inside) {
  const media = inside?.querySelector("audio, video");
  if (!media) return;
  if (media.paused) {
    silence(media);
    media.play().catch(() => {}); // its own controls say why
  } else {
    media.pause();
  }
}

const silence = (but) => {
  for (const other of document.querySelectorAll("audio, video")) if (other !== but && !other.muted) other.pause();
};

/** Whoever starts to sound silences who sounded before; not one that started since, whose event is yet to come. */
export function startSounds() {
  let sounding = null;
  const one = (e) => {
    if (e.target.muted || e.target.paused) return;
    if (sounding && sounding !== e.target && !sounding.muted) sounding.pause();
    sounding = e.target;
  };
  for (const event of ["play", "volumechange"]) document.addEventListener(event, one, true);
}
