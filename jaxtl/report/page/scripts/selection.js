// What is selected: how many, of which classes, how right and how much moved; saved and sent.
import { $, button, el, images, number, tell } from "./nodes.js";
import { data, listen, state } from "./state.js";
import { clear } from "./actions.js";
import { className, namedBy, voters } from "./runs.js";
import { shownColours } from "./colours.js";
import { fold } from "./panel.js";
import { thumbButton } from "./thumbnails.js";
import { zoomTo } from "./views.js";
import { linkOf } from "./address.js";

const SHOWN = 60; // thumbnails

function sharesOf(rows) {
  const counts = new Map();
  for (const row of rows) counts.set(state.run.labels[row], (counts.get(state.run.labels[row]) ?? 0) + 1);
  const ranked = [...counts].sort((a, b) => b[1] - a[1]);
  const colours = shownColours();
  const host = el("div", { className: "shares", tabIndex: 0, role: "group", "aria-label": "Classes of the selection" });
  for (const [label, count] of ranked) {
    host.append(el("b", { title: className(label) }, className(label)),
      el("i", { style: { width: `${(100 * count) / ranked[0][1]}%`, background: colours[label] } }),
      el("span", {}, number(count)));
  }
  return host;
}

const mean = (values, rows) => rows.reduce((sum, row) => sum + values[row], 0) / rows.length;

/** [what, of the selection, of all images]: shares that are right, neighbours kept, movement. */
function statistics(rows) {
  const { run } = state;
  const all = Array.from({ length: run.n }, (_, row) => row);
  const told = [];
  const add = (name, value, form) => told.push([name, form(value(rows)), form(value(all))]);
  const percent = (value) => (Number.isFinite(value) ? `${(100 * value).toFixed(0)}\u00a0%` : "–");
  const right = (classes) => (own) => {
    const known = own.filter((row) => classes[row] >= 0);
    return known.filter((row) => classes[row] === run.labels[row]).length / known.length;
  };
  const kinds = [["10-NN", "knn"], ["probe", "probe"]];
  for (const [name, kind] of run.labelled ? kinds : []) {
    for (const stage of ["before", "after"]) {
      const classes = namedBy(kind, stage);
      if (classes) add(`right by ${name} ${stage}`, right(classes), percent);
    }
  }
  if (run.labelled && run.measures.head_after) add("right by the head after", right(run.measures.head_after), percent);
  if (run.measures.kept) add("neighbours kept", (own) => mean(run.measures.kept, own), percent);
  if (run.measures.moved) add("moved (mean)", (own) => mean(run.measures.moved, own), (value) => value.toFixed(2));
  return told;
}

function statisticsTable(rows) {
  const told = statistics(rows);
  if (!told.length) return null;
  const titleOf = (name) => (name.includes("10-NN") ? voters() : name.startsWith("moved") ? data.meanings.moved : "");
  const line = ([name, ...values]) =>
    el("tr", {}, el("th", { scope: "row", title: titleOf(name) }, name), ...values.map((value) => el("td", {}, value)));
  return el("table", { className: "statistics" },
    el("thead", {}, el("tr", {}, el("td", {}), el("th", { scope: "col" }, "selected"), el("th", { scope: "col" }, "all"))),
    el("tbody", {}, ...told.map(line)));
}

function showSelection() {
  const host = $("selection");
  const rows = state.selection;
  host.dataset.count = rows.length;
  if (!rows.length) { host.replaceChildren(); return; }
  const shown = rows.slice(0, SHOWN);
  host.replaceChildren(...[
    el("h3", {}, el("span", {}, `${images(rows.length)} selected`),
      button("Close", () => fold(!$("panel").classList.contains("folded")), { dataset: { act: "fold" }, "aria-expanded": "true" })),
    state.run.labelled ? sharesOf(rows) : null,
    statisticsTable(rows),
    el("p", { className: "actions" },
      button("Zoom to them", () => zoomTo(rows), { dataset: { act: "zoom" } }), " ",
      button("Copy link", copyLink, { dataset: { act: "link" }, title: "A link to this page as it is now: selection, image, colours" }), " ",
      button("Save as CSV", saveSelection, { dataset: { act: "save" } }), " ",
      button("Clear", clear, { dataset: { act: "clear" } })),
    el("p", { className: "row-title" }, rows.length > SHOWN ? `The first ${SHOWN}:` : "Images:"),
    el("div", { className: "thumbs" }, ...shown.map((row) => thumbButton(row))),
  ].filter(Boolean));
}

async function copyLink() {
  const link = linkOf();
  if (location.protocol === "file:" && !document.querySelector("#selection .sending")) {
    document.querySelector("#selection .actions").after(el("p", { className: "quiet sending" },
      "The file must be sent along; the part after # holds the selection."));
  }
  try {
    await navigator.clipboard.writeText(link);
    document.querySelector("[data-act=link]").textContent = "Copied";
    tell("Link copied");
  } catch {
    // A page from a file may not write to the clipboard everywhere: then the reader copies it.
    const field = el("input", { value: link, readOnly: true, "aria-label": "Link to this selection", className: "link" });
    document.querySelector("#selection .actions").after(field);
    field.select();
  }
}

/** A text that no spreadsheet takes for a formula, as jaxtl's own tables have it. */
export function harmless(text) {
  const begins = /^'*[=+\-@\t\r\n＝＋－＠]/u.test(text);
  return begins && !/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/iu.test(text) ? `'${text}` : text;
}

function saveSelection() {
  const { run } = state;
  const quoted = (text) => `"${harmless(text).replaceAll('"', '""')}"`;
  const columns = [["index", (row) => run.index[row]]];
  if (run.ids) columns.push(["id", (row) => quoted(run.ids[row])]);
  if (run.labelled) {
    columns.push(["label", (row) => run.labels[row]], ["class", (row) => quoted(className(run.labels[row]))]);
  }
  const lines = state.selection.map((row) => columns.map(([, cell]) => cell(row)).join(","));
  const head = columns.map(([name]) => name).join(",");
  const blob = new Blob([[head, ...lines].join("\n") + "\n"], { type: "text/csv" });
  const link = el("a", { href: URL.createObjectURL(blob), download: "selection.csv" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

export function startSelection() {
  listen("selection run colour", showSelection);
  listen("selection run", () => fold(false));
}
