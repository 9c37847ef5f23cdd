// One WebGL context for all maps, made when the first of them is; null where the browser has none.
import { $ } from "./nodes.js";
import { changed, every, state } from "./state.js";

const EXTENSIONS = ["OES_texture_float", "OES_element_index_uint", "WEBGL_color_buffer_float", "EXT_float_blend"];

/**
 * regl, but that it compiles a command when that is first given to draw. The library of the maps has 13 commands for
 * each map: one that is only looked at needs one of them, and no shader of a lasso, a line or a background picture.
 */
function compilingLate(regl) {
  return new Proxy(regl, {
    apply(_, self, [settings]) {
      let command = null;
      return (...given) => (command ??= regl(settings)).apply(self, given);
    },
  });
}

/** Whether there is a renderer. */
export function startRenderer() {
  if (state.renderer !== undefined) return Boolean(state.renderer);
  try {
    const canvas = document.createElement("canvas");
    // The library's own context is multisampled, at several times the cost, to draw one rectangle.
    const gl = canvas.getContext("webgl", { antialias: false, preserveDrawingBuffer: true });
    const regl = createREGL({ gl, extensions: EXTENSIONS.filter((name) => gl.getExtension(name)) });
    state.renderer = globalThis.createScatterplot.createRenderer({ canvas, regl: compilingLate(regl) });
  } catch (error) {
    state.renderer = null;
    document.documentElement.classList.add("no-webgl");
    $("fault").hidden = false;
    $("fault").textContent =
      "This browser has no WebGL, so the maps cannot be zoomed; pointing, a lasso, search and the arrow keys work.";
    changed("renderer");
  }
  return Boolean(state.renderer);
}

/** Make the renderer's canvas as large as the largest map. */
export function fitRenderer() {
  if (!state.renderer) return;
  // It may be larger: every map takes its middle, which lies on whole pixels where both sides are even, as the style
  // makes those of maps. A new canvas is 300 wide and 150 high.
  const side = 2 * Math.ceil(Math.max(...every().map((map) => map.frame.clientWidth), 1) / 2);
  const { width, height } = state.renderer.canvas;
  const fits = (pixels) => pixels >= side * devicePixelRatio && pixels <= 1.5 * side * devicePixelRatio;
  if (fits(width) && fits(height)) return;
  state.renderer.resize(side, side);
  every().forEach((map) => map.plot?.redraw());
}
