// A link with a selection opens the page at its top, far above the maps: a line there says what it brought.
import { button, el, images } from "./nodes.js";
import { listen, state } from "./state.js";

/** To the maps and the panel beside them. */
export const toTheMaps = () => document.querySelector(".explorer").scrollIntoView({ block: "start" });

/** Once the page shows what its address says; the line goes with the selection, or when the reader does. */
export function showArrival() {
  if (!state.selection.length && state.pinned < 0) return;
  const line = el("p", { className: "arrival", role: "status" });
  const fill = () => {
    const many = state.selection.length;
    if (!many && state.pinned < 0) { line.remove(); return; }
    const told = many ? `${images(many)} selected. ` : `Image ${state.run.index[state.pinned]} is shown. `;
    line.replaceChildren(told, button(`See ${many === 1 || !many ? "it" : "them"} on the maps`,
      () => { line.remove(); toTheMaps(); }, { dataset: { act: "arrival" } }));
  };
  fill();
  document.querySelector("main").prepend(line);
  listen("selection point", fill);
}
