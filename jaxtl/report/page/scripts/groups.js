// Images in groups that have a name: by outcome, by neighbours kept, by class. A link holds the name alone.
import { state } from "./state.js";
import { rows } from "./runs.js";

// In the order of the codes of outcome_knn and outcome_probe; and the order in which a reader asks.
export const OUTCOMES = ["right", "fixed", "broken", "wrong"];
export const OUTCOME_LABELS = { fixed: "Fixed", broken: "Broken", wrong: "Still wrong", right: "Still right" };
export const CLASSIFIERS = { probe: "Probe", knn: "10-NN" };

export const classifiers = (run = state.run) => Object.keys(CLASSIFIERS).filter((kind) => run.measures[`outcome_${kind}`]);

export function withOutcome(outcome, kind) {
  const codes = state.run.measures[`outcome_${kind}`];
  const code = OUTCOMES.indexOf(outcome);
  return codes && code >= 0 ? rows().filter((row) => codes[row] === code) : [];
}

/** How many nearest neighbours `kept` is a share of. */
export function neighborCount() {
  const all = state.run.measures.neighbors_before;
  return all ? all.length / state.run.n : 10;
}

export const keptCount = (row) => Math.round(state.run.measures.kept[row] * neighborCount());

export function withKept(low, high) {
  if (!state.run.measures.kept) return [];
  return rows().filter((row) => keptCount(row) >= low && keptCount(row) <= high);
}

/** The rows of a name such as broken.knn, kept.2-4 or class.3; none where the run has no such group. */
export function rowsOf(name) {
  const [kind, of] = name.split(".");
  if (kind === "class") return rows().filter((row) => state.run.labels[row] === Number(of));
  if (kind === "kept") {
    const [low, high] = of.split("-").map(Number);
    return withKept(low, high ?? low);
  }
  return withOutcome(kind, of);
}
