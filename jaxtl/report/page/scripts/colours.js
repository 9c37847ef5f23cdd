// What colour every point has: by class, outcome, confidence, neighbours kept or trust; readable on any paper.
import { css } from "./nodes.js";
import { data, state } from "./state.js";
import { OUTCOMES, OUTCOME_LABELS } from "./groups.js";

const CONTRAST = 3.1; // WCAG 2.2, 1.4.11 asks 3 of marks
const NEUTRAL = "#80868f";
const OF_OUTCOME = { right: NEUTRAL, fixed: "#1f78c8", broken: "#d9480f", wrong: "#8a3ab0" };
// From few to many. On dark paper the far end must be the lighter one to be seen.
const SCALES = {
  light: ["#d9480f", "#c2255c", "#9c36b5", "#5f3dc4", "#1c3d9e"],
  dark: ["#f76707", "#f06595", "#cc5de8", "#9a86fb", "#9ec5fe"],
};
const SHARES = ["0 – 20 %", "20 – 40 %", "40 – 60 %", "60 – 80 %", "80 – 100 %"];

// [key, words]: a colouring is offered where the run holds what it shows.
const CHOICES = [
  ["class", "class"], ["outcome_knn", "outcome, 10-NN"], ["outcome_probe", "outcome, probe"],
  ["confidence", "confidence of the head"], ["kept", "neighbours kept, features"],
  ["kept_map", "neighbours kept, each map"], ["trust", "trust of the point, each map"],
];

const MEANINGS = {
  outcome_knn: "Right or wrong before and after, by the vote of the 10 nearest.",
  outcome_probe: "Right or wrong before and after, by a linear classifier of the features.",
  confidence: "How probable the tuned network's head holds the class that it names.",
  kept: "Of the image's 10 nearest in the features before, the share still among the 10 nearest after.",
  kept_map: "Of the dot's 10 nearest on the map before, the share still among the 10 nearest on the map after.",
  trust: "Of the dot's 10 nearest on this map, the share that is among the image's 10 nearest in the features.",
};
export const meaningOf = (key) => MEANINGS[key] ?? "";

function nameOfMeasure(key, map) {
  if (key === "trust") return `trust_${map.stage}_${map.method}`;
  if (key === "kept_map") return `kept_${map.method}`;
  return key === "confidence" ? "head_probability" : key;
}

export function colourings() {
  const { run } = state;
  return CHOICES.filter(([key]) =>
    key === "class" ? run.labelled : run.maps.some((map) => nameOfMeasure(key, map) in run.measures));
}

/** [codes, one a row; colours and names of the codes] of a map in the colouring that the reader chose. */
export function colouring(map) {
  const key = colourings().some(([own]) => own === state.colour) ? state.colour : "class";
  const token = [key, map.stage, map.method, css("--paper")].join(" ");
  if (map.coloured?.token !== token) map.coloured = { token, ...coloured(map, key) };
  return map.coloured;
}

function coloured(map, key) {
  if (key === "class") return { codes: map.run.labels, colours: shownColours(map.run), names: map.run.classes };
  const values = map.run.measures[nameOfMeasure(key, map)];
  const outcome = key.startsWith("outcome");
  const names = [...(outcome ? OUTCOMES.map((name) => OUTCOME_LABELS[name]) : SHARES), "not known"];
  const last = names.length - 1;
  const code = outcome
    ? (value) => (value < last ? value : last)
    : (value) => (value >= 0 ? Math.min(last - 1, Math.floor(value * last + 1e-6)) : last);
  const codes = Uint32Array.from({ length: map.run.n }, (_, row) => (values ? code(values[row]) : last));
  const scale = outcome ? OUTCOMES.map((name) => OF_OUTCOME[name]) : SCALES[luminance(css("--paper")) > 0.5 ? "light" : "dark"];
  return { codes, colours: readable([...scale, NEUTRAL]), names };
}

/** The order in which points are drawn: what few images have in common lies on top. */
export function drawingOrder(map, codes) {
  if (!state.colour.startsWith("outcome")) return map.run.order;
  const last = (row) => Number(codes[row] === 1 || codes[row] === 2 || codes[row] === 3);
  return [...map.run.order].sort((a, b) => last(a) - last(b));
}

const shown = new Map();
/** The colours of a run's classes, as light or as dark as the paper asks. */
export function shownColours(run = state.run) {
  const key = `${data.runs.indexOf(run)} ${css("--paper")}`;
  if (!shown.has(key)) shown.set(key, readable(run.colours));
  return shown.get(key);
}

export const opacityOf = (run) => (run.n > 20000 ? 0.75 : 0.9);

/** Of the dots beside a selection: faint, but seen. On dark paper the same share of ink is less to the eye. */
export const fadedOpacity = () => (luminance(css("--paper")) > 0.5 ? 0.12 : 0.3);

const channels = (colour) => {
  const hex = colour.length === 4 ? colour.replace(/[0-9a-f]/gi, "$&$&") : colour;
  return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
};
const mixed = (a, b, part) => a.map((value, k) => value + part * (b[k] - value));
const hex = (rgb) => `#${rgb.map((value) => Math.round(value).toString(16).padStart(2, "0")).join("")}`;

function luminance(colour) {
  const [r, g, b] = (typeof colour === "string" ? channels(colour) : colour).map((value) => {
    const part = value / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

export function contrast(a, b) {
  const [high, low] = [luminance(a), luminance(b)].sort((x, y) => y - x);
  return (high + 0.05) / (low + 0.05);
}

/** Each colour mixed with black or white until a lone, slightly transparent dot of it stands out of the paper. */
export function readable(colours, opacity = opacityOf(state.run)) {
  const paper = channels(css("--paper"));
  const end = luminance(paper) > 0.5 ? [0, 0, 0] : [255, 255, 255];
  return colours.map((colour) => {
    for (let part = 0; part < 1; part += 0.02) {
      const own = mixed(channels(colour), end, part);
      if (contrast(mixed(paper, own, opacity), paper) >= CONTRAST) return hex(own);
    }
    return hex(end);
  });
}
