// All that is known of one stream.

import { element } from "./dom.js";
import { chart } from "./line.js";
import { alertChip, otherName } from "./row.js";
import { now } from "./source.js";
import { judge, worstFirst } from "./streams.js";
import { bitrate, bytes, count, delay, frameRate, moment, percent, span, timeOfDay } from "./units.js";
import { heading, reason, shape } from "./words.js";

/** What the model's names mean, by group: name → how its value reads. What is in no group comes under "More". */
const GROUPS = {
  Health: {
    status: String,
    healthy: (value) => (value ? "healthy, says the platform" : "unhealthy, says the platform"),
    health_score_ratio: percent,
    health_reasons: (names) => names.map(reason).join(", "),
    health_grade: String,
    health_conditions: (conditions) => named(conditions, (value) => (value ? "yes" : "no")),
    expected: (value) => (value ? "should be live now" : "need not be live now"),
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
    multistream_targets: (targets) => named(targets, (value) => (value ? "connected" : "not connected")),
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
    ice_candidates: (candidates) => named(candidates, count),
  },
  Life: {
    start_timestamp_seconds: ago,
    end_timestamp_seconds: ago,
    last_seen_timestamp_seconds: ago,
    sampled_timestamp_seconds: ago,
    session: String,
    playback_id: String,
    recording: yesOrNo,
    recording_status: String,
    publish_allowed: yesOrNo,
  },
};
const MORE = { platform_metrics: (all) => all.map((one) => `${one.metric}: ${one.value}`).join(", ") };
const NAMES = {
  viewer_error_ratio: "Viewer errors",
  transcode_realtime_ratio: "Transcoding pace",
  start_timestamp_seconds: "Started",
  end_timestamp_seconds: "Ended",
  last_seen_timestamp_seconds: "Last sign of life",
  frames_per_second: "Frame rate",
  expected_frames_per_second: "Expected frame rate",
  sampled_timestamp_seconds: "Asked for",
  expected_ingest_bitrate_bytes_per_second: "Expected bitrate",
  ingest_bitrate_bytes_per_second: "Ingest bitrate",
  health_reasons: "What lowers it",
  healthy: "Verdict",
};
const ELSEWHERE = new Set(["platform", "upstream", "stream", "issues", "live", "configured", "name"]);

/** The view as a list of nodes. `known` null: there is no such stream now; `alerts` null: no sidecar. */
export function detail(route, known, upstream, alerts) {
  if (known === null) {
    return [
      element("h2", { tabindex: "-1" }, route.stream),
      element(
        "p",
        {},
        `No stream of this name is known on ${route.upstream} now. It may have ended some time ago, or its upstream `,
        "has not been polled yet. This view shows it when it comes back.",
      ),
    ];
  }
  const { stream: facts, history } = known;
  const own = (alerts ?? []).filter((alert) => alert.upstream === facts.upstream && alert.stream === facts.stream);
  const { severity, word } = judge(facts);
  return [
    element("h2", { tabindex: "-1" }, facts.stream),
    element(
      "p",
      { class: "lead" },
      element("span", { class: `badge ${severity}` }, `${shape(severity)} ${word}`),
      element("span", { class: "sub" }, [facts.upstream, facts.platform, otherName(facts)].filter(Boolean).join(" · ")),
    ),
    upstream?.up === false ? upstreamDown(upstream) : "",
    element("h3", {}, "Ingest bitrate, last 15 minutes"),
    chart(history, facts.expected_ingest_bitrate_bytes_per_second),
    ...alertsPart(own, alerts !== null),
    ...issuesPart(facts.issues),
    element("div", { class: "groups" }, groupsOf(facts)),
    element("h3", {}, "In Prometheus"),
    element("p", {}, element("code", { class: "selector" }, selector(facts))),
  ];
}

function upstreamDown({ upstream, last_error: error, last_success_timestamp_seconds: success }) {
  const then = success === undefined ? "" : ` What stands here is from ${moment(success)}, or no longer known.`;
  return element("p", { class: "error" }, `Its upstream ${upstream} is down: ${error}.${then}`);
}

function alertsPart(alerts, sidecar) {
  if (!sidecar) return [];
  const list = worstFirst(alerts).map((alert) =>
    element(
      "li",
      {},
      element("p", {}, alertChip(alert), `${alert.severity}, since ${timeOfDay(alert.since)}. `, alert.summary),
      alert.description && alert.description !== alert.summary ? element("p", {}, alert.description) : "",
      runbookOf(alert),
    ),
  );
  return [
    element("h3", {}, "Alerts"),
    list.length ? element("ul", { class: "alerts" }, list) : element("p", { class: "quiet" }, "In no alert."),
  ];
}

function runbookOf({ alertname, runbook }) {
  // Labels and annotations are configured: nothing but a web address becomes a link.
  if (!/^https?:\/\//.test(runbook ?? "")) return "";
  return element("p", {}, element("a", { href: runbook, rel: "noreferrer" }, `What to do about ${alertname}`));
}

function issuesPart(issues) {
  if (!issues?.length) return [];
  const list = issues.map((issue) => element("li", {}, issue));
  return [element("h3", {}, "Issues, in the platform's words"), element("ul", { class: "issue-list" }, list)];
}

function groupsOf(facts) {
  const told = new Set(Object.values(GROUPS).flatMap((group) => Object.keys(group)));
  const rest = Object.keys(facts).filter((name) => !told.has(name) && !ELSEWHERE.has(name));
  const more = Object.fromEntries(rest.map((name) => [name, MORE[name] ?? plain(name)]));
  return Object.entries({ ...GROUPS, More: more }).map(([title, group]) => {
    const rows = Object.entries(group)
      .filter(([name]) => facts[name] !== undefined)
      .map(([name, read]) =>
        element("div", {}, element("dt", {}, NAMES[name] ?? heading(name)), element("dd", {}, read(facts[name]))),
      );
    return rows.length ? element("section", {}, element("h3", {}, title), element("dl", {}, rows)) : undefined;
  });
}

/** How a fact reads that is in no group, by its unit. */
function plain(name) {
  if (/_bytes$/.test(name)) return bytes;
  if (/_seconds$/.test(name)) return span;
  return (value) => {
    if (typeof value === "number") return count(value);
    if (typeof value === "boolean") return yesOrNo(value);
    return typeof value === "string" ? value : JSON.stringify(value);
  };
}

function named(values, read) {
  return Object.entries(values)
    .map(([name, value]) => `${name}: ${read(value)}`)
    .join(", ");
}

function yesOrNo(value) {
  return value ? "yes" : "no";
}

function ago(timestamp) {
  return `${moment(timestamp)} (${span(now() - timestamp)} ago)`;
}

/** The labels of the stream's series. */
function selector({ platform, upstream, stream }) {
  const quoted = (text) => `"${text.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n")}"`;
  return `{platform=${quoted(platform)}, upstream=${quoted(upstream)}, stream=${quoted(stream)}}`;
}
