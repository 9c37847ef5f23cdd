"use strict";
// The maps of the report: one WebGL context for all, one state, and what a reader does to it.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const create = globalThis.createScatterplot;
  const $ = (id) => document.getElementById(id);
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  const EXTENSIONS = ["OES_texture_float", "OES_element_index_uint", "WEBGL_color_buffer_float", "EXT_float_blend"];
  const HALO = 3;
  const SHOWN = 60; // thumbnails of a selection
  const state = { run: 0, hidden: new Set(), selection: [], pinned: -1, hover: -1, drag: "panZoom" };
  let run, maps = [], morph = null, renderer = null, sheetUrls = new Map();

  // Small things.

  function el(tag, properties = {}, ...children) {
    const { dataset, style, ...rest } = properties;
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(rest)) {
      if (name in node && !name.startsWith("aria")) node[name] = value;
      else node.setAttribute(name, value);
    }
    Object.assign(node.dataset, dataset);
    Object.assign(node.style, style);
    node.append(...children.filter((child) => child !== null && child !== undefined));
    return node;
  }

  function unpack(text, Type) {
    const raw = atob(text);
    const bytes = new Uint8Array(raw.length);
    for (let k = 0; k < raw.length; k++) bytes[k] = raw.charCodeAt(k);
    // Little-endian, as all browsers' machines are.
    return new Type(bytes.buffer);
  }

  const counted = new Intl.NumberFormat("en-GB");
  const number = (value) => counted.format(value);
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const className = (k) => (k >= 0 && k < run.classes.length ? run.classes[k] : "?");
  // What an image is called, and its class where that is known.
  const nameOf = (row) => (run.ids ? run.ids[row] : `image ${run.index[row]}`);
  const withClass = (row) => nameOf(row) + (run.labelled ? `, ${className(run.labels[row])}` : "");
  const active = () => (state.hover >= 0 ? state.hover : state.pinned);
  const visible = (row) => !state.hidden.has(run.labels[row]);
  const every = () => (morph ? [...maps, morph] : maps);

  function median(values) {
    values.sort();
    return values.length ? values[values.length >> 1] : 0;
  }

  // A run's arrays, unpacked when it is first shown.

  function unpacked(packed) {
    if (packed.ready) return packed;
    packed.labels = unpack(packed.labels, Uint32Array);
    packed.index = unpack(packed.index, Uint32Array);
    packed.rowOf = new Map(Array.from(packed.index, (value, row) => [value, row]));
    // What a reader may type: the whole name, or its last part, where only one image has that.
    packed.rowOfId = namesOf(packed.ids ?? []);
    packed.counts = new Array(packed.classes.length).fill(0);
    for (const label of packed.labels) packed.counts[label]++;
    const kinds = {
      knn_before: Int32Array, knn_after: Int32Array, head_after: Int32Array, head_probability: Float32Array,
      neighbors_before: Int32Array, neighbors_after: Int32Array,
    };
    for (const name of Object.keys(packed.measures)) {
      packed.measures[name] = unpack(packed.measures[name], kinds[name]);
    }
    for (const map of packed.maps) {
      const flat = unpack(map.coords, Float32Array);
      map.x = Float32Array.from({ length: packed.n }, (_, row) => flat[2 * row]);
      map.y = Float32Array.from({ length: packed.n }, (_, row) => flat[2 * row + 1]);
      delete map.coords;
    }
    // A fixed shuffle: in the order of the classes the last one would hide the others.
    packed.order = shuffled(packed.n);
    packed.ready = true;
    return packed;
  }

  function namesOf(ids) {
    const rows = new Map();
    ids.forEach((id, row) => {
      const last = id.slice(id.lastIndexOf("/") + 1).toLowerCase();
      rows.set(last, rows.has(last) ? undefined : row);
    });
    ids.forEach((id, row) => rows.set(id.toLowerCase(), row));
    return rows;
  }

  function shuffled(n) {
    const order = Array.from({ length: n }, (_, k) => k);
    let seed = 1;
    for (let k = n - 1; k > 0; k--) {
      seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
      const other = Math.floor((seed / 4294967296) * (k + 1));
      [order[k], order[other]] = [order[other], order[k]];
    }
    return order;
  }

  function mediansOf(x, y) {
    const rows = run.classes.map(() => []);
    run.labels.forEach((label, row) => rows[label].push(row));
    return rows.map((own) =>
      own.length
        ? [median(Float32Array.from(own, (row) => x[row])), median(Float32Array.from(own, (row) => y[row]))]
        : null);
  }

  // Thumbnails.

  function sheetUrl(key) {
    if (!sheetUrls.has(key)) {
      const [head, body] = data.sheets[key].split(",");
      const blob = new Blob([unpack(body, Uint8Array)], { type: head.slice(5, head.indexOf(";")) });
      sheetUrls.set(key, URL.createObjectURL(blob));
    }
    return sheetUrls.get(key);
  }

  function thumb(row, size) {
    const images = run.images;
    if (!images) return null;
    const scale = size / Math.max(images.width, images.height);
    const [width, height] = [images.width * scale, images.height * scale];
    const perSheet = images.columns ** 2;
    const at = row % perSheet;
    const rows = Math.ceil(Math.min(perSheet, run.n - (row - at)) / images.columns);
    return el("span", {
      className: "thumb", role: "img", "aria-label": withClass(row),
      dataset: { row },
      style: {
        width: `${width}px`, height: `${height}px`,
        backgroundImage: `url(${sheetUrl(images.sheets[Math.floor(row / perSheet)])})`,
        backgroundSize: `${images.columns * width}px ${rows * height}px`,
        backgroundPosition: `${-(at % images.columns) * width}px ${-Math.floor(at / images.columns) * height}px`,
      },
    });
  }

  function thumbButton(row, reference) {
    const label = run.labels[row];
    const other = reference !== undefined && label !== reference;
    // Without a picture, a name is all that tells which image it is.
    const named = run.images ? "" : " named";
    const short = run.ids ? run.ids[row].split("/").pop() : `no. ${run.index[row]}`;
    return el("button", {
      type: "button", className: (other ? "other" : "") + named, title: withClass(row), onclick: () => pin(row),
    }, thumb(row, 36), run.images ? null : el("span", {}, short), run.labelled ? el("em", {}, className(label)) : null);
  }

  // Maps.

  const pointSize = (side) =>
    Math.min(7, Math.max(1.1, 4 * (2000 / run.n) ** 0.33)) * Math.min(1.6, Math.max(0.8, side / 360));

  function makeMap(x, y, title, host, note) {
    const frame = el("div", { className: "frame", tabIndex: 0, role: "application",
      "aria-label": `${title}: arrow keys step through the images, Esc clears` });
    const canvas = el("canvas", { className: "live" });
    const over = el("canvas", { className: "over" });
    const still = el("canvas", { className: "still" });
    frame.append(canvas, over, still);
    host.append(el("figure", { className: "map" }, el("figcaption", {}, title, note ? el("small", {}, note) : null), frame));
    const map = { x, y, title, frame, canvas, over, still, medians: mediansOf(x, y), plot: null, host };
    frame.addEventListener("keydown", (event) => onKey(event, map));
    // A wheel over six maps would never scroll the page.
    frame.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey) event.stopPropagation();
    }, { capture: true, passive: true });
    return map;
  }

  async function startPlot(map) {
    const plot = create.default({
      renderer, canvas: map.canvas, colorBy: "valueA", pointColor: run.colours, pointColorActive: run.colours,
      pointColorHover: css("--ink"), backgroundColor: css("--paper"), opacity: run.n > 20000 ? 0.6 : 0.85,
      pointSize: pointSize(map.frame.clientWidth), pointSizeSelected: 1, pointOutlineWidth: 0,
      opacityInactiveMax: 0.16, opacityInactiveScale: 0.3, lassoColor: css("--mark"), lassoLineWidth: 2,
      actionKeyMap: { lasso: "shift", merge: "ctrl", remove: "alt" }, mouseMode: state.drag,
      deselectOnEscape: false, showReticle: false,
    });
    plot.subscribe("pointover", (row) => setHover(row));
    plot.subscribe("pointout", () => setHover(-1));
    plot.subscribe("select", ({ points }) => onSelect(map, points));
    plot.subscribe("deselect", () => clear());
    plot.subscribe("view", () => overlay(map));
    await plot.draw({ x: map.x, y: map.y, z: run.labels }, { zDataType: "categorical" });
    plot.set({ pointOrder: run.order });
    map.plot = plot; // only now does it take a selection or a filter
  }

  function onSelect(map, points) {
    if (points.length === 1) {
      every().forEach((each) => each.plot?.deselect({ preventEvent: true }));
      state.selection = [];
      pin(points[0]);
      showSelection();
    } else {
      select(points);
    }
  }

  function place(map, x, y) {
    const view = map.plot ? map.plot.get("cameraView") : [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1];
    const side = map.frame.clientWidth;
    return [
      (side * (view[0] * x + view[4] * y + view[12] + 1)) / 2,
      side * (0.5 - (view[1] * x + view[5] * y + view[13]) / 2),
    ];
  }

  function sized(canvas, side) {
    const ratio = devicePixelRatio || 1;
    const pixels = Math.round(side * ratio);
    if (canvas.width !== pixels) canvas.width = canvas.height = pixels;
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, side, side);
    return context;
  }

  const waiting = new Set();
  function overlay(map) {
    if (!waiting.size) {
      requestAnimationFrame(() => {
        const due = [...waiting];
        waiting.clear();
        due.forEach(drawOverlay);
      });
    }
    waiting.add(map);
  }
  const overlays = () => every().forEach(overlay);

  function drawOverlay(map) {
    const side = map.frame.clientWidth;
    if (!side) return;
    const context = sized(map.over, side);
    const row = active();
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

  // Class names at the medians, so that colour is not all that tells a class; moved apart where they overlap.
  function drawNames(context, map, side, ink, halo) {
    // On a small map so many names would hide what they name.
    if (!run.labelled || (run.classes.length > 40 && side < 420)) return;
    const long = run.classes.length > 10 || run.classes.some((name) => name.length > 10);
    const size = run.classes.length > 40 ? 9 : 12.5;
    context.font = `700 ${size}px system-ui, sans-serif`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.lineJoin = "round";
    const names = [];
    map.medians.forEach((centre, k) => {
      if (!centre || state.hidden.has(k)) return;
      const [x, y] = place(map, ...centre);
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
        for (let j = i + 1; j < names.length; j++) {
          const [a, b] = [names[i], names[j]];
          const [dx, dy] = [b.x - a.x, b.y - a.y];
          const ox = (a.width + b.width) / 2 - Math.abs(dx);
          const oy = (a.height + b.height) / 2 - Math.abs(dy);
          if (ox <= 0 || oy <= 0) continue;
          moved = true;
          if (ox < oy) { const step = (ox / 2 + 0.1) * (dx < 0 ? -1 : 1); a.x -= step; b.x += step; }
          else { const step = (oy / 2 + 0.1) * (dy < 0 ? -1 : 1); a.y -= step; b.y += step; }
        }
      }
      for (const each of names) {
        each.x = Math.min(side - each.width / 2, Math.max(each.width / 2, each.x));
        each.y = Math.min(side - each.height / 2, Math.max(each.height / 2, each.y));
      }
      if (!moved) break;
    }
  }

  // A still picture without WebGL: for paper, and for browsers that have none.
  function drawStill(map, ink = "#16191d", halo = "#fff") {
    const side = 720;
    map.still.width = map.still.height = side;
    const context = map.still.getContext("2d");
    const radius = Math.max(0.8, pointSize(360) * 0.9);
    context.globalAlpha = 0.8;
    for (const row of run.order) {
      if (!visible(row)) continue;
      const x = (side * (map.x[row] + 1)) / 2;
      const y = (side * (1 - map.y[row])) / 2;
      context.fillStyle = run.colours[run.labels[row]];
      context.beginPath();
      context.arc(x, y, radius, 0, 2 * Math.PI);
      context.fill();
    }
    context.globalAlpha = 1;
    context.scale(2, 2);
    const plot = map.plot;
    map.plot = null; // the whole map, however far the reader has zoomed
    const frame = map.frame;
    map.frame = { clientWidth: side / 2 };
    drawNames(context, map, side / 2, ink, halo);
    map.plot = plot;
    map.frame = frame;
  }

  // What a reader does.

  function neighborsOf(row, stage) {
    const all = run.measures[`neighbors_${stage}`];
    if (!all) return null;
    const k = all.length / run.n;
    return all.subarray(row * k, (row + 1) * k);
  }

  function setHover(row) {
    if (state.hover === row) return;
    state.hover = row;
    showPoint();
    overlays();
  }

  function pin(row) {
    state.pinned = row;
    showPoint();
    overlays();
    tell(row < 0 ? "Cleared" : described(row));
  }

  function select(rows) {
    state.selection = [...new Set(rows)].filter(visible).sort((a, b) => a - b);
    applySelection();
    showSelection();
    tell(`${number(state.selection.length)} images selected`);
  }

  function applySelection() {
    for (const map of every()) {
      if (!map.plot) continue;
      if (state.selection.length) map.plot.select(state.selection, { preventEvent: true });
      else map.plot.deselect({ preventEvent: true });
    }
    overlays();
  }

  function clear() {
    state.selection = [];
    state.hover = -1;
    applySelection();
    showSelection();
    pin(-1);
  }

  async function toggle(classes) {
    state.hidden = new Set(classes);
    showLegend();
    const rows = [];
    for (let row = 0; row < run.n; row++) if (visible(row)) rows.push(row);
    await Promise.all(every().filter((map) => map.plot).map((map) =>
      state.hidden.size
        ? map.plot.filter(rows, { preventEvent: true })
        : map.plot.unfilter({ preventEvent: true })));
    if (!renderer) maps.forEach((map) => drawStill(map, css("--ink"), css("--halo")));
    state.selection = state.selection.filter(visible);
    if (state.pinned >= 0 && !visible(state.pinned)) state.pinned = -1;
    applySelection();
    showSelection();
    showPoint();
  }

  function step(by) {
    const rows = state.selection.length ? state.selection : null;
    let row = state.pinned;
    if (rows) {
      const at = rows.indexOf(row);
      row = rows[at < 0 ? (by > 0 ? 0 : rows.length - 1) : (at + by + rows.length) % rows.length];
    } else {
      for (let tried = 0; tried < run.n; tried++) {
        row = row < 0 ? (by > 0 ? 0 : run.n - 1) : (row + by + run.n) % run.n;
        if (visible(row)) break;
      }
      if (!visible(row)) return;
    }
    state.hover = -1;
    pin(row);
  }

  function onKey(event, map) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const zoom = { "+": 1 / 1.5, "=": 1 / 1.5, "-": 1.5 }[event.key];
    const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, PageDown: 10, PageUp: -10 }[event.key];
    if (by) step(by);
    else if (zoom && map.plot) {
      const target = map.plot.get("cameraTarget");
      map.plot.zoomToLocation([...target], map.plot.get("cameraDistance") * zoom);
    } else if (event.key === "0" && map.plot) map.plot.zoomToOrigin();
    else return;
    event.preventDefault();
  }

  function find(text) {
    const value = Number(text.trim().replaceAll(",", ""));
    const named = run.rowOfId.get(text.trim().normalize("NFC").toLowerCase());
    const row = named ?? (text.trim() && Number.isInteger(value) ? run.rowOf.get(value) : undefined);
    if (row === undefined) {
      $("found").textContent = `not among the ${number(run.n)} images on the maps`;
      return;
    }
    $("found").textContent = "";
    state.hover = -1;
    if (!visible(row)) toggle([...state.hidden].filter((k) => k !== run.labels[row]));
    pin(row);
  }

  function showAll(whole) {
    for (const map of every()) {
      if (!map.plot) continue;
      const options = { transition: !calm.matches, transitionDuration: 300 };
      if (!whole) { map.plot.zoomToOrigin(options); continue; }
      let [left, right, bottom, top] = [-1, 1, -1, 1];
      for (let row = 0; row < run.n; row++) {
        left = Math.min(left, map.x[row]); right = Math.max(right, map.x[row]);
        bottom = Math.min(bottom, map.y[row]); top = Math.max(top, map.y[row]);
      }
      const half = (Math.max(right - left, top - bottom) / 2) * 1.04;
      map.plot.zoomToLocation([(left + right) / 2, (bottom + top) / 2], half, options);
    }
  }

  // What a reader sees beside the maps.

  function predictions(row) {
    const { knn_before: knn, knn_after: later, head_after: head, head_probability: probability } = run.measures;
    const label = run.labels[row];
    const rows = [];
    if (knn) rows.push(["before, 10-NN", className(knn[row]), knn[row] === label]);
    if (head) {
      const sure = probability ? ` (${(100 * probability[row]).toFixed(0)}\u00a0%)` : "";
      rows.push(["after, head", className(head[row]) + sure, head[row] === label]);
    } else if (later) {
      rows.push(["after, 10-NN", className(later[row]), later[row] === label]);
    }
    return rows;
  }

  function described(row) {
    const said = predictions(row).map(([when, what]) => `${when}: ${what}`).join(", ");
    const which = run.labelled ? `, class ${className(run.labels[row])}` : "";
    return `Image ${run.index[row]}${run.ids ? `, ${run.ids[row]}` : ""}${which}${said ? `, ${said}` : ""}`;
  }

  let told = 0;
  function tell(text) {
    clearTimeout(told);
    told = setTimeout(() => { $("told").textContent = text; }, 120);
  }

  function showPoint() {
    const row = active();
    const host = $("point");
    if (row < 0) {
      host.replaceChildren(el("h3", {}, "Image"), el("p", { className: "quiet" }, "Point at a dot."));
      host.dataset.row = "";
      return;
    }
    const facts = el("dl", {});
    const add = (name, value, wrong) =>
      facts.append(el("dt", {}, name), el("dd", { className: wrong ? "wrong" : "" }, value + (wrong ? " ✗" : "")));
    if (run.ids) add("name", run.ids[row]);
    if (run.labelled) add("class", className(run.labels[row]));
    for (const [when, what, right] of predictions(row)) add(when, what, !right);
    // A path may be long: it breaks anywhere.
    const name = run.ids && el("p", { className: "quiet name", style: { overflowWrap: "anywhere" } }, run.ids[row]);
    const parts = [el("h3", {}, `Image ${run.index[row]}`), ...(name ? [name] : []), el("div", { className: "seen" }, thumb(row, 72), facts)];
    for (const stage of ["before", "after"]) {
      const neighbors = neighborsOf(row, stage);
      if (!neighbors) continue;
      parts.push(el("p", { className: "row-title" }, `Nearest in the features ${stage}`));
      parts.push(el("div", { className: "thumbs", dataset: { stage } },
        ...Array.from(neighbors, (other) => thumbButton(other, run.labels[row]))));
    }
    host.replaceChildren(...parts);
    host.dataset.row = row;
  }

  function showSelection() {
    const host = $("selection");
    const rows = state.selection;
    host.dataset.count = rows.length;
    if (!rows.length) { host.replaceChildren(); return; }
    const counts = new Map();
    for (const row of rows) counts.set(run.labels[row], (counts.get(run.labels[row]) ?? 0) + 1);
    const ranked = [...counts].sort((a, b) => b[1] - a[1]);
    const shares = el("div", { className: "shares" });
    for (const [label, count] of run.labelled ? ranked : []) {
      shares.append(el("b", { title: className(label) }, className(label)),
        el("i", { style: { width: `${(100 * count) / ranked[0][1]}%`, background: run.colours[label] } }),
        el("span", {}, number(count)));
    }
    const shown = rows.slice(0, SHOWN);
    const note = rows.length > SHOWN ? `The first ${SHOWN}:` : "Images:";
    host.replaceChildren(
      el("h3", {}, `${number(rows.length)} images selected`), shares,
      el("p", { className: "row-title" }, note),
      el("div", { className: "thumbs" }, ...shown.map((row) => thumbButton(row))),
      el("p", { className: "row-title" },
        el("button", { type: "button", onclick: clear }, "Clear"), " ",
        el("button", { type: "button", onclick: saveSelection }, "Save as CSV")));
  }

  function saveSelection() {
    const quoted = (text) => `"${text.replaceAll('"', '""')}"`;
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

  function showLegend() {
    $("legend").hidden = !run.labelled;
    $("index").placeholder = run.ids ? "or name" : "";
    $("index").inputMode = run.ids ? "text" : "numeric";
    $("index").size = run.ids ? 16 : 7;
    const all = run.classes.map((_, k) => k);
    const numbered = run.classes.length > 10 || run.classes.some((name) => name.length > 10);
    const focused = document.activeElement?.closest?.("#legend") ? document.activeElement.dataset.class : null;
    const buttons = run.classes.map((name, k) =>
      el("button", {
        type: "button", "aria-pressed": String(!state.hidden.has(k)), dataset: { class: k },
        title: "Click hides or shows the class; a double click shows it alone",
        onclick: () => toggle(state.hidden.has(k) ? [...state.hidden].filter((other) => other !== k) : [...state.hidden, k]),
        ondblclick: () => toggle(all.filter((other) => other !== k)),
      }, el("i", { style: { background: run.colours[k] } }), numbered && name !== String(k) ? `${k} ${name}` : name,
      el("small", {}, number(run.counts[k]))));
    $("legend").replaceChildren(...buttons,
      el("button", { type: "button", dataset: { class: "all" }, onclick: () => toggle([]) }, "All"),
      el("button", { type: "button", dataset: { class: "none" }, onclick: () => toggle(all) }, "None"));
    if (focused !== null) $("legend").querySelector(`[data-class="${focused}"]`)?.focus();
  }

  // The morph.

  const pair = (method) => ["before", "after"].map((stage) =>
    run.maps.find((map) => map.method === method && map.stage === stage));

  const paired = () =>
    [...new Set(run.maps.map((map) => map.method))].filter((method) => pair(method).every(Boolean));

  async function makeMorph() {
    const methods = paired();
    if (!methods.length || morph) return;
    const preferred = methods.includes("tsne") ? "tsne" : methods[0];
    const [before] = pair(preferred);
    const shown = run;
    morph = makeMap(before.x, before.y, "", $("morph-map"), "");
    Object.assign(morph, { methods, stage: "before" });
    fitRenderer();
    await startPlot(morph);
    if (shown !== run) return;
    if (state.hidden.size) await toggle([...state.hidden]);
    await setMethod(preferred);
    applySelection();
  }

  // Its points cost as much as a map's: not before somebody looks.
  const watcher = new IntersectionObserver((seen) => {
    if (seen.some((each) => each.isIntersecting) && document.documentElement.dataset.ready) makeMorph();
  }, { rootMargin: "200px" });

  async function setMethod(method) {
    stop();
    morph.method = method;
    [morph.from, morph.to] = pair(method);
    $("morph-method").replaceChildren(...morph.methods.map((each) =>
      el("button", { type: "button", "aria-pressed": String(each === method), dataset: { method: each },
        onclick: () => setMethod(each) }, pair(each)[0].name)));
    morph.frame.setAttribute("aria-label", `${pair(method)[0].name} between before and after`);
    $("blend").value = 0;
    await blend(0, true);
  }

  let drawing = false, next = null;
  async function blend(t, last = false) {
    if (!morph?.from) return;
    if (drawing) { next = [t, last]; return; }
    drawing = true;
    const { from, to } = morph;
    const [x, y] = [new Float32Array(run.n), new Float32Array(run.n)];
    for (let row = 0; row < run.n; row++) {
      x[row] = from.x[row] + t * (to.x[row] - from.x[row]);
      y[row] = from.y[row] + t * (to.y[row] - from.y[row]);
    }
    morph.x = x;
    morph.y = y;
    morph.t = t;
    morph.stage = t < 0.5 ? "before" : "after";
    morph.medians = mediansOf(x, y);
    // While it moves nobody points at it: the index of the places is built at the end.
    const options = { zDataType: "categorical", preventFilterReset: true };
    if (!last) options.spatialIndex = morph.plot.get("spatialIndex");
    await morph.plot.draw({ x, y, z: run.labels }, options);
    overlay(morph);
    drawing = false;
    if (next) { const queued = next; next = null; await blend(...queued); }
  }

  let playing = 0;
  function stop() {
    cancelAnimationFrame(playing);
    playing = 0;
    $("play").textContent = "▶ Play";
  }

  function play() {
    if (!morph?.from) return;
    if (playing) { stop(); blend(Number($("blend").value) / 100, true); return; }
    const from = Number($("blend").value) / 100 >= 1 ? 1 : Number($("blend").value) / 100;
    const to = from >= 0.5 ? 0 : 1;
    if (calm.matches) { $("blend").value = 100 * to; blend(to, true); return; }
    $("play").textContent = "❚❚ Pause";
    const began = performance.now();
    const time = 1800 * Math.abs(to - from) || 1;
    const tick = (now) => {
      const part = Math.min(1, Math.max(0, (now - began) / time));
      const eased = part * part * (3 - 2 * part);
      const t = from + (to - from) * eased;
      $("blend").value = 100 * t;
      blend(t, part >= 1);
      if (part < 1) playing = requestAnimationFrame(tick);
      else stop();
    };
    playing = requestAnimationFrame(tick);
  }

  // Showing a run.

  function fitRenderer() {
    const side = Math.max(...every().map((map) => map.frame.clientWidth), 1);
    // It only may be larger: every map takes its middle.
    const have = renderer.canvas.width / devicePixelRatio;
    if (have >= side && have <= 1.5 * side) return;
    renderer.resize(side, side);
    every().forEach((map) => map.plot?.redraw());
  }

  async function showRun(k) {
    document.documentElement.dataset.ready = "";
    stop();
    every().forEach((map) => map.plot?.destroy());
    Object.assign(state, { run: k, hidden: new Set(), selection: [], pinned: -1, hover: -1 });
    run = unpacked(data.runs[k]);
    $("index").previousElementSibling.textContent = run.ids ? "Image no. or name" : "Image no.";
    $("index").inputMode = run.ids ? "text" : "numeric";
    $("index").size = run.ids ? 20 : 7;
    document.querySelectorAll("[data-run]").forEach((part) => { part.hidden = Number(part.dataset.run) !== k; });
    const methods = [...new Set(run.maps.map((map) => map.method))];
    const stages = [...new Set(run.maps.map((map) => map.stage))];
    // Of one method the stages stand side by side.
    $("grid").style.setProperty("--methods", Math.max(methods.length, 2));
    $("grid").style.setProperty("--stages", stages.length);
    $("grid").replaceChildren();
    $("morph-map").replaceChildren();
    morph = null;
    maps = run.maps.map(({ x, y, stage, method, name, outside }) => {
      const note = outside ? `${number(outside)} outside the view` : "";
      const map = makeMap(x, y, `${name} ${stage}`, $("grid"), note);
      Object.assign(map, { stage, method });
      map.frame.parentElement.style.setProperty("--pair", methods.indexOf(method) * 2 + stages.indexOf(stage));
      const small = map.frame.parentElement.querySelector("small");
      if (small) small.title = "The view is fitted to the middle 99 % of either axis; “Show all points” shows the rest too";
      return map;
    });
    showLegend();
    showPoint();
    showSelection();
    $("morph").hidden = !renderer || !paired().length;
    if (renderer) {
      fitRenderer();
      await Promise.all(maps.map(startPlot));
      watcher.unobserve($("morph"));
    } else {
      maps.forEach((map) => drawStill(map, css("--ink"), css("--halo")));
    }
    overlays();
    document.documentElement.dataset.ready = "true";
    if (renderer) watcher.observe($("morph"));
    report.readyAfter ??= performance.now();
  }

  const THEMES = ["system", "light", "dark"];
  function setTheme(theme) {
    if (theme === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    $("theme").textContent = `Colours: ${theme}`;
    $("theme").setAttribute("aria-label", `Colours: ${theme}; click for the next`);
    recolour();
  }

  function recolour() {
    for (const map of every()) {
      map.plot?.set({ backgroundColor: css("--paper"), pointColorHover: css("--ink"), lassoColor: css("--mark") });
      if (!renderer) drawStill(map, css("--ink"), css("--halo"));
    }
    overlays();
  }

  function connect() {
    $("search").addEventListener("submit", (event) => { event.preventDefault(); find($("index").value); });
    $("fit").onclick = () => showAll(false);
    $("whole").onclick = () => showAll(true);
    $("play").onclick = play;
    $("blend").addEventListener("input", () => { stop(); blend(Number($("blend").value) / 100); });
    $("blend").addEventListener("change", () => blend(Number($("blend").value) / 100, true));
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
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);
    let opened = [];
    addEventListener("beforeprint", () => {
      maps.forEach((map) => drawStill(map));
      opened = [...document.querySelectorAll("main details:not([open])")];
      opened.forEach((each) => { each.open = true; });
    });
    addEventListener("afterprint", () => opened.forEach((each) => { each.open = false; }));
    let resized = 0;
    addEventListener("resize", () => {
      clearTimeout(resized);
      resized = setTimeout(() => {
        if (!renderer) return;
        fitRenderer();
        for (const map of every()) {
          map.plot?.set({ pointSize: pointSize(map.frame.clientWidth) });
          map.plot?.redraw();
        }
        overlays();
      }, 120);
    });
  }

  function startRenderer() {
    try {
      const canvas = document.createElement("canvas");
      // The library's own context is multisampled, at several times the cost, to draw one rectangle.
      const gl = canvas.getContext("webgl", { antialias: false, preserveDrawingBuffer: true });
      const regl = createREGL({ gl, extensions: EXTENSIONS.filter((name) => gl.getExtension(name)) });
      renderer = create.createRenderer({ canvas, regl });
    } catch (error) {
      renderer = null;
      document.documentElement.classList.add("no-webgl");
      $("fault").hidden = false;
      $("fault").textContent =
        "This browser has no WebGL, so the maps are still pictures; search and the arrow keys work.";
    }
  }

  // For scripts, and for the tests of this page.
  const report = {
    state, data, get run() { return run; }, get maps() { return maps; }, get morph() { return morph; },
    pin, select, clear, toggle, find, blend, place, readyAfter: undefined,
  };
  globalThis.jaxtlReport = report;

  startRenderer();
  connect();
  showRun(0);
})();
