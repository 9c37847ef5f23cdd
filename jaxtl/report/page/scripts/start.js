// The page as a whole: which run it shows, its switches, its paper; what scripts and tests may ask of it.
import { $, el } from "./nodes.js";
import { changed, data, every, listen, state } from "./state.js";
import { clear, find, pin, select, toggle } from "./actions.js";
import { methodsOf, paired, unpacked } from "./runs.js";
import { contrast } from "./colours.js";
import { CONTOURS_FROM, startOverlay } from "./overlay.js";
import { startAll, startPlots, startRest } from "./plots.js";
import { drawMaps, drawStills, placeMaps, startMaps } from "./maps.js";
import { place, showAll, zoomTo } from "./views.js";
import { chooseMethod, colourBy, standBeside, startLegend } from "./legend.js";
import { blend, forgetMorph, startMorph, watcher } from "./morph.js";
import { startPanel } from "./panel.js";
import { startSelection } from "./selection.js";
import { startChange } from "./change.js";
import { linkOf, startAddress } from "./address.js";

async function showRun(k) {
  document.documentElement.dataset.ready = "";
  watcher.unobserve($("morph"));
  forgetMorph();
  const run = unpacked(data.runs[k] ?? data.runs[0]);
  Object.assign(state, { k: data.runs.indexOf(run), run, beside: -1, hidden: new Set(), selection: [], chosen: "",
    pinned: -1, hover: -1, pointed: null, colour: "class", contours: run.labelled && run.n >= CONTOURS_FROM });
  if (!methodsOf(run).includes(state.method)) state.method = "";
  if ($("run")) $("run").value = String(state.k);
  $("index").previousElementSibling.textContent = run.ids ? "Image no., name or class" : "Image no. or class";
  $("index").size = run.ids ? 20 : 10;
  $("class-names").replaceChildren(...(run.labelled ? run.classes : []).map((value) => el("option", { value })));
  document.querySelectorAll("[data-run]").forEach((part) => { part.hidden = Number(part.dataset.run) !== state.k; });
  showMorph();
  placeMaps();
  changed("run"); // what stands above the maps moves them: only then it is known which are on the screen
  await drawMaps();
  await painted();
  document.documentElement.dataset.ready = "true";
  report.readyAfter ??= performance.now();
  watcher.observe($("morph"));
  startRest().then(startAll).then(() => { report.liveAfter ??= performance.now(); });
}

const showMorph = () => { $("morph").hidden = state.renderer === null || !paired().length; };

/** Once what has been changed is on the screen, if the page is. */
const painted = () => new Promise((done) => {
  if (document.hidden) done();
  else requestAnimationFrame(() => setTimeout(done));
});

const THEMES = ["system", "light", "dark"];
function setTheme(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  $("theme").textContent = `Colours: ${theme}`;
  $("theme").setAttribute("aria-label", `Colours: ${theme}; click for the next`);
  changed("colour");
}

function connectSearch() {
  $("index").removeAttribute("inputmode"); // class names, too
  $("index").setAttribute("list", "class-names");
  $("search").append(el("datalist", { id: "class-names" }));
  $("search").addEventListener("submit", (event) => { event.preventDefault(); find($("index").value); });
}

function connect() {
  connectSearch();
  $("fit").onclick = () => showAll(false);
  $("whole").onclick = () => { startAll(); showAll(true); };
  $("run")?.addEventListener("change", (event) => showRun(Number(event.target.value)));
  $("print").onclick = () => print();
  $("theme").onclick = () => {
    const now = document.documentElement.dataset.theme ?? "system";
    setTheme(THEMES[(THEMES.indexOf(now) + 1) % THEMES.length]);
  };
  document.querySelectorAll("[data-drag]").forEach((button) => {
    button.onclick = () => {
      state.drag = button.dataset.drag;
      document.querySelectorAll("[data-drag]").forEach((each) =>
        each.setAttribute("aria-pressed", String(each === button)));
      every().forEach((map) => map.plot?.set({ mouseMode: state.drag }));
      $("maps").classList.toggle("lasso", state.drag === "lasso");
    };
  });
  document.querySelectorAll(".choice [data-space]").forEach((button) => {
    button.onclick = () => {
      const part = button.closest("section");
      part.querySelectorAll("button[data-space]").forEach((each) =>
        each.setAttribute("aria-pressed", String(each === button)));
      part.querySelectorAll(".heats").forEach((each) => { each.hidden = each.dataset.space !== button.dataset.space; });
    };
  });
  addEventListener("keydown", (event) => { if (event.key === "Escape") clear(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => changed("colour"));
  connectPaper();
}

function connectPaper() {
  let opened = [];
  addEventListener("beforeprint", () => {
    const { theme } = document.documentElement.dataset;
    document.documentElement.dataset.theme = "light"; // as paper is
    drawStills("#16191d", "#fff");
    if (theme) document.documentElement.dataset.theme = theme;
    else delete document.documentElement.dataset.theme;
    opened = [...document.querySelectorAll("main details:not([open])")];
    opened.forEach((each) => { each.open = true; });
  });
  addEventListener("afterprint", () => opened.forEach((each) => { each.open = false; }));
}

// For scripts, and for the tests of this page.
const report = {
  state, data, get run() { return state.run; }, get maps() { return state.maps; }, get morph() { return state.morph; },
  pin, select, clear, toggle, find, blend, place, zoomTo, colourBy, chooseMethod, standBeside, linkOf, contrast,
  // All maps that are shown are drawn, and can be explored.
  live: startAll,
  readyAfter: undefined, liveAfter: undefined, // milliseconds
};
globalThis.jaxtlReport = report;

[startPanel, startSelection, startLegend, startOverlay, startMaps, startPlots, startMorph, startChange].forEach((start) => start());
listen("renderer", showMorph);
connect();
showRun(0).then(() => startAddress(showRun));
