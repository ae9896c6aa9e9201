// A row of the list: one stream.

import { element, setText } from "./dom.js";
import { plural, reasonLabel, severityShape, unknownLabel } from "./labels.js";
import { streamUrl } from "./router.js";
import { createSparkline } from "./sparkline.js";
import { alertSeverity, isUnknown } from "./streams.js";
import { bitrate, count, delay, frameRate, percent } from "./units.js";

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
    cell("state", badge),
    element("div", { class: "cell stream", role: "rowheader" }, link, below),
    cell("health", health.nodes),
    cell("bitrate", line.node, element("span", { class: "pair" }, rate.nodes)),
    cell("viewers", viewers, viewersUnit),
    cell("latency", latency.nodes),
    cell("words", words),
  );
  return {
    node,
    update({ stream: now, severity, word, alerts, key, upstreamDown }) {
      const unknown = isUnknown(now);
      node.className = unknown ? `row ${severity} greyed` : `row ${severity}`;
      badge.className = `badge ${severity}`;
      setText(badge, `${severityShape(severity)} ${word}`);
      setText(below, [now.upstream, now.protocol, distinctName(now)].filter(Boolean).join(" · "));
      const reasons = (now.health_reasons ?? []).map(reasonLabel).join(", ");
      health.setTexts(formatKnown(now.health_score_ratio, percent), reasons);
      const expected = now.expected_ingest_bitrate_bytes_per_second;
      line.update(histories.get(key)?.ingest_bitrate_bytes_per_second ?? [], expected);
      const expectedText = expected ? `of ${bitrate(expected)}` : "";
      rate.setTexts(formatKnown(now.ingest_bitrate_bytes_per_second, bitrate), expectedText);
      setText(viewers, formatKnown(now.viewers, count));
      setText(viewersUnit, now.viewers === undefined ? "" : plural(now.viewers, "viewer", "viewers"));
      latency.setTexts(formatKnown(now.latency_seconds, delay), formatKnown(now.frames_per_second, frameRate));
      words.replaceChildren(...createAlertChips(alerts), unknown ? unknownText(now, upstreamDown) : issuesText(now));
    },
  };
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

function unknownText(stream, upstreamDown) {
  const parts = [unknownLabel(stream), upstreamDown ? "upstream is down" : "", issuesText(stream)];
  return parts.filter(Boolean).join("; ");
}

function issuesText({ issues = [], issue_count: all = 0 }) {
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

function cell(name, ...children) {
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
