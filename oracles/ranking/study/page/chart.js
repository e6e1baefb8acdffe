// Small charts: one line over rounds, with a band about it, and a few marks on the axis.

const W = 600, H = 160, LEFT = 44, TOP = 8, BOTTOM = 22;

function svg(tag, props, text = "") {
  const out = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(props)) out.setAttribute(name, value);
  out.textContent = text;
  return out;
}

/** An SVG of `y` over `x`. `marks` are the values named on the axis; `band` is a deviation to both sides. */
export function chart(label, x, y, { marks, named = String, band = y.map(() => 0) }) {
  const [low, high] = [Math.min(...marks, ...y.map((v, i) => v - band[i])), Math.max(...marks, ...y.map((v, i) => v + band[i]))];
  const right = (v) => LEFT + ((W - LEFT - 8) * (v - x[0])) / Math.max(1, x.at(-1) - x[0]);
  const up = (v) => H - BOTTOM - ((H - TOP - BOTTOM) * (v - low)) / (high - low || 1);
  const at = (values) => values.map((v, i) => `${right(x[i]).toFixed(1)} ${up(v).toFixed(1)}`);
  const edges = [...at(y.map((v, i) => v + band[i])), ...at(y.map((v, i) => v - band[i])).reverse()];
  const out = svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": label, class: "chart" });
  out.append(
    ...marks.flatMap((v) => [
      svg("line", { x1: LEFT, x2: W - 8, y1: up(v), y2: up(v) }),
      svg("text", { x: LEFT - 6, y: up(v) + 4, "text-anchor": "end" }, named(v)),
    ]),
    svg("path", { class: "band", d: `M ${edges.join(" L ")} Z` }),
    svg("path", { class: "line", d: `M ${at(y).join(" L ")}` }),
    ...[...new Set([x[0], x.at(-1)])].map((v) => svg("text", { x: right(v), y: H - 6, "text-anchor": v === x[0] ? "start" : "end" }, `round ${v}`)),
  );
  return out;
}

/** How the utility of the winners grew. */
export function likingChart({ rounds, mean, stderr }) {
  const top = Math.max(...mean.map((v, i) => v + stderr[i]), 1), step = [0.5, 1, 2, 5, 10, 20, 50, 100].find((s) => top / s < 4) || top / 3;
  const marks = Array.from({ length: Math.floor(top / step) + 1 }, (_, i) => i * step);
  const said = `Liking of the winners: ${mean.at(-1).toFixed(1)} ± ${stderr.at(-1).toFixed(1)} above the first, after round ${rounds.at(-1)}`;
  return chart(said, rounds, mean, { marks, band: stderr });
}
