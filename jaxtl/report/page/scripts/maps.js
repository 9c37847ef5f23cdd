// The maps' nodes: pictures until they are drawn, for paper, and in browsers that have no WebGL.
import { $, css, el, number } from "./nodes.js";
import { data, every, listen, state, visible } from "./state.js";
import { step } from "./actions.js";
import { methodsOf, unpacked } from "./runs.js";
import { colouring, drawingOrder } from "./colours.js";
import { drawNames, overlays } from "./overlay.js";
import { zoomBy, zoomOut } from "./views.js";
import { alongside } from "./beside.js";
import { takeLasso } from "./lasso.js";
import { takePointer } from "./pointing.js";
import { fitRenderer } from "./renderer.js";
import { forget, pictured, pointSize, start, startAll, startRest, startSeen, startWhenNear } from "./plots.js";

// The pictures of the page as it came, by run, stage and method.
const pictures = new Map();

function takePictures() {
  for (const picture of document.querySelectorAll("#grid [data-picture]")) {
    const key = `${picture.closest("[data-run]").dataset.run} ${picture.dataset.picture}`;
    const svg = picture.querySelector("svg");
    svg.querySelectorAll("text").forEach((name) => name.remove()); // names are drawn over the dots
    svg.setAttribute("class", "picture");
    svg.setAttribute("aria-hidden", "true");
    pictures.set(key, svg);
  }
}

const pictureOf = ({ stage, method }) => (pictured() ? pictures.get(`${state.k} ${stage} ${method}`) : null);

/** A map's nodes within `host`; `spec` has x, y, title, stage, method and run, and its picture where there is one. */
export function makeMap(spec, host, notes = []) {
  const frame = el("div", { className: "frame", tabIndex: 0, role: "application",
    "aria-label": `${spec.title}: arrow keys step through the images, Esc clears` });
  const [canvas, over, still] = ["live", "over", "still"].map((className) => el("canvas", { className }));
  const tip = el("div", { className: "tip", "aria-hidden": "true", hidden: true });
  frame.append(...[spec.picture, canvas, over, still, tip].filter(Boolean));
  const figure = el("figure", { className: "map" }, el("figcaption", {}, spec.title, ...notes), frame);
  host.append(figure);
  const map = { ...spec, figure, frame, canvas, over, still, tip, plot: null, spots: null, thumbs: 0 };
  map.live = new Promise((done) => { map.whenLive = done; }); // once it is drawn, or cannot be
  frame.addEventListener("keydown", (event) => onKey(event, map));
  takeLasso(map);
  takePointer(map);
  frame.addEventListener("pointerenter", () => { state.pointed = map; });
  // A wheel over six maps would never scroll the page.
  frame.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) event.stopPropagation();
  }, { capture: true, passive: true });
  return map;
}

function onKey(event, map) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const zoom = { "+": 1 / 1.5, "=": 1 / 1.5, "-": 1.5 }[event.key];
  const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, PageDown: 10, PageUp: -10 }[event.key];
  if (by) step(by);
  else if (zoom) start(map).then(() => zoomBy(map, zoom));
  else if (event.key === "0") start(map).then(() => zoomOut(map));
  else return;
  event.preventDefault();
}

// A still picture without WebGL: for paper, and for browsers that have none.
function drawStill(map, ink, halo) {
  const side = 720;
  map.still.width = map.still.height = side;
  const context = map.still.getContext("2d");
  const radius = Math.max(0.8, pointSize(map.run.n, 360) * 0.9);
  const { codes, colours } = colouring(map);
  context.globalAlpha = 0.8;
  for (const row of drawingOrder(map, codes)) {
    if (!visible(row)) continue;
    context.fillStyle = colours[codes[row]];
    context.beginPath();
    context.arc((side * (map.x[row] + 1)) / 2, (side * (1 - map.y[row])) / 2, radius, 0, 2 * Math.PI);
    context.fill();
  }
  context.globalAlpha = 1;
  context.scale(2, 2);
  // The whole map, however far the reader has zoomed.
  drawNames(context, { ...map, plot: null, frame: { clientWidth: side / 2 } }, side / 2, ink, halo);
}

export function drawStills(ink = css("--ink"), halo = css("--halo")) {
  for (const map of state.maps) drawStill(map, ink, halo);
}

/** After the page or what it shows has changed its size. */
export function refit() {
  fitRenderer();
  for (const map of every()) {
    const side = map.frame.clientWidth;
    if (!side) continue;
    map.plot?.set({ pointSize: pointSize(map.run.n, side) });
    map.plot?.redraw();
  }
  overlays();
}

const small = (text, title) => (text ? el("small", { title }, text) : null);

function notesOn(map, run) {
  const outside = map.outside ? `${number(map.outside)} outside the view` : "";
  const score = map.accuracy === null ? "" : `10 nearest on this map ${map.accuracy.toFixed(3)}`;
  return [
    small(score, "Share of images whose class the 10 nearest dots on this map name by vote, the image itself left out"),
    small(outside, "The view is fitted to the middle 99 % of either axis; “Show all points” shows the rest too"),
  ].filter(Boolean);
}

/** The maps of the run, or of one method those of two runs: their nodes, in place. */
export function placeMaps() {
  const { run } = state;
  const methods = methodsOf(run);
  const stages = [...new Set(run.maps.map((map) => map.stage))];
  const other = state.beside < 0 ? null : alongside(unpacked(data.runs[state.beside]), run);
  const shown = other ? [run, other] : [run];
  const grid = $("grid");
  state.maps.forEach(forget);
  grid.replaceChildren();
  state.maps = shown.flatMap((own) => own.maps
    .filter((map) => !other || map.method === state.method)
    .map((map) => {
      const title = `${map.name} ${map.stage}${other ? ` · ${own.name}` : ""}`;
      const { x, y, stage, method } = map;
      const made = makeMap({ x, y, stage, method, run: own, title, picture: pictureOf(map) }, grid, notesOn(map, own));
      made.figure.style.setProperty("--pair", methods.indexOf(map.method) * 2 + stages.indexOf(map.stage));
      return made;
    }));
  grid.style.setProperty("--stages", stages.length);
  showMethod();
  if (state.renderer === null) drawStills();
  state.maps.forEach(startWhenNear);
}

/** Draws those that are on the screen, or all where pictures do not show what is chosen. */
export const drawMaps = () => (pictured() ? startSeen() : startAll());

/** All methods, or one of them in larger maps. Of one method the stages stand side by side. */
function showMethod() {
  const one = state.method && methodsOf(state.run).includes(state.method);
  for (const map of state.maps) map.figure.hidden = Boolean(one && map.method !== state.method);
  const columns = one ? 2 : Math.max(methodsOf(state.run).length, 2);
  $("grid").style.setProperty("--methods", columns);
  $("grid").classList.toggle("one", Boolean(one));
}

// A map's size changes with the window, with what stands beside it, with the reader's zoom of the page.
let resized = 0, sides = "";
const watcher = new ResizeObserver(() => {
  clearTimeout(resized);
  resized = setTimeout(() => {
    const now = [devicePixelRatio, ...every().map((map) => map.frame.clientWidth)].join(" ");
    if (now !== sides) { sides = now; refit(); }
  }, 120);
});

export function startMaps() {
  watcher.observe($("grid"));
  watcher.observe($("morph-map"));
  takePictures();
  listen("hidden colour renderer", () => { if (state.renderer === null) drawStills(); });
  listen("method", () => { showMethod(); refit(); startRest(); });
}
