// What fine-tuning changed: groups of images by outcome, how many neighbours they kept, pictures of those that matter.
import { button, choice, el, images, number, press, refill } from "./nodes.js";
import { data, listen, state } from "./state.js";
import { clear, pin, select } from "./actions.js";
import { className, namedBy, nameOf, rows } from "./runs.js";
import { CLASSIFIERS, OUTCOME_LABELS, classifiers, keptCount, neighborCount, withKept, withOutcome } from "./groups.js";
import { toTheMaps } from "./arrival.js";
import { facts } from "./panel.js";
import { thumb, thumbButton } from "./thumbnails.js";

const SHOWN = 24; // pictures of a gallery
let kind = "probe"; // of the classifiers: the one that the page's text begins with
let host = null;

/** The same again takes the selection back. */
function choose(wanted, name) {
  if (state.chosen === name) clear();
  else select(wanted, name);
}

/** A group that is selected stays so by its meaning: it becomes that of the other classifier. */
function chooseClassifier(own) {
  const [outcome, of] = state.chosen.split(".");
  kind = own;
  const held = of in CLASSIFIERS ? withOutcome(outcome, kind) : [];
  if (held.length) select(held, `${outcome}.${kind}`);
  else if (of in CLASSIFIERS) clear();
  else show();
}

function groups() {
  const buttons = Object.entries(OUTCOME_LABELS).map(([outcome, text]) => {
    const held = withOutcome(outcome, kind);
    const name = `${outcome}.${kind}`;
    return el("button", {
      type: "button", className: `group ${outcome}`, "aria-pressed": String(state.chosen === name),
      dataset: { group: outcome }, disabled: !held.length, onclick: () => choose(held, name),
      title: "Select these images in all maps",
    }, el("b", {}, number(held.length)), ` ${text.toLowerCase()}`);
  });
  const offered = classifiers().map((own) => [own, CLASSIFIERS[own]]);
  return el("div", { className: "groups" },
    offered.length > 1 ? choice("Classifier", offered, kind, chooseClassifier, "classifier") : null,
    el("div", { className: "group-buttons", role: "group", "aria-label": `Images by outcome, ${CLASSIFIERS[kind]}` }, ...buttons));
}

/** A bar for every number of neighbours kept. A click selects its images, dragging those of several bars. */
function histogram() {
  const k = neighborCount();
  const counts = new Array(k + 1).fill(0);
  rows().forEach((row) => counts[Math.min(k, keptCount(row))]++);
  const most = Math.max(...counts);
  const [low, high] = state.chosen.startsWith("kept.") ? state.chosen.slice(5).split("-").map(Number) : [-1, -2];
  let began = -1;
  const bars = counts.map((count, at) => el("button", {
    type: "button", className: "bar-of", dataset: { kept: at }, "aria-pressed": String(at >= low && at <= high),
    "aria-label": `${at} of ${k} kept: ${images(count)}`, title: `${at} of ${k} kept: ${images(count)}`,
    onpointerdown: (event) => { began = at; event.target.releasePointerCapture?.(event.pointerId); },
    onpointerup: () => {
      if (began < 0 || began === at) return;
      const [from, to] = [Math.min(began, at), Math.max(began, at)];
      began = -1;
      select(withKept(from, to), `kept.${from}-${to}`);
    },
    onclick: (event) => {
      const from = event.shiftKey && low >= 0 ? Math.min(low, at) : at;
      const to = event.shiftKey && low >= 0 ? Math.max(high, at) : at;
      choose(withKept(from, to), `kept.${from}-${to}`);
    },
  }, el("b", {}, number(count)), el("i", { style: { "--share": count / most } }), el("span", {}, at)));
  const mean = rows().reduce((sum, row) => sum + keptCount(row), 0) / state.run.n;
  return el("figure", { className: "kept-histogram" },
    el("figcaption", {}, "Neighbours kept", el("small", {}, `of the ${k} nearest before, still among the ${k} nearest after; mean ${mean.toFixed(1)}`)),
    el("div", { className: "bars", role: "group", "aria-label": `Images by neighbours kept, of ${k}` }, ...bars),
    el("p", { className: "quiet" }, `${press()} a bar to select its images in all maps; drag across bars to select several. `
      + "Above each bar: how many images."));
}

/** What a picture of a gallery is, beside it: the maps, far below, show it too. */
function showCard(row, beside) {
  host.querySelectorAll(".card").forEach((card) => card.remove());
  const card = el("div", { className: "card", dataset: { row }, role: "group", "aria-label": `Image ${state.run.index[row]}` },
    el("p", {}, el("b", {}, `Image ${state.run.index[row]}`), button("Close", () => pin(-1), { dataset: { act: "close-card" } })),
    state.run.ids ? el("p", { className: "quiet name" }, nameOf(row)) : null,
    el("div", { className: "seen" }, thumb(row, 72), facts(row)),
    button("See it on the maps", toTheMaps, { dataset: { act: "card-maps" } }));
  beside.closest(".gallery").append(card);
  card.scrollIntoView({ block: "nearest" });
}

function closeCard() {
  for (const card of host?.querySelectorAll(".card") ?? []) {
    if (Number(card.dataset.row) !== state.pinned) card.remove();
  }
}

function gallery(title, held, captionOf, name, meaning) {
  if (!held.length) return null;
  const shown = held.slice(0, SHOWN);
  const many = held.length > SHOWN ? `the first ${SHOWN} of ${number(held.length)}` : images(held.length);
  return el("div", { className: "gallery", dataset: { gallery: name } },
    el("h3", {}, title, " ", el("small", {}, many)),
    meaning ? el("p", { className: "quiet" }, meaning) : null,
    el("div", { className: "thumbs" },
      ...shown.map((row) => thumbButton(row, { caption: captionOf(row), after: showCard }))));
}

let drawn = { of: "", nodes: [] };
function galleries() {
  const of = `${state.k} ${kind}`;
  if (drawn.of !== of) drawn = { of, nodes: newGalleries() };
  return drawn.nodes;
}

function newGalleries() {
  const { measures } = state.run;
  const said = namedBy(kind, "after");
  const sure = (row) => measures.head_probability?.[row] ?? 0;
  const broken = classifiers().length ? withOutcome("broken", kind).sort((a, b) => sure(b) - sure(a)) : [];
  const moved = measures.moved ? rows().sort((a, b) => measures.moved[b] - measures.moved[a]).slice(0, SHOWN) : [];
  const turned = (row) => (said && said[row] >= 0 ? `${className(state.run.labels[row])} → ${className(said[row])}` : className(state.run.labels[row]));
  return [
    gallery(`Broken: right before, wrong after (${CLASSIFIERS[kind]})`, broken, turned, "broken"),
    gallery("Moved most, relative to their neighbours", moved, (row) => measures.moved[row].toFixed(2), "moved",
      `The number: ${data.meanings.moved[0].toLowerCase()}${data.meanings.moved.slice(1)}`),
  ];
}

function selected() {
  if (!state.selection.length) return null;
  return el("p", { className: "to-maps" }, `${images(state.selection.length)} selected. `,
    button("See them on the maps", toTheMaps, { dataset: { act: "maps" } }));
}

function show() {
  if (!host) return;
  const offered = classifiers();
  if (!offered.includes(kind)) kind = offered[0] ?? "knn";
  const parts = [
    offered.length ? groups() : null,
    state.run.measures.kept ? histogram() : null,
    selected(),
    ...galleries(),
  ].filter(Boolean);
  host.hidden = !parts.length;
  refill(host, el("div", {}, ...parts)); // in one: the page sets the width of what is here
}

export function startChange() {
  listen("run", () => {
    const hosts = [...document.querySelectorAll("[id^=change-tools]")];
    hosts.forEach((other) => other.replaceChildren());
    host = hosts.find((own) => Number(own.dataset.run ?? state.k) === state.k) ?? null;
    show();
  });
  listen("selection", show);
  listen("point", closeCard);
}
