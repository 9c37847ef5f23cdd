// A run's arrays, unpacked when it is first shown, and what its images are called.
import { state } from "./state.js";

const TYPES = { u1: Uint8Array, i1: Int8Array, u2: Uint16Array, i2: Int16Array, i4: Int32Array, f4: Float32Array };
const STEPS = 250, UNKNOWN = 255; // of shares, as payload.py packs them

export function unpack(text, Type) {
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let k = 0; k < raw.length; k++) bytes[k] = raw.charCodeAt(k);
  // Little-endian, as all browsers' machines are.
  return new Type(bytes.buffer);
}

export function unpacked(packed) {
  if (packed.ready) return packed;
  packed.labels = unpack(packed.labels, Uint32Array);
  packed.index = unpack(packed.index, Uint32Array);
  packed.rowOf = new Map(Array.from(packed.index, (value, row) => [value, row]));
  // What a reader may type: the whole name, or its last part, where only one image has that.
  packed.rowOfId = namesOf(packed.ids ?? []);
  packed.counts = new Array(packed.classes.length).fill(0);
  for (const label of packed.labels) packed.counts[label]++;
  for (const name of Object.keys(packed.measures)) {
    packed.measures[name] = measure(...packed.measures[name]);
  }
  for (const map of packed.maps) {
    const flat = unpack(map.coords, Float32Array);
    map.x = Float32Array.from({ length: packed.n }, (_, row) => flat[2 * row]);
    map.y = Float32Array.from({ length: packed.n }, (_, row) => flat[2 * row + 1]);
    delete map.coords;
  }
  // A fixed shuffle: in the order of the classes the last one would hide the others.
  packed.order = shuffled(packed.n);
  packed.ready = true;
  return packed;
}

function measure(kind, text) {
  if (kind !== "share") return unpack(text, TYPES[kind]);
  return Float32Array.from(unpack(text, Uint8Array), (steps) => (steps === UNKNOWN ? NaN : steps / STEPS));
}

function namesOf(ids) {
  const rows = new Map();
  ids.forEach((id, row) => {
    const last = id.slice(id.lastIndexOf("/") + 1).toLowerCase();
    rows.set(last, rows.has(last) ? undefined : row);
  });
  ids.forEach((id, row) => rows.set(id.toLowerCase(), row));
  return rows;
}

function shuffled(n) {
  const order = Array.from({ length: n }, (_, k) => k);
  let seed = 1;
  for (let k = n - 1; k > 0; k--) {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    const other = Math.floor((seed / 4294967296) * (k + 1));
    [order[k], order[other]] = [order[other], order[k]];
  }
  return order;
}

export const className = (k) => (k >= 0 && k < state.run.classes.length ? state.run.classes[k] : "?");
// What an image is called, and its class where that is known.
export const nameOf = (row) => (state.run.ids ? state.run.ids[row] : `image ${state.run.index[row]}`);
export const withClass = (row) => nameOf(row) + (state.run.labelled ? `, ${className(state.run.labels[row])}` : "");
export const rows = () => Array.from({ length: state.run.n }, (_, row) => row);

export function neighborsOf(row, stage) {
  const all = state.run.measures[`neighbors_${stage}`];
  if (!all) return null;
  const k = all.length / state.run.n;
  return all.subarray(row * k, (row + 1) * k);
}

/** Whether the 10 nearest that vote are training images, as for the groups; else they are the other images. */
export const votesOfTraining = ({ measures } = state.run) =>
  Boolean(measures.knn_training_before && measures.knn_training_after);

export const voters = () =>
  (votesOfTraining() ? "Vote of the 10 nearest training images" : "Vote of the 10 nearest other images, leave one out");

/** The class that a classifier, knn or probe, names for each image; undefined where the run does not hold it. */
export function namedBy(kind, stage) {
  const of = kind === "knn" && votesOfTraining() ? "knn_training" : kind;
  return state.run.measures[`${of}_${stage}`];
}

/** [when and who, class named, whether that is right] for every classifier that the run holds. */
export function predictions(row) {
  const { head_after: head, head_probability: probability } = state.run.measures;
  const label = state.run.labels[row];
  const told = [];
  const add = (who, classes, more = "") =>
    classes && classes[row] >= 0 && told.push([who, className(classes[row]) + more, classes[row] === label]);
  for (const [kind, name] of [["knn", "10-NN"], ["probe", "probe"]]) {
    for (const stage of ["before", "after"]) add(`${stage}, ${name}`, namedBy(kind, stage));
  }
  add("after, head", head, probability ? ` (${(100 * probability[row]).toFixed(0)}\u00a0%)` : "");
  return told;
}

export function described(row) {
  const run = state.run;
  const said = predictions(row).map(([when, what]) => `${when}: ${what}`).join(", ");
  const which = run.labelled ? `, class ${className(run.labels[row])}` : "";
  return `Image ${run.index[row]}${run.ids ? `, ${run.ids[row]}` : ""}${which}${said ? `, ${said}` : ""}`;
}

export const methodsOf = (run) => [...new Set(run.maps.map((map) => map.method))];
export const pair = (method, run = state.run) =>
  ["before", "after"].map((stage) => run.maps.find((map) => map.method === method && map.stage === stage));
export const paired = () => methodsOf(state.run).filter((method) => pair(method).every(Boolean));
