// A row of the list: one stream.

import { element, setText } from "./dom.js";
import { maintenanceLabel, pluralize, reasonLabel, severityShape, unknownLabel } from "./labels.js";
import { describePlayback } from "./playback.js";
import { streamUrl } from "./router.js";
import { createSparkline } from "./sparkline.js";
import { alertSeverity, isUnknown } from "./streams.js";
import { formatBitrate, formatCount, formatDelay, formatFrameRate, formatPercent } from "./units.js";

/** The columns, each with its sort order if it has one. */
export const COLUMNS = [
  { name: "state", label: "State", order: "attention" },
  { name: "stream", label: "Stream", order: "name" },
  { name: "health", label: "Health", order: "health" },
  { name: "bitrate", label: "Bitrate, last 15 min", order: "bitrate" },
  { name: "viewers", label: "Viewers", order: "viewers" },
  { name: "latency", label: "Latency, fps", order: "latency" },
  { name: "words", label: "Alerts and issues" },
];

/** Create a row for `VirtualList`. `histories.get(key)` is called at each update. */
export function createStreamRow(item, histories) {
  const { upstream, stream } = item.stream;
  const badge = element("span", { class: "badge" });
  const link = element("a", { class: "title", href: streamUrl(upstream, stream) }, stream);
  const below = element("span", { class: "sub" });
  const health = createFigure();
  const line = createSparkline();
  const rate = createFigure();
  const viewers = element("span", {});
  const viewersUnit = element("span", { class: "unit" });
  const latency = createFigure();
  const words = element("span", { class: "clamped" });
  const node = element(
    "div",
    { class: "row", role: "row" },
    createCell("state", badge),
    element("div", { class: "cell stream", role: "rowheader" }, link, below),
    createCell("health", health.nodes),
    createCell("bitrate", line.node, element("span", { class: "pair" }, rate.nodes)),
    createCell("viewers", viewers, viewersUnit),
    createCell("latency", latency.nodes),
    createCell("words", words),
  );
  return {
    node,
    update({ stream: facts, severity, word, maintenance, alerts, key, upstreamDown, chain }) {
      const unknown = isUnknown(facts);
      node.className = unknown ? `row ${severity} greyed` : `row ${severity}`;
      badge.className = `badge ${severity}`;
      setText(badge, `${severityShape(severity)} ${word}`);
      setText(below, [facts.upstream, facts.protocol, distinctName(facts)].filter(Boolean).join(" · "));
      const reasons = (facts.health_reasons ?? []).map(reasonLabel).join(", ");
      health.setTexts(formatKnown(facts.health_score_ratio, formatPercent), reasons);
      const expected = facts.expected_ingest_bitrate_bytes_per_second;
      line.update(histories.get(key)?.ingest_bitrate_bytes_per_second ?? [], expected);
      const expectedText = expected ? `of ${formatBitrate(expected)}` : "";
      rate.setTexts(formatKnown(facts.ingest_bitrate_bytes_per_second, formatBitrate), expectedText);
      const atLeast = facts.viewers_partial ? "≥ " : "";
      setText(viewers, formatKnown(facts.viewers, (count) => `${atLeast}${formatCount(count)}`));
      setText(viewersUnit, facts.viewers === undefined ? "" : pluralize(facts.viewers, "viewer", "viewers"));
      const frameRate = formatKnown(facts.frames_per_second, formatFrameRate);
      latency.setTexts(formatKnown(facts.latency_seconds, formatDelay), frameRate);
      const text = unknown ? formatUnknown(facts, upstreamDown) : formatIssues(facts);
      const texts = [describePlayback(facts, chain), text].filter(Boolean).join("; ");
      words.replaceChildren(...createMaintenanceBadge(maintenance), ...createAlertChips(alerts), texts);
    },
  };
}

/** Create the badge of a maintenance window, if there is one. */
export function createMaintenanceBadge(maintenance) {
  if (maintenance === undefined) return [];
  return [element("span", { class: "chip maintenance" }, maintenanceLabel(maintenance))];
}

/** Create a chip for each firing alert, and one for all pending alerts. */
function createAlertChips(alerts) {
  const firing = alerts.filter((alert) => alert.state === "firing").map(createAlertChip);
  const pending = alerts.filter((alert) => alert.state !== "firing");
  if (pending.length <= 1) return [...firing, ...pending.map(createAlertChip)];
  return [...firing, element("span", { class: "chip off" }, `${pending.length} pending`)];
}

/** Create the chip of an alert. */
export function createAlertChip(alert) {
  const waiting = alert.state === "firing" ? "" : ` (${alert.state})`;
  return element("span", { class: `chip ${alertSeverity(alert)}` }, `${alert.alertname}${waiting}`);
}

function formatUnknown(stream, upstreamDown) {
  const parts = [unknownLabel(stream), upstreamDown ? "upstream is down" : "", formatIssues(stream)];
  return parts.filter(Boolean).join("; ");
}

function formatIssues({ issues = [], issue_count: all = 0 }) {
  const more = all > issues.length ? ` and ${all - issues.length} more` : "";
  return issues.join("; ") + more;
}

/** The platform's name of a stream, if it differs from the label. */
export function distinctName({ stream, name }) {
  return name && name !== stream ? name : "";
}

function formatKnown(value, format) {
  return value === undefined ? "" : format(value);
}

function createCell(name, ...children) {
  return element("div", { class: `cell ${name}`, role: "cell" }, ...children);
}

/** Create a figure with a smaller text below it. */
function createFigure() {
  const upper = element("span", { class: "figure" });
  const lower = element("span", { class: "sub" });
  return {
    nodes: [upper, lower],
    setTexts(figure, text) {
      setText(upper, figure);
      setText(lower, text);
    },
  };
}
