// What the reader has chosen, in one place; whoever shows some of it is told when that part changes.

export const data = JSON.parse(document.getElementById("data").textContent);

export const state = {
  k: 0, run: null, beside: -1, // the run shown, and the one whose maps stand beside its
  maps: [], morph: null, renderer: undefined, // null: the browser has no WebGL
  hidden: new Set(), selection: [], chosen: "", pinned: -1, hover: -1, // rows; `chosen` names how rows were selected
  stepped: false, // whether the arrow keys led to the pinned image
  pointed: null, // the map that the pointer is on
  method: "", colour: "class", drag: "panZoom",
  linked: true, paths: true, contours: false,
};

export const active = () => (state.hover >= 0 ? state.hover : state.pinned);
export const visible = (row) => !state.hidden.has(state.run.labels[row]);
export const every = () => (state.morph ? [...state.maps, state.morph] : state.maps);

const listeners = new Map();

/** Call `listener` whenever one of the parts (point, selection, hidden, colour, method, look, run, renderer) changes. */
export function listen(parts, listener) {
  for (const part of parts.split(" ")) listeners.set(part, [...(listeners.get(part) ?? []), listener]);
}

export function changed(part, detail) {
  for (const listener of listeners.get(part) ?? []) listener(detail);
}
