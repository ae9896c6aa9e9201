// One stream's row in the list.

import { element, say } from "./dom.js";
import { smallLine } from "./line.js";
import { addressOf } from "./route.js";
import { severityOf } from "./streams.js";
import { bitrate, count, delay, frameRate, percent } from "./units.js";
import { plural, reason, shape } from "./words.js";

/** The columns: what the list can be sorted by in each, or nothing. */
export const COLUMNS = [
  { name: "state", label: "State", order: "attention" },
  { name: "stream", label: "Stream", order: "name" },
  { name: "health", label: "Health", order: "health" },
  { name: "bitrate", label: "Bitrate, last 15 min", order: "bitrate" },
  { name: "viewers", label: "Viewers", order: "viewers" },
  { name: "latency", label: "Latency, fps", order: "latency" },
  { name: "words", label: "Alerts and issues" },
];

/** `histories`: key → points; looked up at each update. */
export function streamRow(item, histories) {
  const { upstream, stream } = item.stream;
  const badge = element("span", { class: "badge" });
  const link = element("a", { class: "title", href: addressOf(upstream, stream) }, stream);
  const below = element("span", { class: "sub" });
  const health = pair();
  const line = smallLine();
  const rate = pair();
  const viewers = element("span", {});
  const viewersUnit = element("span", { class: "unit" });
  const latency = pair();
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
    update({ stream: now, severity, word, alerts, key, cutOff }) {
      node.className = `row ${severity}`;
      badge.className = `badge ${severity}`;
      say(badge, `${shape(severity)} ${word}`);
      say(below, [now.upstream, now.protocol, otherName(now)].filter(Boolean).join(" · "));
      health.say(known(now.health_score_ratio, percent), (now.health_reasons ?? []).map(reason).join(", "));
      const expected = now.expected_ingest_bitrate_bytes_per_second;
      line.update(histories.get(key)?.ingest_bitrate_bytes_per_second ?? [], expected);
      rate.say(known(now.ingest_bitrate_bytes_per_second, bitrate), expected ? `of ${bitrate(expected)}` : "");
      say(viewers, known(now.viewers, count));
      say(viewersUnit, now.viewers === undefined ? "" : plural(now.viewers, "viewer", "viewers"));
      latency.say(known(now.latency_seconds, delay), known(now.frames_per_second, frameRate));
      words.replaceChildren(...alertChips(alerts), cutOff ? "No news: upstream down" : issuesOf(now));
    },
  };
}

/** What fires, by name; of what may yet fire, the number is enough here. */
function alertChips(alerts) {
  const firing = alerts.filter((alert) => alert.state === "firing");
  const pending = alerts.filter((alert) => alert.state !== "firing");
  const rest = pending.length > 1 ? [element("span", { class: "chip off" }, `${pending.length} pending`)] : pending.map(alertChip);
  return [...firing.map(alertChip), ...rest];
}

/** An alert as a small label. */
export function alertChip(alert) {
  const waiting = alert.state === "firing" ? "" : ` (${alert.state})`;
  return element("span", { class: `chip ${severityOf(alert)}` }, `${alert.alertname}${waiting}`);
}

function issuesOf({ issues = [], issue_count: all = 0 }) {
  const more = all > issues.length ? ` and ${all - issues.length} more` : "";
  return issues.join("; ") + more;
}

/** The platform's name, where the label is another. */
export function otherName({ stream, name }) {
  return name && name !== stream ? name : "";
}

function known(value, told) {
  return value === undefined ? "" : told(value);
}

function cell(name, ...children) {
  return element("div", { class: `cell ${name}`, role: "cell" }, ...children);
}

/** A figure, and a smaller text below it. */
function pair() {
  const upper = element("span", { class: "figure" });
  const lower = element("span", { class: "sub" });
  return {
    nodes: [upper, lower],
    say(figure, text) {
      say(upper, figure);
      say(lower, text);
    },
  };
}
