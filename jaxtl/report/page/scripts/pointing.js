// A map that is still a picture answers the pointer as one that is drawn does: it shows the dot that is near.
import { state, visible } from "./state.js";
import { setHover, take } from "./actions.js";
import { placer } from "./views.js";

const REACH = 7, STILL = 4; // pixels: from a dot, and that a click may move

function nearest(map, event) {
  const box = map.frame.getBoundingClientRect();
  const [left, top] = [event.clientX - box.left - map.frame.clientLeft, event.clientY - box.top - map.frame.clientTop];
  const at = placer(map);
  let best = -1, least = REACH ** 2;
  for (let row = 0; row < map.run.n; row++) {
    const [x, y] = at(map.x[row], map.y[row]);
    const distance = (x - left) ** 2 + (y - top) ** 2;
    if (distance < least && visible(row)) [best, least] = [row, distance];
  }
  return best;
}

export function takePointer(map) {
  const { frame } = map;
  let own = false; // whether the dot that is shown was found here
  let pressed = null, dragged = false;
  const leave = () => { if (own) setHover(-1); own = false; };
  frame.addEventListener("pointerdown", (event) => { [pressed, dragged] = [event, false]; });
  frame.addEventListener("pointermove", (event) => {
    if (pressed && Math.hypot(event.clientX - pressed.clientX, event.clientY - pressed.clientY) > STILL) dragged = true;
    if (map.plot) { leave(); return; }
    if (event.pointerType === "touch") return;
    own = true;
    state.pointed = map;
    setHover(nearest(map, event));
  });
  frame.addEventListener("pointerleave", leave);
  frame.addEventListener("click", (event) => { if (!map.plot && !dragged) take(nearest(map, event)); });
}
