// The differences of two texts, word by word: the shortest list of changes (Myers 1986, the greedy algorithm).

const MOST = 4000; // changes looked for; memory and time grow with its square

/**
 * Pieces of the left and of the right text, each { text, own }: `own` marks what the other text does not have.
 * null: there are more than `MOST` changes.
 */
export function diff(left, right) {
  const a = left.split(/(\s+)/), b = right.split(/(\s+)/);
  const trace = traced(a, b);
  if (trace === null) return null;
  const pairs = [[], []];
  let x = a.length, y = b.length;
  for (let d = trace.length - 1; d >= 0; d--) {
    const [fromX, fromY] = d === 0 ? [0, 0] : before(trace[d - 1], x - y, d);
    while (x > fromX && y > fromY) {
      pairs[0].push({ text: a[--x], own: false });
      pairs[1].push({ text: b[--y], own: false });
    }
    if (x > fromX) pairs[0].push({ text: a[--x], own: true });
    if (y > fromY) pairs[1].push({ text: b[--y], own: true });
  }
  return pairs.map((side) => side.reverse());
}

/** For each number of changes d, how far along each diagonal k = x - y one gets: entry (k + d) / 2. */
function traced(a, b) {
  const trace = [];
  for (let d = 0; d <= MOST; d++) {
    const reach = new Int32Array(d + 1);
    for (let k = -d; k <= d; k += 2) {
      let [x, y] = d === 0 ? [0, 0] : start(trace[d - 1], k, d);
      while (x < a.length && y < b.length && a[x] === b[y]) { x++; y++; }
      reach[(k + d) / 2] = x;
      if (x >= a.length && y >= b.length) return [...trace, reach];
    }
    trace.push(reach);
  }
  return null;
}

const at = (reach, k, d) => reach[(k + d - 1) / 2]; // of the step d - 1, on the diagonal k

/** Whether the best way to diagonal k with d changes takes a word of the right text last. */
const down = (reach, k, d) => k === -d || (k !== d && at(reach, k - 1, d) < at(reach, k + 1, d));

function start(reach, k, d) {
  const x = down(reach, k, d) ? at(reach, k + 1, d) : at(reach, k - 1, d) + 1;
  return [x, x - k];
}

function before(reach, k, d) {
  const from = down(reach, k, d) ? k + 1 : k - 1;
  return [at(reach, from, d), at(reach, from, d) - from];
}
