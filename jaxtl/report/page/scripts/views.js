// What part of each map is in view: places in pixels, zooms, and maps that follow one another.
import { calm } from "./nodes.js";
import { every, state } from "./state.js";

const WHOLE = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1];
const viewOf = (map) => (map.plot ? map.plot.get("cameraView") : WHOLE);

/** A function of x and y in the map's unit square: the place in its frame, in CSS pixels from the upper left corner. */
export function placer(map) {
  const view = viewOf(map); // once: asking for it costs more than to place a point
  const side = map.frame.clientWidth;
  return (x, y) => [
    (side * (view[0] * x + view[4] * y + view[12] + 1)) / 2,
    side * (0.5 - (view[1] * x + view[5] * y + view[13]) / 2),
  ];
}

export const place = (map, x, y) => placer(map)(x, y);

/** The same as a matrix, for paths. */
export function matrix(map) {
  const view = viewOf(map);
  const half = map.frame.clientWidth / 2;
  return new DOMMatrix([half * view[0], -half * view[1], half * view[4], -half * view[5],
    half * (view[12] + 1), half * (1 - view[13])]);
}

export const zoomOf = (map) => (map.plot ? 1 / map.plot.get("cameraDistance") : 1);

let apart = 0; // until then every map goes to a place of its own

/** The maps of one method show the same part, if the reader wants that. */
export function follow(map) {
  if (!state.linked || !map.plot || performance.now() < apart) return;
  const view = viewOf(map);
  for (const other of every()) {
    if (other === map || other.method !== map.method || !other.plot) continue;
    const own = viewOf(other);
    if (own.every((value, k) => Math.abs(value - view[k]) < 1e-6)) continue;
    other.plot.get("camera").setView(Float32Array.from(view));
    other.plot.redraw();
  }
}

const timed = () => ({ transition: !calm.matches, transitionDuration: 300 });

export const zoomOut = (map) => map.plot?.zoomToOrigin(timed());

/** Every map, once it is drawn: the middle of it, or the whole. */
export function showAll(whole) {
  for (const map of every()) {
    map.live.then(() => (whole ? zoomToBox(map, boxOf(map, null)) : zoomOut(map)));
  }
}

/** Every map zooms to where these rows lie in it; of many rows to the middle 96 % of them. */
export async function zoomTo(rows) {
  await Promise.all(every().filter(({ started }) => started).map(({ live }) => live));
  apart = performance.now() + 500;
  for (const map of every()) zoomToBox(map, boxOf(map, rows), 1.25);
}

function boxOf(map, rows) {
  return [map.x, map.y].flatMap((values) => {
    const own = rows ? Float32Array.from(rows, (row) => values[row]).sort() : Float32Array.from(values).sort();
    const cut = rows && own.length > 25 ? Math.floor(own.length * 0.02) : 0;
    return [own[cut], own[own.length - 1 - cut]];
  });
}

function zoomToBox(map, [left, right, bottom, top], room = 1.04) {
  const half = Math.max(0.04, (Math.max(right - left, top - bottom) / 2) * room);
  map.plot?.zoomToLocation([(left + right) / 2, (bottom + top) / 2], half, timed());
}

export function zoomBy(map, factor) {
  map.plot?.zoomToLocation([...map.plot.get("cameraTarget")], map.plot.get("cameraDistance") * factor);
}
