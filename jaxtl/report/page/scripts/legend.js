// The classes, to hide and show; what the dots' colours mean; and how the maps are to be looked at.
import { $, button, choice, el, number, press, refill } from "./nodes.js";
import { changed, listen, state } from "./state.js";
import { toggle } from "./actions.js";
import { methodsOf } from "./runs.js";
import { colouring, colourings, meaningOf, shownColours } from "./colours.js";
import { CONTOURS_FROM, PATHS } from "./overlay.js";
import { companions } from "./beside.js";
import { drawMaps, placeMaps } from "./maps.js";

function showMaps() {
  placeMaps();
  return drawMaps();
}

function showLegend() {
  const { run, hidden } = state;
  $("legend").hidden = !run.labelled;
  const all = run.classes.map((_, k) => k);
  const numbered = run.classes.length > 10 || run.classes.some((name) => name.length > 10);
  const colours = shownColours();
  const swatch = (k) => (state.colour === "class" ? el("i", { style: { background: colours[k] } }) : null);
  const classes = run.classes.map((name, k) => el("button", {
    type: "button", "aria-pressed": String(!hidden.has(k)), dataset: { class: k },
    title: `${press()} to hide or show the class; twice shows it alone`,
    onclick: () => toggle(hidden.has(k) ? [...hidden].filter((other) => other !== k) : [...hidden, k]),
    ondblclick: () => toggle(all.filter((other) => other !== k)),
  }, ...[swatch(k)].filter(Boolean), numbered && name !== String(k) ? `${k} ${name}` : name,
  el("small", {}, number(run.counts[k]))));
  refill($("legend"), ...classes,
    button("All", () => toggle([]), { dataset: { class: "all" } }),
    button("None", () => toggle(all), { dataset: { class: "none" } }));
}

/** What the colours mean where they are not those of the classes. */
function showKey() {
  const key = $("colour-key");
  key.hidden = state.colour === "class";
  if (key.hidden || !state.maps.length) { key.replaceChildren(); return; }
  const counts = new Map(), shown = state.maps.map(colouring);
  for (const { codes } of shown) for (const code of codes) counts.set(code, true);
  const { colours, names } = shown[0];
  key.replaceChildren(...names.map((name, k) =>
    (counts.has(k) ? el("span", {}, el("i", { style: { background: colours[k] } }), name) : null)).filter(Boolean));
  const meaning = meaningOf(state.colour);
  if (meaning) key.append(el("span", { className: "meaning" }, meaning));
}

export async function colourBy(key) {
  if (!colourings().some(([own]) => own === key)) return;
  state.colour = key;
  const waiting = [];
  changed("colour", waiting);
  await Promise.all(waiting);
}

/** One method's maps, or with "" those of all. */
export async function chooseMethod(method) {
  state.method = methodsOf(state.run).includes(method) ? method : "";
  if (state.beside >= 0 && state.method) await showMaps();
  else if (state.beside >= 0) await standBeside(-1);
  changed("method");
}

/** Maps of another run, by its number, beside those of this one; -1 for none. */
export async function standBeside(k) {
  state.beside = companions().some(([own]) => own === k) ? k : -1;
  const methods = methodsOf(state.run);
  if (state.beside >= 0 && !state.method) state.method = methods.includes("tsne") ? "tsne" : methods[0];
  await showMaps();
  changed("method");
}

function chooser(id, label, options, value, choose) {
  const select = el("select", { id, onchange: (event) => choose(event.target.value) },
    ...options.map(([key, text]) => el("option", { value: key, selected: String(key) === String(value) }, text)));
  return el("label", { className: "chooser" }, label, " ", select);
}

function switchOf(name, text, title) {
  return button(text, () => { state[name] = !state[name]; changed("look"); },
    { "aria-pressed": String(state[name]), dataset: { switch: name }, title });
}

function showTools() {
  const { run } = state;
  const methods = methodsOf(run);
  const named = methods.map((method) => [method, run.maps.find((map) => map.method === method).name]);
  const colours = colourings();
  const others = companions();
  refill($("map-tools"),
    methods.length > 1 ? choice("Method", [["", "All methods"], ...named], state.method, chooseMethod, "only") : null,
    colours.length > 1 ? chooser("colour", "Colour by", colours, state.colour, colourBy) : null,
    others.length ? chooser("beside", "Beside it", [[-1, "no other run"], ...others], state.beside, (k) => standBeside(Number(k))) : null,
    state.renderer !== null ? switchOf("linked", "Zoom together", "Before and after of one method show the same part") : null,
    switchOf("paths", "Paths of the selection", `Lines on the maps after, from where selected images were before; of many images, some ${PATHS} are drawn`),
    run.labelled && run.n >= CONTOURS_FROM
      ? switchOf("contours", "Densest halves", "A line around the places that hold the denser half of each class") : null);
}

export function startLegend() {
  $("legend").after(el("p", { id: "colour-key", className: "colour-key", hidden: true }));
  listen("hidden colour run", showLegend);
  listen("colour run method", showKey);
  listen("colour run method look renderer", showTools);
}
