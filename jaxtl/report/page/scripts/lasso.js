// A lasso drawn by a finger or a pen, or on a picture: the library of the maps follows the mouse alone, on what it draws.
import { css } from "./nodes.js";
import { state } from "./state.js";
import { clear, select, shownRows } from "./actions.js";
import { overlay } from "./overlay.js";
import { placer } from "./views.js";

const LEAST = 12; // pixels from end to end of what is drawn: less is a tap

/** A map's images within the line through these points of its frame, however often it crosses itself. */
function within(map, points) {
  const path = new Path2D();
  points.forEach(([x, y]) => path.lineTo(x, y));
  const context = document.createElement("canvas").getContext("2d");
  const at = placer(map);
  return shownRows().filter((row) => context.isPointInPath(path, ...at(map.x[row], map.y[row])));
}

function extent(points) {
  const reach = (axis) => {
    const own = points.map((point) => point[axis]);
    return Math.max(...own) - Math.min(...own);
  };
  return Math.max(reach(0), reach(1));
}

function drawLine(map, points) {
  const context = map.over.getContext("2d");
  context.beginPath();
  points.slice(-2).forEach(([x, y]) => context.lineTo(x, y));
  context.strokeStyle = css("--mark");
  context.lineWidth = 2;
  context.stroke();
}

/** While dragging draws a lasso, a finger on this map draws one; and a mouse does where the library does not see to it. */
export function takeLasso(map) {
  let points = null, finger = 0;
  const { frame } = map;
  const drawn = (event) => {
    const box = frame.getBoundingClientRect();
    return [event.clientX - box.left - frame.clientLeft, event.clientY - box.top - frame.clientTop];
  };
  const end = () => { points = null; overlay(map); };
  frame.addEventListener("pointerdown", (event) => {
    const mouse = event.pointerType === "mouse";
    if ((mouse && map.plot) || (state.drag !== "lasso" && !(mouse && event.shiftKey))) return;
    if (!event.isPrimary) { if (points) end(); return; } // two fingers enlarge the page
    [points, finger] = [[drawn(event)], event.pointerId];
  });
  frame.addEventListener("pointermove", (event) => {
    if (!points || event.pointerId !== finger) return;
    points.push(drawn(event));
    drawLine(map, points);
  });
  frame.addEventListener("pointerup", (event) => {
    if (!points || event.pointerId !== finger) return;
    const line = points;
    end();
    if (extent(line) < LEAST) return;
    const rows = within(map, line);
    if (rows.length) select(rows);
    else clear();
  });
  frame.addEventListener("pointercancel", end);
}
