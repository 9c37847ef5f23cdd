// The image that a reader points at: in the panel beside the maps, and at the pointer.
import { $, button, el, touched } from "./nodes.js";
import { active, changed, data, listen, state } from "./state.js";
import { pin } from "./actions.js";
import { className, neighborsOf, predictions, voters } from "./runs.js";
import { OUTCOMES } from "./groups.js";
import { place } from "./views.js";
import { thumb, thumbButton } from "./thumbnails.js";

/** Of an image its class, what classifiers make of it, how far it moved. */
export function facts(row) {
  const { run } = state;
  const list = el("dl", {});
  const add = (name, value, wrong, title = "") =>
    list.append(el("dt", { title }, name), el("dd", { className: wrong ? "wrong" : "" }, value + (wrong ? " ✗" : "")));
  if (run.labelled) add("class", className(run.labels[row]));
  for (const [when, what, right] of predictions(row)) add(when, what, run.labelled && !right, when.includes("10-NN") ? voters() : "");
  const { moved } = run.measures;
  if (moved) add("moved", moved[row].toFixed(2), false, data.meanings.moved);
  for (const [name, of] of [["10-NN", "outcome_knn"], ["probe", "outcome_probe"]]) {
    const outcome = OUTCOMES[run.measures[of]?.[row]];
    if (outcome === "fixed" || outcome === "broken") add(`by ${name}`, outcome);
  }
  return list;
}

/** The nearest images at both stages, those that are there at both marked. */
function neighborRows(row) {
  const stages = ["before", "after"];
  const lists = stages.map((stage) => neighborsOf(row, stage));
  const both = lists.every(Boolean) ? new Set([...lists[0]].filter((other) => lists[1].includes(other))) : null;
  const parts = [];
  stages.forEach((stage, s) => {
    if (!lists[s]) return;
    parts.push(el("p", { className: "row-title" }, `Nearest in the features ${stage}`));
    parts.push(el("div", { className: "thumbs", dataset: { stage } }, ...Array.from(lists[s], (other) =>
      thumbButton(other, { reference: state.run.labels[row], kept: both?.has(other) }))));
  });
  if (both) {
    parts.unshift(el("p", { className: "kept-count" }, el("b", {}, `${both.size} of ${lists[0].length} kept`),
      both.size ? ": underlined below" : ""));
  }
  return parts;
}

/** On small screens the panel covers a part of the maps: folded it is one line. */
export function fold(folded) {
  $("panel").classList.toggle("folded", folded);
  const switched = document.querySelector("[data-act=fold]");
  if (!switched) return;
  switched.textContent = folded ? "Show" : "Close";
  switched.setAttribute("aria-expanded", String(!folded));
}

function showPoint() {
  const row = active();
  const host = $("point");
  $("panel").classList.toggle("empty", row < 0 && !state.selection.length);
  host.dataset.row = row < 0 ? "" : row;
  if (row >= 0) fold(false);
  if (row < 0) {
    const invited = `${touched.matches ? "Tap" : "Point at"} a dot.`;
    host.replaceChildren(el("h3", {}, "Image"), el("p", { className: "quiet" }, invited));
    return;
  }
  // A path may be long: it breaks anywhere.
  const name = state.run.ids && el("p", { className: "quiet name" }, state.run.ids[row]);
  host.replaceChildren(...[
    el("h3", {}, `Image ${state.run.index[row]}`,
      state.pinned >= 0 ? button("Close", () => pin(-1), { dataset: { act: "close" } }) : null), name,
    el("div", { className: "seen" }, thumb(row, 72), facts(row)), ...neighborRows(row),
  ].filter(Boolean));
}

/** Beside the pointer, so that eyes need not leave the map. */
function showTip() {
  for (const map of state.maps) map.tip.hidden = true;
  if (state.morph) state.morph.tip.hidden = true;
  const map = state.pointed;
  if (state.hover < 0 || !map) return;
  const row = state.hover;
  const named = state.run.ids ? state.run.ids[row].split("/").pop() : `Image ${state.run.index[row]}`;
  const wrong = predictions(row).filter(([, , right]) => state.run.labelled && !right).map(([who, what]) => `${who}: ${what} ✗`);
  const lines = [named, state.run.labelled ? className(state.run.labels[row]) : null, ...wrong].filter(Boolean);
  map.tip.replaceChildren(...[thumb(row, 48), el("span", {}, ...lines.map((line) => el("span", {}, line)))].filter(Boolean));
  map.tip.hidden = false;
  const side = map.frame.clientWidth;
  const [x, y] = place(map, map.x[row], map.y[row]);
  const [width, height] = [map.tip.offsetWidth, map.tip.offsetHeight];
  const left = x + 14 + width > side ? x - 14 - width : x + 14;
  map.tip.style.left = `${Math.max(2, Math.min(side - width - 2, left))}px`;
  map.tip.style.top = `${Math.max(2, Math.min(side - height - 2, y - height / 2))}px`;
}

/** What a finger does is said to those who have no pointer. */
function showManual() {
  const summary = document.querySelector("#maps .howto summary");
  if (!summary || !touched.matches) return;
  summary.textContent = "Every dot is one image, the same one in all maps. Tap it to see it; "
    + "with “Drag to draw a lasso” a finger selects many. More …";
  summary.nextElementSibling.textContent = "A finger scrolls the page, two fingers enlarge it. While “Drag to draw a lasso” "
    + "is on, a finger on a map draws around dots to select them, and the page scrolls beside the maps only. "
    + "A tap on a class hides or shows it, a double tap shows it alone.";
  document.querySelector("[data-drag=panZoom]").textContent = "Drag to scroll";
}

export function startPanel() {
  showManual();
  listen("point selection run", showPoint);
  listen("point run", showTip);
  touched.addEventListener("change", () => changed("point"));
}
