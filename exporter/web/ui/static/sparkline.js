// Bitrate over time: a sparkline in a row, and a chart in a stream's view.

import { element, svg } from "./dom.js";
import { formatBitrate, formatDuration } from "./units.js";

const WIDTH = 120;
const HEIGHT = 28;
const CHART_WIDTH = 720;
const CHART_HEIGHT = 160;

/** Create a sparkline. It is hidden from screen readers, because the figure next to it is the last value. */
export function createSparkline() {
  const path = svg("path", { class: "line" });
  const node = svg("svg", { class: "small-line", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, "aria-hidden": "true" }, path);
  node.setAttribute("preserveAspectRatio", "none");
  return {
    node,
    update(values, expected) {
      const top = Math.max(expected ?? 0, ...filterKnown(values)) || 1;
      path.setAttribute("d", buildLinePath(values, WIDTH, HEIGHT, top));
    },
  };
}

/** Create the chart of a stream's view, with a summary in words. */
export function createChart(history, expected) {
  const values = history.ingest_bitrate_bytes_per_second ?? [];
  const seen = filterKnown(values);
  if (seen.length === 0) return element("p", { class: "quiet" }, "No bitrate data for the last 15 minutes.");
  const top = Math.max(expected ?? 0, ...seen) * 1.1 || 1;
  const minutes = Math.round((values.length * history.step_seconds) / 60);
  const [lowest, highest] = [Math.min(...seen), Math.max(...seen)].map(formatBitrate);
  const summary = `Lowest ${lowest}, highest ${highest} in the last ${minutes} minutes.`;
  const drawing = svg(
    "svg",
    {
      class: "chart",
      viewBox: `0 0 ${CHART_WIDTH} ${CHART_HEIGHT}`,
      preserveAspectRatio: "none",
      role: "img",
      "aria-label": `Ingest bitrate. ${summary}`,
    },
    [0.25, 0.5, 0.75].map((part) => createHorizontalLine(part * CHART_HEIGHT, "grid")),
    expected ? createHorizontalLine((1 - expected / top) * CHART_HEIGHT, "expected") : undefined,
    svg("path", { class: "area", d: buildAreaPath(values, top) }),
    svg("path", { class: "line", d: buildLinePath(values, CHART_WIDTH, CHART_HEIGHT, top) }),
  );
  return element(
    "figure",
    { class: "history" },
    element(
      "div",
      { class: "scale", "aria-hidden": "true" },
      element("span", {}, formatBitrate(top)),
      element("span", {}, "0"),
    ),
    drawing,
    element(
      "div",
      { class: "times", "aria-hidden": "true" },
      element("span", {}, `${formatDuration(values.length * history.step_seconds)} ago`),
      element("span", {}, "now"),
    ),
    element(
      "figcaption",
      {},
      summary,
      expected ? ` Dashed line: expected bitrate (${formatBitrate(expected)}).` : "",
    ),
  );
}

function filterKnown(values) {
  return values.filter((value) => value !== null);
}

function createHorizontalLine(y, name) {
  return svg("line", { class: name, x1: 0, x2: CHART_WIDTH, y1: y, y2: y });
}

/** Path with gaps where values are missing; a single point is a short dash. */
function buildLinePath(values, width, height, top) {
  const step = width / Math.max(values.length - 1, 1);
  return findRuns(values)
    .map(([start, run]) => {
      const points = run.map((value, index) => formatPoint((start + index) * step, value, height, top));
      return run.length === 1 ? `M${points[0]}h2` : `M${points.join("L")}`;
    })
    .join("");
}

function buildAreaPath(values, top) {
  const step = CHART_WIDTH / Math.max(values.length - 1, 1);
  return findRuns(values)
    .map(([start, run]) => {
      const points = run.map((value, index) => formatPoint((start + index) * step, value, CHART_HEIGHT, top));
      const [from, to] = [start * step, (start + run.length - 1) * step];
      return `M${from.toFixed(1)} ${CHART_HEIGHT}L${points.join("L")}L${to.toFixed(1)} ${CHART_HEIGHT}Z`;
    })
    .join("");
}

function formatPoint(x, value, height, top) {
  return `${x.toFixed(1)} ${(height - 1 - (value / top) * (height - 2)).toFixed(1)}`;
}

/** Runs of known values: [index of the first value, values]. */
function findRuns(values) {
  const found = [];
  values.forEach((value, index) => {
    if (value === null) return;
    const last = found.at(-1);
    if (last && last[0] + last[1].length === index) last[1].push(value);
    else found.push([index, [value]]);
  });
  return found;
}
