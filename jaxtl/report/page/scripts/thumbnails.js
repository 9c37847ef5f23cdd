// Thumbnails: sheets of many images, each decoded when one of its images is first shown.
import { el } from "./nodes.js";
import { pin } from "./actions.js";
import { data, state } from "./state.js";
import { className, unpack, withClass } from "./runs.js";

const urls = new Map(), pictures = new Map();

function sheetUrl(key) {
  if (!urls.has(key)) {
    const [head, body] = data.sheets[key].split(",");
    const blob = new Blob([unpack(body, Uint8Array)], { type: head.slice(5, head.indexOf(";")) });
    urls.set(key, URL.createObjectURL(blob));
  }
  return urls.get(key);
}

/** Where an image is: its sheet, and its place and size there in pixels. */
function placeOf(row) {
  const images = state.run.images;
  const perSheet = images.columns ** 2;
  const at = row % perSheet;
  return {
    key: images.sheets[Math.floor(row / perSheet)],
    column: at % images.columns, line: Math.floor(at / images.columns),
    lines: Math.ceil(Math.min(perSheet, state.run.n - (row - at)) / images.columns),
  };
}

export function thumb(row, size) {
  const images = state.run.images;
  if (!images) return null;
  const scale = size / Math.max(images.width, images.height);
  const [width, height] = [images.width * scale, images.height * scale];
  const { key, column, line, lines } = placeOf(row);
  return el("span", {
    className: "thumb", role: "img", "aria-label": withClass(row),
    dataset: { row },
    style: {
      width: `${width}px`, height: `${height}px`,
      backgroundImage: `url(${sheetUrl(key)})`,
      backgroundSize: `${images.columns * width}px ${lines * height}px`,
      backgroundPosition: `${-column * width}px ${-line * height}px`,
    },
  });
}

/** A button that shows an image in the panel; `caption` stands below it instead of its class. */
export function thumbButton(row, { reference, caption, kept, after } = {}) {
  const run = state.run;
  const label = run.labels[row];
  const other = run.labelled && reference !== undefined && label !== reference;
  // Without a picture, a name is all that tells which image it is.
  const short = run.ids ? run.ids[row].split("/").pop() : `no. ${run.index[row]}`;
  const classes = [other && "other", kept && "kept", !run.images && "named"].filter(Boolean).join(" ");
  const said = withClass(row) + (kept ? ", among the nearest at both stages" : "");
  const under = caption ?? (run.labelled ? className(label) : null);
  return el("button", {
    type: "button", className: classes, title: said, "aria-label": `${said}${caption ? `, ${caption}` : ""}`,
    dataset: { image: row }, onclick: (event) => { pin(row); after?.(row, event.currentTarget); },
  }, thumb(row, 36), run.images ? null : el("span", {}, short), under === null ? null : el("em", {}, under));
}

/** Draw an image on a canvas; false while its sheet is still being decoded, after which `drawn` is called. */
export function drawThumb(context, row, x, y, size, drawn) {
  const images = state.run.images;
  const { key, column, line } = placeOf(row);
  if (!pictures.has(key)) {
    const picture = new Image();
    picture.onload = drawn;
    picture.src = sheetUrl(key);
    pictures.set(key, picture);
  }
  const picture = pictures.get(key);
  if (!picture.complete || !picture.naturalWidth) return false;
  const scale = size / Math.max(images.width, images.height);
  const [width, height] = [images.width * scale, images.height * scale];
  context.drawImage(picture, column * images.width, line * images.height, images.width, images.height,
    x - width / 2, y - height / 2, width, height);
  return true;
}
