// The view of one stream.

import { fetchStream, now } from "./api.js";
import { element } from "./dom.js";
import { factLabel, reasonLabel, severityShape, unknownLabel } from "./labels.js";
import { root } from "./router.js";
import { createChart } from "./sparkline.js";
import { createAlertChip, distinctName } from "./stream_row.js";
import { assessStream, isUnknown, sortBySeverity } from "./streams.js";
import { bitrate, bytes, count, dateTime, delay, duration, frameRate, percent, timeOfDay } from "./units.js";

/** Groups of facts: the name of each fact and the formatter of its value. Other facts are shown under "More". */
const GROUPS = {
  Health: {
    status: String,
    healthy: (value) => (value ? "healthy" : "unhealthy"),
    health_score_ratio: percent,
    health_reasons: (names) => names.map(reasonLabel).join(", "),
    health_grade: String,
    health_unreadable: () => "the platform sent a health value that cannot be read",
    health_conditions: (conditions) => formatEntries(conditions, (value) => (value ? "yes" : "no")),
    expected: yesOrNo,
    restarts: count,
  },
  Rates: {
    ingest_bitrate_bytes_per_second: bitrate,
    expected_ingest_bitrate_bytes_per_second: bitrate,
    egress_bitrate_bytes_per_second: bitrate,
    transcode_bitrate_bytes_per_second: bitrate,
    max_bitrate_bytes_per_second: bitrate,
    frames_per_second: frameRate,
    expected_frames_per_second: frameRate,
    transcode_realtime_ratio: (value) => `${value.toFixed(2)} × real time`,
    renditions: (all) => all.map((one) => `${one.name}: ${bitrate(one.target_bitrate_bytes_per_second)}`).join(", "),
    multistream_targets: (targets) => formatEntries(targets, (value) => (value ? "connected" : "not connected")),
  },
  Audience: { viewers: count, viewers_peak: count, system_clients: count, viewer_error_ratio: percent },
  Media: {
    resolution: String,
    width_pixels: (value) => `${value} px`,
    height_pixels: (value) => `${value} px`,
    video_codec: String,
    audio_codec: String,
    application: String,
    kind: String,
    substreams: count,
  },
  Transport: {
    protocol: String,
    latency_seconds: delay,
    target_latency_seconds: delay,
    round_trip_time_seconds: delay,
    jitter_seconds: delay,
    packet_loss_ratio: percent,
    dropped_frames: count,
    frames: count,
    ice_candidates: (candidates) => formatEntries(candidates, count),
  },
  "Session and recording": {
    start_timestamp_seconds: dateTimeWithAge,
    end_timestamp_seconds: dateTimeWithAge,
    status_last_change_timestamp_seconds: dateTimeWithAge,
    last_seen_timestamp_seconds: dateTimeWithAge,
    last_seen_age_seconds: (value) => `${duration(value)} before the poll`,
    sampled_timestamp_seconds: dateTimeWithAge,
    session: String,
    playback_id: String,
    recording: yesOrNo,
    recording_status: String,
    publish_allowed: yesOrNo,
  },
};
const UNGROUPED = { platform_metrics: (all) => all.map((one) => `${one.metric}: ${one.value}`).join(", ") };
const FACT_LABELS = {
  viewer_error_ratio: "Viewer errors",
  transcode_realtime_ratio: "Transcoding speed",
  start_timestamp_seconds: "Started",
  end_timestamp_seconds: "Ended",
  status_last_change_timestamp_seconds: "Status changed",
  last_seen_timestamp_seconds: "Last heartbeat (platform's clock)",
  last_seen_age_seconds: "Last heartbeat (exporter's clock)",
  health_unreadable: "No score",
  expected: "Expected to be live",
  frames_per_second: "Frame rate",
  expected_frames_per_second: "Expected frame rate",
  sampled_timestamp_seconds: "Last report",
  expected_ingest_bitrate_bytes_per_second: "Expected bitrate",
  ingest_bitrate_bytes_per_second: "Ingest bitrate",
  health_reasons: "Health reasons",
  healthy: "Platform verdict",
};
const SHOWN_ELSEWHERE = new Set(["platform", "upstream", "stream", "issues", "live", "was_live", "configured", "name"]);

export class DetailView {
  constructor() {
    this.route = null;
    this.body = element("div", {});
    const backLink = element("a", { href: root.href, class: "back" }, "← All streams");
    this.node = element("div", { class: "detail", hidden: true }, element("p", {}, backLink), this.body);
  }

  /** Show a stream's name, until `refresh` shows the rest. `focus`: whether to move the keyboard focus to it. */
  show(route, { focus }) {
    this.route = route;
    this.needsFocus = focus;
    this.body.replaceChildren(element("h2", { tabindex: "-1" }, route.stream), element("p", {}, "…"));
    this.node.hidden = false;
  }

  hide() {
    this.route = null;
    this.node.hidden = true;
    this.body.replaceChildren();
  }

  /** Fetch and draw the stream. `data` is that of `/api/v1/streams`; `alerts` is null without sidecar. */
  async refresh(data, alerts) {
    const { route } = this;
    const response = await fetchStream(route.upstream, route.stream);
    if (this.route !== route) return;
    const hasFocus = this.body.contains(document.activeElement);
    this.body.replaceChildren(...(response === null ? missingStream(route) : streamDetails(response, data, alerts)));
    if (hasFocus || this.needsFocus) this.body.querySelector("h2").focus({ preventScroll: !this.needsFocus });
    this.needsFocus = false;
  }
}

function missingStream({ upstream, stream }) {
  const text =
    `${upstream} has no stream with this name. It may have ended, or the upstream has not been polled yet. ` +
    "This page will show the stream when it appears.";
  return [element("h2", { tabindex: "-1" }, stream), element("p", {}, text)];
}

function streamDetails({ stream: facts, history }, { thresholds, upstreams }, alerts) {
  const own = (alerts ?? []).filter((alert) => alert.upstream === facts.upstream && alert.stream === facts.stream);
  const upstream = upstreams.find((one) => one.upstream === facts.upstream);
  const { severity, word } = assessStream(facts, thresholds);
  const origin = [facts.upstream, facts.platform, distinctName(facts)].filter(Boolean).join(" · ");
  return [
    element("h2", { tabindex: "-1" }, facts.stream),
    element(
      "p",
      { class: "lead" },
      element("span", { class: `badge ${severity}` }, `${severityShape(severity)} ${word}`),
      element("span", { class: "sub" }, origin),
    ),
    isUnknown(facts) ? element("p", { class: "notice" }, unknownNotice(facts)) : "",
    upstream?.up === false ? upstreamDownNotice(upstream) : "",
    element("h3", {}, "Ingest bitrate, last 15 minutes"),
    createChart(history, facts.expected_ingest_bitrate_bytes_per_second),
    ...alertsSection(own, alerts !== null),
    ...issuesSection(facts.issues),
    element("div", { class: "groups" }, factGroups(facts)),
    element("h3", {}, "PromQL selector"),
    element("p", {}, element("code", { class: "selector" }, seriesSelector(facts))),
  ];
}

function unknownNotice(facts) {
  const text = unknownLabel(facts);
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}. It may be live or off air now.`;
}

function upstreamDownNotice({ upstream, last_error: error, last_success_timestamp_seconds: success }) {
  const age = success === undefined ? "" : ` Last successful poll: ${dateTime(success)}. Outdated values are not shown.`;
  return element("p", { class: "error" }, `Upstream ${upstream} is down: ${error}.${age}`);
}

function alertsSection(alerts, sidecar) {
  if (!sidecar) return [];
  const list = sortBySeverity(alerts).map((alert) =>
    element(
      "li",
      {},
      element("p", {}, createAlertChip(alert), `${alert.severity}, since ${timeOfDay(alert.since)}. `, alert.summary),
      alert.description && alert.description !== alert.summary ? element("p", {}, alert.description) : "",
      runbookLink(alert),
    ),
  );
  return [
    element("h3", {}, "Alerts"),
    list.length ? element("ul", { class: "alerts" }, list) : element("p", { class: "quiet" }, "No alerts."),
  ];
}

function runbookLink({ alertname, runbook }) {
  // Annotations are configurable, so only http(s) URLs become links.
  if (!/^https?:\/\//.test(runbook ?? "")) return "";
  return element("p", {}, element("a", { href: runbook, rel: "noreferrer" }, `Runbook for ${alertname}`));
}

function issuesSection(issues) {
  if (!issues?.length) return [];
  const list = issues.map((issue) => element("li", {}, issue));
  return [element("h3", {}, "Issues reported by the platform"), element("ul", { class: "issue-list" }, list)];
}

function factGroups(facts) {
  const grouped = new Set(Object.values(GROUPS).flatMap((group) => Object.keys(group)));
  const rest = Object.keys(facts).filter((name) => !grouped.has(name) && !SHOWN_ELSEWHERE.has(name));
  const more = Object.fromEntries(rest.map((name) => [name, UNGROUPED[name] ?? defaultFormat(name)]));
  return Object.entries({ ...GROUPS, More: more }).map(([title, group]) => {
    const rows = Object.entries(group)
      .filter(([name]) => facts[name] !== undefined)
      .map(([name, format]) =>
        element(
          "div",
          {},
          element("dt", {}, FACT_LABELS[name] ?? factLabel(name)),
          element("dd", {}, format(facts[name])),
        ),
      );
    return rows.length ? element("section", {}, element("h3", {}, title), element("dl", {}, rows)) : undefined;
  });
}

/** Formatter of a fact that is in no group, chosen by the unit in its name. */
function defaultFormat(name) {
  if (/_bytes$/.test(name)) return bytes;
  if (/_seconds$/.test(name)) return duration;
  return (value) => {
    if (typeof value === "number") return count(value);
    if (typeof value === "boolean") return yesOrNo(value);
    return typeof value === "string" ? value : JSON.stringify(value);
  };
}

function formatEntries(values, format) {
  return Object.entries(values)
    .map(([name, value]) => `${name}: ${format(value)}`)
    .join(", ");
}

function yesOrNo(value) {
  return value ? "yes" : "no";
}

function dateTimeWithAge(timestamp) {
  return `${dateTime(timestamp)} (${duration(now() - timestamp)} ago)`;
}

/** PromQL selector of the stream's series. */
function seriesSelector({ platform, upstream, stream }) {
  const quoted = (text) => `"${text.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n")}"`;
  return `{platform=${quoted(platform)}, upstream=${quoted(upstream)}, stream=${quoted(stream)}}`;
}
