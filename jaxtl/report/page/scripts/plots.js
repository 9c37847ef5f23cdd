// Maps that can be explored: each is drawn when it comes near the view, when what is chosen asks for it, or in idle time.
import { css } from "./nodes.js";
import { every, listen, state } from "./state.js";
import { clear, select, setHover, shownRows, take } from "./actions.js";
import { colouring, drawingOrder, fadedOpacity, opacityOf } from "./colours.js";
import { overlay } from "./overlay.js";
import { follow } from "./views.js";
import { fitRenderer, startRenderer } from "./renderer.js";

const create = globalThis.createScatterplot;
const LATEST = 1000; // milliseconds that the next map waits for a page that is never idle

export const pointSize = (n, side) =>
  Math.min(7, Math.max(1.1, 4 * (2000 / n) ** 0.33)) * Math.min(1.6, Math.max(0.8, side / 360));

/** Whether the picture that stands in a map's place until it is drawn shows all that the reader has chosen. */
export const pictured = () => state.colour === "class" && !state.hidden.size && !state.selection.length && state.beside < 0;

/** Draw a map, unless that has begun. Resolves when it shows what the reader has chosen, or cannot. */
export function start(map) {
  if (map.started) return map.live;
  map.started = true;
  map.idle = map.live;
  near.unobserve(map.frame);
  overlay(map);
  draw(map).then(map.whenLive);
  return map.live;
}

const laidOut = (map) => map.frame.clientWidth > 0;

/** The maps of the method shown, all of them, at once. */
export const startAll = () => Promise.all(state.maps.filter(laidOut).map(start));

/** Those that are on the screen now. */
export function startSeen() {
  const seen = ({ frame }) => {
    const { top, bottom, width } = frame.getBoundingClientRect();
    return width > 0 && bottom > 0 && top < innerHeight;
  };
  return Promise.all(state.maps.filter(seen).map(start));
}

const idle = () => new Promise((done) => {
  if (globalThis.requestIdleCallback) requestIdleCallback(done, { timeout: LATEST });
  else setTimeout(done, 50);
});

let going = false;
/** The others, one after another. */
export async function startRest() {
  if (going) return;
  going = true;
  const next = () => state.maps.find((map) => !map.started && laidOut(map));
  await idle();
  startRenderer(); // by itself: the reader may do something before the first map
  while (next()) {
    await idle();
    const map = next();
    if (map) await start(map);
  }
  going = false;
}

const near = new IntersectionObserver((seen) => {
  for (const { isIntersecting, target } of seen) {
    const map = isIntersecting && every().find(({ frame }) => frame === target);
    if (map) start(map);
  }
}, { rootMargin: "50% 0px" });

export const startWhenNear = (map) => near.observe(map.frame);

async function draw(map) {
  if (!startRenderer()) return;
  fitRenderer();
  const { codes, colours } = colouring(map);
  const plot = create.default({
    renderer: state.renderer, canvas: map.canvas, colorBy: "valueA", pointColor: colours, pointColorActive: colours,
    pointColorHover: css("--ink"), backgroundColor: css("--paper"), opacity: opacityOf(map.run),
    pointSize: pointSize(map.run.n, map.frame.clientWidth), pointSizeSelected: 2, pointOutlineWidth: 0,
    opacityInactiveMax: fadedOpacity(), opacityInactiveScale: 1, lassoColor: css("--mark"), lassoLineWidth: 2,
    actionKeyMap: { lasso: "shift", merge: "ctrl", remove: "alt" }, mouseMode: state.drag,
    deselectOnEscape: false, showReticle: false, pointOrder: drawingOrder(map, codes),
  });
  plot.subscribe("pointover", (row) => { state.pointed = map; setHover(row); });
  plot.subscribe("pointout", () => setHover(-1));
  plot.subscribe("select", ({ points }) => onSelect(points));
  plot.subscribe("deselect", () => clear());
  plot.subscribe("view", () => { overlay(map); follow(map); });
  await plot.draw({ x: map.x, y: map.y, z: codes }, { zDataType: "categorical" });
  if (map.gone) { plot.destroy(); return; }
  map.plot = plot; // only now does it take a selection or a filter
  map.picture?.remove();
  plot.set({ mouseMode: state.drag });
  const twin = every().find((other) => other !== map && other.method === map.method && other.plot);
  if (twin) follow(twin);
  if (state.hidden.size) await plot.filter(shownRows(), { preventEvent: true });
  showSelected(map);
  overlay(map);
}

/** A map that is no longer on the page. */
export function forget(map) {
  map.gone = true;
  near.unobserve(map.frame);
  map.plot?.destroy();
  map.plot = null;
}

function onSelect(points) {
  if (points.length === 1) take(points[0]);
  else select(points);
}

/** Colours that the reader chose, or that the paper asks for; one drawing at a time. */
function recolour(map) {
  if (!map.started) return null;
  map.idle = map.idle.then(async () => {
    if (!map.plot) return;
    const { codes, colours } = colouring(map);
    const options = { zDataType: "categorical", preventFilterReset: true, spatialIndex: map.plot.get("spatialIndex") };
    map.plot.set({ pointColor: colours, pointColorActive: colours, backgroundColor: css("--paper"),
      pointColorHover: css("--ink"), lassoColor: css("--mark"), opacityInactiveMax: fadedOpacity() });
    await map.plot.draw({ x: map.x, y: map.y, z: codes }, options);
    map.plot?.set({ pointOrder: drawingOrder(map, codes) });
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
}

/** What a picture does not show, the map must. */
function startUnlessPictured(waiting = []) {
  if (!pictured()) waiting.push(startAll());
}

export function startPlots() {
  listen("method", startUnlessPictured);
  listen("selection", () => { every().forEach(showSelected); startUnlessPictured(); });
  listen("hidden", (waiting) => { showHidden(waiting); startUnlessPictured(waiting); });
  listen("colour", (waiting = []) => { waiting.push(...state.maps.map(recolour)); startUnlessPictured(waiting); });
}
