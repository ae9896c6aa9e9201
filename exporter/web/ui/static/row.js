// A stream's row in the list.

import { element, setText } from "./dom.js";
import { plural, reasonLabel, severityShape, unknownLabel } from "./labels.js";
import { streamUrl } from "./route.js";
import { sparkline } from "./sparkline.js";
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

/** Create a row. `histories`: key → points, looked up at each update. */
export function streamRow(item, histories) {
  const { upstream, stream } = item.stream;
  const badge = element("span", { class: "badge" });
  const link = element("a", { class: "title", href: streamUrl(upstream, stream) }, stream);
  const below = element("span", { class: "sub" });
  const health = figureWithText();
  const line = sparkline();
  const rate = figureWithText();
  const viewers = element("span", {});
  const viewersUnit = element("span", { class: "unit" });
  const latency = figureWithText();
  const words = element("span", { class: "told" });
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
      health.setTexts(formatKnown(now.health_score_ratio, percent), (now.health_reasons ?? []).map(reasonLabel).join(", "));
      const expected = now.expected_ingest_bitrate_bytes_per_second;
      line.update(histories.get(key)?.ingest_bitrate_bytes_per_second ?? [], expected);
      rate.setTexts(formatKnown(now.ingest_bitrate_bytes_per_second, bitrate), expected ? `of ${bitrate(expected)}` : "");
      setText(viewers, formatKnown(now.viewers, count));
      setText(viewersUnit, now.viewers === undefined ? "" : plural(now.viewers, "viewer", "viewers"));
      latency.setTexts(formatKnown(now.latency_seconds, delay), formatKnown(now.frames_per_second, frameRate));
      words.replaceChildren(...alertChips(alerts), unknown ? unknownText(now, upstreamDown) : issuesText(now));
    },
  };
}

/** A chip for each firing alert, and one for the number of pending alerts. */
function alertChips(alerts) {
  const firing = alerts.filter((alert) => alert.state === "firing");
  const pending = alerts.filter((alert) => alert.state !== "firing");
  const rest = pending.length > 1 ? [element("span", { class: "chip off" }, `${pending.length} pending`)] : pending.map(alertChip);
  return [...firing.map(alertChip), ...rest];
}

/** An alert as a chip. */
export function alertChip(alert) {
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

/** A figure with a smaller text below it. */
function figureWithText() {
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
