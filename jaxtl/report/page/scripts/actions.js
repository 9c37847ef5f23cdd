// What a reader does to the state: point, keep, select, hide, step, look for.
import { $, button, images, number, tell } from "./nodes.js";
import { changed, state, visible } from "./state.js";
import { className, described, rows } from "./runs.js";

export function setHover(row) {
  if (state.hover === row) return;
  state.hover = row;
  changed("point");
}

export function pin(row) {
  state.hover = -1;
  state.pinned = row;
  state.stepped = false;
  changed("point");
  tell(row < 0 ? "Cleared" : described(row));
}

/** Select rows in all maps; `chosen` is how, where it has a name that a link can hold. */
export function select(wanted, chosen = "") {
  state.selection = [...new Set(wanted)].filter(visible).sort((a, b) => a - b);
  state.chosen = state.selection.length ? chosen : "";
  changed("selection");
  tell(`${images(state.selection.length)} selected`);
}

/** Keep one image and select none; without one, nothing is kept. */
export function take(row) {
  if (row < 0) { clear(); return; }
  state.selection = [];
  state.chosen = "";
  changed("selection");
  pin(row);
}

export function clear() {
  state.selection = [];
  state.chosen = "";
  state.hover = -1;
  changed("selection");
  pin(-1);
}

/** Hide these classes and show the others. Resolves when the maps do so. */
export async function toggle(classes) {
  state.hidden = new Set(classes);
  const before = state.selection.length;
  state.selection = state.selection.filter(visible);
  if (state.selection.length !== before) state.chosen = "";
  if (state.pinned >= 0 && !visible(state.pinned)) state.pinned = -1;
  const waiting = [];
  changed("hidden", waiting);
  await Promise.all(waiting);
  changed("selection");
  changed("point");
}

export const shownRows = () => rows().filter(visible);

/** To the next image of the selection, or of all that are shown. */
export function step(by) {
  const { run, selection } = state;
  let row = state.pinned;
  if (selection.length) {
    const at = selection.indexOf(row);
    row = selection[at < 0 ? (by > 0 ? 0 : selection.length - 1) : (at + by + selection.length) % selection.length];
  } else {
    for (let tried = 0; tried < run.n; tried++) {
      row = row < 0 ? (by > 0 ? 0 : run.n - 1) : (row + by + run.n) % run.n;
      if (visible(row)) break;
    }
    if (row < 0 || !visible(row)) return;
  }
  pin(row);
  state.stepped = true;
}

/** An image by its number or name, or all images of a class, else all whose name holds the text. */
export async function find(text) {
  const { run } = state;
  const wanted = text.trim().normalize("NFC").toLowerCase();
  const value = Number(wanted.replaceAll(",", ""));
  const named = run.rowOfId.get(wanted);
  const row = named ?? (wanted && Number.isInteger(value) ? run.rowOf.get(value) : undefined);
  const label = run.labelled && wanted ? run.classes.findIndex((name) => name.toLowerCase() === wanted) : -1;
  const ofClass = label >= 0 ? rows().filter((other) => run.labels[other] === label) : [];
  $("found").textContent = "";
  if (named === undefined && row !== undefined && ofClass.length) offer(row, label, ofClass);
  else if (row !== undefined) await showImage(row);
  else if (ofClass.length) await showClass(label, ofClass);
  else await showNamed(namesWith(wanted));
}

/** A number that is an image's and a class's name: the reader says which. */
function offer(row, label, ofClass) {
  $("found").replaceChildren(
    button(`Class ${className(label)}: ${images(ofClass.length)}`, () => showClass(label, ofClass), { dataset: { offered: "class" } }), " ",
    button(`Image no. ${state.run.index[row]}`, () => { $("found").textContent = ""; showImage(row); }, { dataset: { offered: "image" } }));
}

async function unhide(held) {
  if (held.every(visible)) return;
  const needed = new Set(held.map((row) => state.run.labels[row]));
  await toggle([...state.hidden].filter((k) => !needed.has(k)));
}

async function showImage(row) {
  await unhide([row]);
  pin(row);
}

async function showClass(label, held) {
  await unhide(held);
  select(held, `class.${label}`);
  $("found").textContent = `${images(held.length)} of class ${className(label)}`;
}

async function showNamed(held) {
  if (!held.length) {
    $("found").textContent = `not among the ${number(state.run.n)} images on the maps`;
    return;
  }
  await unhide(held);
  select(held);
  $("found").textContent = `${images(held.length)} with that in their name`;
}

function namesWith(wanted) {
  const { ids } = state.run;
  return ids && wanted ? rows().filter((row) => ids[row].normalize("NFC").toLowerCase().includes(wanted)) : [];
}
