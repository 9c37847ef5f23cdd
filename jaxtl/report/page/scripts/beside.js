// Another run beside the one shown: its maps in the rows of this one, so that an image is the same row in both.
import { data, state } from "./state.js";
import { unpacked } from "./runs.js";

const held = new Map();

/** For every row of `run` the row of the same image in `other`; null where other lacks one, or gives it another class. */
function sameImages(other, run) {
  const rows = new Uint32Array(run.n);
  for (let row = 0; row < run.n; row++) {
    const there = run.ids && other.ids ? other.rowOfId.get(run.ids[row].toLowerCase()) : other.rowOf.get(run.index[row]);
    if (there === undefined) return null;
    if (run.labelled && other.labelled && run.classes[run.labels[row]] !== other.classes[other.labels[there]]) return null;
    rows[row] = there;
  }
  return rows;
}

/** `other` as if it had the rows of `run`; null where it is of other images. */
export function alongside(other, run) {
  const key = `${data.runs.indexOf(other)} ${data.runs.indexOf(run)}`;
  if (!held.has(key)) held.set(key, inRowsOf(other, run));
  return held.get(key);
}

function inRowsOf(other, run) {
  const rows = sameImages(other, run);
  if (!rows) return null;
  const taken = (values) => values.constructor.from(rows, (row) => values[row]);
  const oneEach = Object.entries(other.measures).filter(([, values]) => values.length === other.n);
  return {
    ...run, name: other.name,
    measures: Object.fromEntries(oneEach.map(([name, values]) => [name, taken(values)])),
    maps: other.maps.map((map) => ({ ...map, x: taken(map.x), y: taken(map.y) })),
  };
}

/** [number, name] of the runs that hold the images of the one shown, and have a method in common with it. */
export function companions() {
  const { run } = state;
  return data.runs
    .map((other, k) => [k, other.name])
    .filter(([k]) => k !== state.k && alongside(unpacked(data.runs[k]), run));
}
