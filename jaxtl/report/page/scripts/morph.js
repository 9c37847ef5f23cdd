// One map between before and after: every image on its way.
import { $, calm, choice } from "./nodes.js";
import { changed, listen, state } from "./state.js";
import { pair, paired } from "./runs.js";
import { colouring, drawingOrder } from "./colours.js";
import { toggle } from "./actions.js";
import { spotsOf } from "./density.js";
import { overlay } from "./overlay.js";
import { makeMap } from "./maps.js";
import { forget, start } from "./plots.js";

const preferred = () => {
  const methods = paired();
  if (methods.includes(state.method)) return state.method;
  return methods.includes("tsne") ? "tsne" : methods[0];
};

async function makeMorph() {
  if (!paired().length || state.morph) return;
  const { run } = state;
  const method = preferred();
  const [before] = pair(method);
  const spec = { x: before.x, y: before.y, title: "", stage: "before", method, run };
  state.morph = makeMap(spec, $("morph-map"));
  await start(state.morph);
  if (run !== state.run || !state.morph?.plot) return;
  if (state.hidden.size) await toggle([...state.hidden]);
  await setMethod(method);
  changed("selection");
}

// Its points cost as much as a map's: not before somebody looks.
export const watcher = new IntersectionObserver((seen) => {
  if (seen.some((each) => each.isIntersecting) && document.documentElement.dataset.ready === "true") makeMorph();
}, { rootMargin: "200px" });

async function setMethod(method) {
  stop();
  const { morph } = state;
  morph.method = method;
  [morph.from, morph.to] = pair(method);
  morph.ends = [morph.from, morph.to].map((map) => spotsOf({ ...map, run: state.run }));
  const named = paired().map((each) => [each, pair(each)[0].name]);
  const focused = $("morph-method").contains(document.activeElement);
  const made = choice("Method", named, method, setMethod, "method");
  $("morph-method").replaceChildren(...made.children);
  if (focused) $("morph-method").querySelector("[aria-pressed=true]").focus();
  morph.frame.setAttribute("aria-label", `${pair(method)[0].name} between before and after`);
  $("blend").value = 0;
  await blend(0, true);
}

const between = (a, b, t) => Float32Array.from(a, (value, row) => value + t * (b[row] - value));

let drawing = false, next = null;
/** Every image a share t of its way from before to after; `last` where the movement ends. */
export async function blend(t, last = false) {
  const { morph } = state;
  if (!morph?.from) return;
  if (drawing) { next = [t, last]; return; }
  drawing = true;
  const { from, to } = morph;
  const [x, y] = [between(from.x, to.x, t), between(from.y, to.y, t)];
  const spots = morph.ends[0].map((spot, k) =>
    (spot && morph.ends[1][k] ? spot.map((value, axis) => value + t * (morph.ends[1][k][axis] - value)) : null));
  Object.assign(morph, { x, y, t, spots, stage: t < 0.5 ? "before" : "after", grids: null, contours: null });
  morph.between = t > 0 && t < 1;
  // While it moves nobody points at it: the index of the places is built at the end.
  const options = { zDataType: "categorical", preventFilterReset: true };
  if (!last) options.spatialIndex = morph.plot.get("spatialIndex");
  await morph.plot.draw({ x, y, z: colouring(morph).codes }, options);
  overlay(morph);
  drawing = false;
  if (next) { const queued = next; next = null; await blend(...queued); }
}

let playing = 0;
export function stop() {
  cancelAnimationFrame(playing);
  playing = 0;
  $("play").textContent = "▶ Play";
}

function play() {
  if (!state.morph?.from) return;
  if (playing) { stop(); blend(Number($("blend").value) / 100, true); return; }
  const from = Math.min(1, Number($("blend").value) / 100);
  const to = from >= 0.5 ? 0 : 1;
  if (calm.matches) { $("blend").value = 100 * to; blend(to, true); return; }
  $("play").textContent = "❚❚ Pause";
  const began = performance.now();
  const time = 1800 * Math.abs(to - from) || 1;
  const tick = (now) => {
    const part = Math.min(1, Math.max(0, (now - began) / time));
    const t = from + (to - from) * part * part * (3 - 2 * part);
    $("blend").value = 100 * t;
    blend(t, part >= 1);
    if (part < 1) playing = requestAnimationFrame(tick);
    else stop();
  };
  playing = requestAnimationFrame(tick);
}

async function recolour() {
  const { morph } = state;
  if (!morph?.from) return;
  const { codes, colours } = colouring(morph);
  morph.plot.set({ pointColor: colours, pointColorActive: colours });
  await blend(morph.t, true);
  morph.plot.set({ pointOrder: drawingOrder(morph, codes) });
  changed("selection");
}

export function forgetMorph() {
  stop();
  if (state.morph) forget(state.morph);
  state.morph = null;
  $("morph-map").replaceChildren();
}

export function startMorph() {
  $("play").onclick = play;
  $("blend").addEventListener("input", () => { stop(); blend(Number($("blend").value) / 100); });
  $("blend").addEventListener("change", () => blend(Number($("blend").value) / 100, true));
  listen("colour", (waiting = []) => waiting.push(recolour()));
  listen("method", () => { if (state.morph?.from && state.morph.method !== preferred()) setMethod(preferred()); });
}
