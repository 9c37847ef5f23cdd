// Where the points of a class lie densest: the place of its name, and the line around the denser half of it.

const CELLS = 64; // a side of the grid over [-1, 1]
const PART = 0.5; // of a class that its line encloses

/** Counts of the rows of every class on a grid, smoothed: float [CELLS * CELLS] each, null for empty classes. */
function grids(map) {
  const { labels, classes, counts } = map.run;
  const grid = classes.map((_, k) => (counts[k] ? new Float32Array(CELLS * CELLS) : null));
  const cell = (value) => Math.floor(((value + 1) / 2) * CELLS);
  for (let row = 0; row < map.run.n; row++) {
    const [column, line] = [cell(map.x[row]), cell(map.y[row])];
    if (column >= 0 && line >= 0 && column < CELLS && line < CELLS) grid[labels[row]][line * CELLS + column] += 1;
  }
  // Few points leave rough grids: the fewer, the wider the blur.
  return grid.map((own, k) => {
    if (!own) return null;
    const radius = counts[k] > 2000 ? 1 : counts[k] > 100 ? 2 : 4;
    return blurred(blurred(own, radius), radius);
  });
}

function blurred(grid, radius) {
  return along(along(grid, radius, 1, CELLS), radius, CELLS, 1);
}

function along(grid, radius, step, stride) {
  const out = new Float32Array(grid.length);
  const width = 2 * radius + 1;
  for (let line = 0; line < CELLS; line++) {
    let sum = 0;
    const at = (k) => line * stride + k * step;
    for (let k = 0; k < radius; k++) sum += grid[at(k)];
    for (let k = 0; k < CELLS; k++) {
      if (k + radius < CELLS) sum += grid[at(k + radius)];
      if (k - radius > 0) sum -= grid[at(k - radius - 1)];
      out[at(k)] = sum / width;
    }
  }
  return out;
}

const middle = (k) => ((k + 0.5) / CELLS) * 2 - 1;

/** Of every class the centre of its densest cell, [x, y] in the map's unit square; null where it has no points. */
export function spotsOf(map) {
  map.grids ??= grids(map);
  return map.grids.map((grid) => {
    if (!grid) return null;
    let best = 0;
    for (let k = 1; k < grid.length; k++) if (grid[k] > grid[best]) best = k;
    return grid[best] > 0 ? [middle(best % CELLS), middle(Math.floor(best / CELLS))] : null;
  });
}

/** Of every class a path around the densest cells that together hold half of its points. */
export function contoursOf(map) {
  map.grids ??= grids(map);
  map.contours ??= map.grids.map((grid) => (grid ? outline(grid, levelOf(grid)) : null));
  return map.contours;
}

function levelOf(grid) {
  const sorted = grid.filter((value) => value > 0).sort(); // most cells of a class are empty
  const total = sorted.reduce((sum, value) => sum + value, 0);
  let [sum, k] = [0, sorted.length - 1];
  while (k > 0 && sum + sorted[k] < PART * total) sum += sorted[k--];
  return sorted[k] ?? 0;
}

// Which sides of a cell the line joins, by which of its corners are within: sides 0 to 3 clockwise from below.
const JOINED = [[], [[3, 0]], [[0, 1]], [[3, 1]], [[1, 2]], [[3, 2], [0, 1]], [[0, 2]], [[3, 2]],
  [[2, 3]], [[2, 0]], [[0, 3], [1, 2]], [[2, 1]], [[1, 3]], [[1, 0]], [[0, 3]], []];

/** Marching squares (Lorensen & Cline 1987, in the plane): straight pieces where the grid crosses a level. */
function outline(grid, level) {
  const path = new Path2D();
  for (let line = 0; line < CELLS - 1; line++) {
    for (let column = 0; column < CELLS - 1; column++) {
      const at = line * CELLS + column;
      const corner = [grid[at], grid[at + 1], grid[at + CELLS + 1], grid[at + CELLS]];
      const within = corner.reduce((bits, value, k) => bits | (Number(value >= level) << k), 0);
      for (const [from, to] of JOINED[within]) {
        path.moveTo(...crossing(corner, from, column, line, level));
        path.lineTo(...crossing(corner, to, column, line, level));
      }
    }
  }
  return path;
}

const CORNERS = [[0, 0], [1, 0], [1, 1], [0, 1]];

function crossing(corner, side, column, line, level) {
  const [a, b] = [side, (side + 1) % 4];
  const part = (level - corner[a]) / (corner[b] - corner[a] || 1);
  const [x, y] = [0, 1].map((axis) => CORNERS[a][axis] + part * (CORNERS[b][axis] - CORNERS[a][axis]));
  return [middle(column + x), middle(line + y)];
}
