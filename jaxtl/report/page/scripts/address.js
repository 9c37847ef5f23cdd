// What the reader sees, in the part of the address after #: to go back to, to keep and to send.
import { $ } from "./nodes.js";
import { state, listen } from "./state.js";
import { clear, pin, select, toggle } from "./actions.js";
import { rowsOf } from "./groups.js";
import { showArrival } from "./arrival.js";
import { chooseMethod, colourBy, standBeside } from "./legend.js";

const SOON = 150; // milliseconds: what changes at once is one step back

/** Rows in ascending order as text: steps between them in base 36, or a bit for every row, whichever is shorter. */
export function written(rows, n) {
  let last = -1;
  const steps = rows.map((row) => { const by = row - last; last = row; return by.toString(36); }).join(".");
  if (steps.length <= n / 6) return steps;
  const bytes = new Uint8Array(Math.ceil(n / 8));
  for (const row of rows) bytes[row >> 3] |= 1 << (row & 7);
  const text = btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
  return `~${text.replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "")}`;
}

export function read(text, n) {
  if (text.startsWith("~")) {
    const raw = atob(text.slice(1).replaceAll("-", "+").replaceAll("_", "/"));
    return Array.from({ length: n }, (_, row) => row).filter((row) => raw.charCodeAt(row >> 3) & (1 << (row & 7)));
  }
  let row = -1;
  return text.split(".").map((by) => (row += parseInt(by, 36))).filter((own) => own >= 0 && own < n);
}

function fragment() {
  const { run, selection, chosen } = state;
  const parts = [];
  const add = (name, value) => parts.push(`${name}=${value}`);
  if (state.k) add("run", state.k);
  if (state.method) add("method", state.method);
  if (state.beside >= 0) add("beside", state.beside);
  if (state.colour !== "class") add("colour", state.colour);
  if (state.hidden.size) add("hide", [...state.hidden].sort((a, b) => a - b).join("."));
  if (selection.length) add("select", chosen ? `:${chosen}` : written(selection, run.n));
  if (state.pinned >= 0) add("image", run.index[state.pinned]);
  return parts.join("&");
}

const address = (text) => location.href.split("#")[0] + (text ? `#${text}` : "");
export const linkOf = () => address(fragment());

let waiting = 0, shown = "", stepping = false, restoring = false;

function write() {
  const text = fragment();
  if (restoring || text === shown) return;
  const without = (own) => own.replace(/&?image=\d+/, "");
  // Arrow keys from image to image are one step back, however many they were.
  const on = stepping && state.stepped && without(text) === without(shown);
  history[on ? "replaceState" : "pushState"](null, "", address(text));
  shown = text;
  stepping = state.stepped;
}

function writeSoon() {
  clearTimeout(waiting);
  waiting = setTimeout(write, SOON);
}

const SECTION = /&?at=([\w-]+)$/; // where a reader went, after what is shown

/** A link to a section leaves in the address what is shown, and adds the section. */
function goToSection(event) {
  const link = event.target.closest?.("a[href^='#']");
  const text = fragment();
  const otherwise = event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey;
  if (!link || !text || otherwise || !$(link.hash.slice(1))) return;
  event.preventDefault();
  clearTimeout(waiting);
  shown = text;
  stepping = false;
  history.pushState(null, "", address(`${text}&at=${link.hash.slice(1)}`));
  arrive(link.hash.slice(1));
}

function arrive(id) {
  const section = $(id);
  if (!section) return;
  section.scrollIntoView();
  section.setAttribute("tabindex", "-1"); // the keyboard goes on from there
  section.focus({ preventScroll: true });
}

/** Make the page what the address says. An address that names a section leaves it as it is. */
async function restore(showRun) {
  const text = location.hash.slice(1).replace(SECTION, "");
  if (text && !text.includes("=")) return;
  clearTimeout(waiting);
  if (text === shown) return;
  restoring = true;
  try {
    await follow(new URLSearchParams(text), showRun);
  } catch {
    // A link that was cut or mistyped: what could be read of it is shown.
  } finally {
    shown = fragment();
    restoring = false;
  }
}

async function follow(asked, showRun) {
  const k = Number(asked.get("run") ?? 0);
  if (k !== state.k) await showRun(k);
  const beside = Number(asked.get("beside") ?? -1);
  const method = asked.get("method") ?? "";
  if (method !== state.method && state.beside < 0) await chooseMethod(method);
  if (beside !== state.beside) await standBeside(beside);
  if (method !== state.method) await chooseMethod(method);
  const colour = asked.get("colour") ?? "class";
  if (colour !== state.colour) await colourBy(colour);
  const hidden = (asked.get("hide") ?? "").split(".").filter(Boolean).map(Number);
  if (hidden.join() !== [...state.hidden].join()) await toggle(hidden.filter((label) => label in state.run.classes));
  const wanted = asked.get("select") ?? "";
  const rows = wanted.startsWith(":") ? rowsOf(wanted.slice(1)) : wanted ? read(wanted, state.run.n) : [];
  if (rows.length) select(rows, wanted.startsWith(":") ? wanted.slice(1) : "");
  else if (state.selection.length) clear();
  const row = state.run.rowOf.get(Number(asked.get("image") ?? NaN)) ?? -1;
  if (row !== state.pinned) pin(row);
}

/** Follow the address that the page was opened with, then write to it what the reader does. */
export async function startAddress(showRun) {
  await restore(showRun);
  showArrival();
  if (SECTION.test(location.hash)) arrive(SECTION.exec(location.hash)[1]);
  addEventListener("click", goToSection);
  listen("point selection hidden colour method run", () => { if (!restoring) writeSoon(); });
  addEventListener("popstate", () => restore(showRun));
}
