// The maps: one WebGL context for all of them, and pictures of them where there is none.
import { $, css, el, number } from "./nodes.js";
import { changed, data, every, listen, state, visible } from "./state.js";
import { clear, pin, select, setHover, shownRows, step } from "./actions.js";
import { methodsOf, unpacked } from "./runs.js";
import { colouring, drawingOrder, fadedOpacity, opacityOf } from "./colours.js";
import { drawNames, overlay, overlays } from "./overlay.js";
import { follow, zoomBy } from "./views.js";
import { alongside } from "./beside.js";
import { takeFingers } from "./lasso.js";

const create = globalThis.createScatterplot;
const EXTENSIONS = ["OES_texture_float", "OES_element_index_uint", "WEBGL_color_buffer_float", "EXT_float_blend"];

export function startRenderer() {
  try {
    const canvas = document.createElement("canvas");
    // The library's own context is multisampled, at several times the cost, to draw one rectangle.
    const gl = canvas.getContext("webgl", { antialias: false, preserveDrawingBuffer: true });
    const regl = createREGL({ gl, extensions: EXTENSIONS.filter((name) => gl.getExtension(name)) });
    state.renderer = create.createRenderer({ canvas, regl });
  } catch (error) {
    state.renderer = null;
    document.documentElement.classList.add("no-webgl");
    $("fault").hidden = false;
    $("fault").textContent =
      "This browser has no WebGL, so the maps are still pictures; search and the arrow keys work.";
  }
}

const pointSize = (n, side) =>
  Math.min(7, Math.max(1.1, 4 * (2000 / n) ** 0.33)) * Math.min(1.6, Math.max(0.8, side / 360));

/** A map's nodes within `host`; `spec` has x, y, title, stage, method and run. */
export function makeMap(spec, host, notes = []) {
  const frame = el("div", { className: "frame", tabIndex: 0, role: "application",
    "aria-label": `${spec.title}: arrow keys step through the images, Esc clears` });
  const [canvas, over, still] = ["live", "over", "still"].map((className) => el("canvas", { className }));
  const tip = el("div", { className: "tip", "aria-hidden": "true", hidden: true });
  frame.append(canvas, over, still, tip);
  const figure = el("figure", { className: "map" }, el("figcaption", {}, spec.title, ...notes), frame);
  host.append(figure);
  const map = { ...spec, figure, frame, canvas, over, still, tip, plot: null, spots: null, thumbs: 0 };
  frame.addEventListener("keydown", (event) => onKey(event, map));
  takeFingers(map);
  frame.addEventListener("pointerenter", () => { state.pointed = map; });
  // A wheel over six maps would never scroll the page.
  frame.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) event.stopPropagation();
  }, { capture: true, passive: true });
  return map;
}

export async function startPlot(map) {
  const { codes, colours } = colouring(map);
  const plot = create.default({
    renderer: state.renderer, canvas: map.canvas, colorBy: "valueA", pointColor: colours, pointColorActive: colours,
    pointColorHover: css("--ink"), backgroundColor: css("--paper"), opacity: opacityOf(map.run),
    pointSize: pointSize(map.run.n, map.frame.clientWidth), pointSizeSelected: 2, pointOutlineWidth: 0,
    opacityInactiveMax: fadedOpacity(), opacityInactiveScale: 1, lassoColor: css("--mark"), lassoLineWidth: 2,
    actionKeyMap: { lasso: "shift", merge: "ctrl", remove: "alt" }, mouseMode: state.drag,
    deselectOnEscape: false, showReticle: false,
  });
  plot.subscribe("pointover", (row) => { state.pointed = map; setHover(row); });
  plot.subscribe("pointout", () => setHover(-1));
  plot.subscribe("select", ({ points }) => onSelect(points));
  plot.subscribe("deselect", () => clear());
  plot.subscribe("view", () => { overlay(map); follow(map); });
  await plot.draw({ x: map.x, y: map.y, z: codes }, { zDataType: "categorical" });
  plot.set({ pointOrder: drawingOrder(map, codes) });
  map.plot = plot; // only now does it take a selection or a filter
  map.idle = Promise.resolve();
}

function onSelect(points) {
  if (points.length !== 1) { select(points); return; }
  state.selection = [];
  state.chosen = "";
  changed("selection");
  pin(points[0]);
}

/** Colours that the reader chose, or that the paper asks for; one drawing at a time. */
function recolour(map) {
  if (!map.plot) return null;
  map.idle = map.idle.then(async () => {
    const { codes, colours } = colouring(map);
    const options = { zDataType: "categorical", preventFilterReset: true, spatialIndex: map.plot.get("spatialIndex") };
    map.plot.set({ pointColor: colours, pointColorActive: colours, backgroundColor: css("--paper"),
      pointColorHover: css("--ink"), lassoColor: css("--mark"), opacityInactiveMax: fadedOpacity() });
    await map.plot.draw({ x: map.x, y: map.y, z: codes }, options);
    map.plot.set({ pointOrder: drawingOrder(map, codes) });
    showSelected(map);
  });
  return map.idle;
}

function showSelected(map) {
  if (!map.plot) return;
  if (state.selection.length) map.plot.select(state.selection, { preventEvent: true });
  else map.plot.deselect({ preventEvent: true });
}

function showHidden(waiting) {
  const shown = shownRows();
  for (const map of every()) {
    if (!map.plot) continue;
    waiting.push(state.hidden.size
      ? map.plot.filter(shown, { preventEvent: true })
      : map.plot.unfilter({ preventEvent: true }));
  }
  if (!state.renderer) drawStills();
}

function onKey(event, map) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const zoom = { "+": 1 / 1.5, "=": 1 / 1.5, "-": 1.5 }[event.key];
  const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, PageDown: 10, PageUp: -10 }[event.key];
  if (by) step(by);
  else if (zoom && map.plot) zoomBy(map, zoom);
  else if (event.key === "0" && map.plot) map.plot.zoomToOrigin();
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

export function fitRenderer() {
  const side = Math.max(...every().map((map) => map.frame.clientWidth), 1);
  // It only may be larger: every map takes its middle. A new canvas is 300 wide and 150 high.
  const { width, height } = state.renderer.canvas;
  const fits = (pixels) => pixels >= side * devicePixelRatio && pixels <= 1.5 * side * devicePixelRatio;
  if (fits(width) && fits(height)) return;
  state.renderer.resize(side, side);
  every().forEach((map) => map.plot?.redraw());
}

/** After the page or what it shows has changed its size. */
export function refit() {
  if (!state.renderer) return;
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

/** The maps of the run, or of one method those of two runs, drawn anew. */
export async function showMaps() {
  const { run } = state;
  const methods = methodsOf(run);
  const stages = [...new Set(run.maps.map((map) => map.stage))];
  const other = state.beside < 0 ? null : alongside(unpacked(data.runs[state.beside]), run);
  const shown = other ? [run, other] : [run];
  const grid = $("grid");
  state.maps.forEach((map) => map.plot?.destroy());
  grid.replaceChildren();
  state.maps = shown.flatMap((own) => own.maps
    .filter((map) => !other || map.method === state.method)
    .map((map) => {
      const title = `${map.name} ${map.stage}${other ? ` · ${own.name}` : ""}`;
      const made = makeMap({ x: map.x, y: map.y, stage: map.stage, method: map.method, run: own, title }, grid, notesOn(map, own));
      made.figure.style.setProperty("--pair", methods.indexOf(map.method) * 2 + stages.indexOf(map.stage));
      return made;
    }));
  grid.style.setProperty("--stages", stages.length);
  showMethod();
  if (state.renderer) {
    fitRenderer();
    await Promise.all(state.maps.map(startPlot));
    const waiting = [];
    if (state.hidden.size) showHidden(waiting);
    await Promise.all(waiting);
    state.maps.forEach(showSelected);
  } else drawStills();
  overlays();
}

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
  listen("selection", () => every().forEach(showSelected));
  listen("hidden", showHidden);
  listen("colour", (waiting = []) => {
    waiting.push(...state.maps.map(recolour));
    if (!state.renderer) drawStills();
  });
  listen("method", () => { showMethod(); refit(); });
}
