// What is drawn over the points: names, rings, paths, lines of density, thumbnails.
import { css } from "./nodes.js";
import { active, every, listen, state, visible } from "./state.js";
import { neighborsOf, pair } from "./runs.js";
import { drawThumb } from "./thumbnails.js";
import { matrix, place, placer, zoomOf } from "./views.js";
import { colouring, shownColours } from "./colours.js";
import { contoursOf, spotsOf } from "./density.js";

const HALO = 3;
export const PATHS = 60; // more lines than that hide one another
const THUMB = 24, THUMBS_FROM = 2.5, MOST_IN_VIEW = 1200; // pixels; zoom; points
export const CONTOURS_FROM = 5000; // points

const waiting = new Set();
export function overlay(map) {
  if (!waiting.size) {
    requestAnimationFrame(() => {
      const due = [...waiting];
      waiting.clear();
      due.forEach(drawOverlay);
    });
  }
  waiting.add(map);
}
/** On all maps but those that are far from the view and not drawn yet. */
export const overlays = () => every().filter(({ started }) => started).forEach(overlay);

function sized(canvas, side) {
  const ratio = devicePixelRatio || 1;
  const pixels = Math.round(side * ratio);
  if (canvas.width !== pixels) canvas.width = canvas.height = pixels;
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, side, side);
  return context;
}

function drawOverlay(map) {
  const side = map.frame.clientWidth;
  if (!side) return;
  const context = sized(map.over, side);
  const row = active();
  if (state.contours) drawContours(context, map);
  if (state.paths && state.selection.length) drawPaths(context, map);
  drawThumbs(context, map, side);
  const neighbors = row < 0 ? null : neighborsOf(row, map.stage);
  for (const other of neighbors ?? []) ring(context, map, other, 4, 1.25);
  drawNames(context, map, side, css("--ink"), css("--halo"));
  if (row >= 0) ring(context, map, row, 8, 2.5);
}

function ring(context, map, row, radius, width) {
  const [x, y] = place(map, map.x[row], map.y[row]);
  for (const [colour, extra] of [[css("--halo"), 2], [css("--ink"), 0]]) {
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.strokeStyle = colour;
    context.lineWidth = width + extra;
    context.stroke();
  }
}

function drawContours(context, map) {
  if (map.between) return; // of a picture in motion
  const colours = shownColours(map.run);
  const placed = matrix(map);
  contoursOf(map).forEach((path, k) => {
    if (!path || state.hidden.has(k)) return;
    const line = new Path2D();
    line.addPath(path, placed);
    for (const [colour, width] of [[css("--halo"), 3.5], [state.colour === "class" ? colours[k] : css("--soft"), 1.6]]) {
      context.strokeStyle = colour;
      context.lineWidth = width;
      context.stroke(line);
    }
  });
}

/** From where an image was before to where it is after, on the maps that show the end of the way. */
function drawPaths(context, map) {
  if (map.stage !== "after" && map !== state.morph) return;
  const [from, to] = pair(map.method, map.run);
  if (!from || !to) return;
  const end = map === state.morph ? to : map;
  const stride = Math.ceil(state.selection.length / PATHS);
  const { codes, colours } = colouring(map);
  const at = placer(map);
  context.lineWidth = 1.2;
  for (let k = 0; k < state.selection.length; k += stride) {
    const row = state.selection[k];
    const [x, y] = at(from.x[row], from.y[row]);
    context.strokeStyle = context.fillStyle = colours[codes[row]];
    context.globalAlpha = state.selection.length > PATHS ? 0.45 : 0.8;
    context.beginPath();
    context.moveTo(x, y);
    context.lineTo(...at(end.x[row], end.y[row]));
    context.stroke();
    context.beginPath();
    context.arc(x, y, 2, 0, 2 * Math.PI); // where it began
    context.fill();
  }
  context.globalAlpha = 1;
}

/** The images themselves, once few enough are in view; one for each place that has room for one. */
function drawThumbs(context, map, side) {
  map.thumbs = 0;
  if (!map.run.images || zoomOf(map) < THUMBS_FROM) return;
  const inView = [], at = placer(map);
  for (const row of map.run.order) {
    if (!visible(row)) continue;
    const [x, y] = at(map.x[row], map.y[row]);
    if (x > 0 && y > 0 && x < side && y < side) inView.push([row, x, y]);
    if (inView.length > MOST_IN_VIEW) return;
  }
  const taken = new Set();
  const { codes, colours } = colouring(map);
  for (const [row, x, y] of inView) {
    const [column, line] = [Math.round(x / THUMB), Math.round(y / THUMB)];
    const near = [-1, 0, 1].some((dx) => [-1, 0, 1].some((dy) => taken.has(`${column + dx} ${line + dy}`)));
    if (near) continue;
    taken.add(`${column} ${line}`);
    if (!drawThumb(context, row, x, y, THUMB, () => overlay(map))) continue;
    map.thumbs++;
    context.strokeStyle = colours[codes[row]];
    context.lineWidth = 2;
    context.strokeRect(x - THUMB / 2 - 1, y - THUMB / 2 - 1, THUMB + 2, THUMB + 2);
  }
}

// Class names where the class is densest, so that colour is not all that tells a class; moved apart where they overlap.
export function drawNames(context, map, side, ink, halo) {
  const run = map.run;
  // On a small map so many names would hide what they name.
  if (!run.labelled || (run.classes.length > 40 && side < 420)) return;
  const long = run.classes.length > 10 || run.classes.some((name) => name.length > 10);
  const size = run.classes.length > 40 ? 9 : 12.5;
  context.font = `700 ${size}px system-ui, sans-serif`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.lineJoin = "round";
  const names = [];
  map.spots ??= spotsOf(map);
  map.spots.forEach((spot, k) => {
    if (!spot || state.hidden.has(k)) return;
    const [x, y] = place(map, ...spot);
    const text = long ? String(k) : run.classes[k];
    if (x > 0 && y > 0 && x < side && y < side) {
      names.push({ text, x, y, width: context.measureText(text).width + 4, height: size + 2 });
    }
  });
  spread(names, side);
  for (const { text, x, y } of names) {
    context.lineWidth = HALO;
    context.strokeStyle = halo;
    context.strokeText(text, x, y);
    context.fillStyle = ink;
    context.fillText(text, x, y);
  }
}

function spread(names, side) {
  for (let round = 0; round < 60; round++) {
    let moved = false;
    for (let i = 0; i < names.length; i++) {
      for (let j = i + 1; j < names.length; j++) moved = apart(names[i], names[j]) || moved;
    }
    for (const each of names) {
      each.x = Math.min(side - each.width / 2, Math.max(each.width / 2, each.x));
      each.y = Math.min(side - each.height / 2, Math.max(each.height / 2, each.y));
    }
    if (!moved) break;
  }
}

function apart(a, b) {
  const [dx, dy] = [b.x - a.x, b.y - a.y];
  const ox = (a.width + b.width) / 2 - Math.abs(dx);
  const oy = (a.height + b.height) / 2 - Math.abs(dy);
  if (ox <= 0 || oy <= 0) return false;
  const [axis, by] = ox < oy ? ["x", (ox / 2 + 0.1) * (dx < 0 ? -1 : 1)] : ["y", (oy / 2 + 0.1) * (dy < 0 ? -1 : 1)];
  a[axis] -= by;
  b[axis] += by;
  return true;
}

export function startOverlay() {
  listen("point selection hidden look colour", overlays);
}
