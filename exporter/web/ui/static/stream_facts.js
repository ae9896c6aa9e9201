// The facts of a stream: their groups, labels and formatters.

import { exporterTime } from "./api.js";
import { element } from "./dom.js";
import { reasonLabel } from "./labels.js";
import {
  formatBitrate,
  formatBytes,
  formatCount,
  formatDateTime,
  formatDelay,
  formatDuration,
  formatFrameRate,
  formatPercent,
} from "./units.js";

/** Groups of facts: the name of each fact and the formatter of its value. Other facts are shown under "More". */
const GROUPS = {
  Health: {
    status: String,
    healthy: (value) => (value ? "healthy" : "unhealthy"),
    health_score_ratio: formatPercent,
    health_reasons: (names) => names.map(reasonLabel).join(", "),
    health_grade: String,
    health_unreadable: () => "the platform sent a health value that cannot be read",
    health_conditions: (conditions) => formatEntries(conditions, (value) => (value ? "yes" : "no")),
    expected: yesOrNo,
    restarts: formatCount,
  },
  Rates: {
    ingest_bitrate_bytes_per_second: formatBitrate,
    expected_ingest_bitrate_bytes_per_second: formatBitrate,
    egress_bitrate_bytes_per_second: formatBitrate,
    transcode_bitrate_bytes_per_second: formatBitrate,
    max_bitrate_bytes_per_second: formatBitrate,
    nominal_bitrate_bytes_per_second: formatBitrate,
    frames_per_second: formatFrameRate,
    expected_frames_per_second: formatFrameRate,
    transcode_realtime_ratio: (value) => `${value.toFixed(2)} × real time`,
    renditions: (all) =>
      all.map((one) => `${one.name}: ${formatBitrate(one.target_bitrate_bytes_per_second)}`).join(", "),
    multistream_targets: (targets) => formatEntries(targets, (value) => (value ? "connected" : "not connected")),
  },
  Audience: {
    viewers: formatCount,
    viewers_partial: () => "the platform does not count all viewers",
    viewers_peak: formatCount,
    slow_viewers: formatCount,
    fallback_active: yesOrNo,
    system_clients: formatCount,
    viewer_error_ratio: formatPercent,
  },
  Media: {
    resolution: String,
    width_pixels: (value) => `${value} px`,
    height_pixels: (value) => `${value} px`,
    video_codec: String,
    audio_codec: String,
    audio_sample_rate_hertz: (value) => `${value / 1000} kHz`,
    audio_channels: formatCount,
    application: String,
    kind: String,
    substreams: formatCount,
  },
  Transport: {
    protocol: String,
    latency_seconds: formatDelay,
    target_latency_seconds: formatDelay,
    ingest_lag_seconds: formatDelay,
    round_trip_time_seconds: formatDelay,
    jitter_seconds: formatDelay,
    packet_loss_ratio: formatPercent,
    dropped_frames: formatCount,
    frames: formatCount,
    ice_candidates: (candidates) => formatEntries(candidates, formatCount),
  },
  Playback: {
    playable: yesOrNo,
    unplayable_reason: reasonLabel,
    playback_detail: String,
    playback_notes: (notes) => notes.join("; "),
    playback_forbidden: yesOrNo,
    source_live: yesOrNo,
    media_changed_timestamp_seconds: dateTimeWithAge,
    media_edge_timestamp_seconds: dateTimeWithAge,
    media_bitrates: (bitrates) => formatEntries(bitrates, formatBitrate),
    playable_renditions: formatCount,
    expected_renditions: formatCount,
  },
  "Session and recording": {
    start_timestamp_seconds: dateTimeWithAge,
    end_timestamp_seconds: dateTimeWithAge,
    status_last_change_timestamp_seconds: dateTimeWithAge,
    last_seen_timestamp_seconds: dateTimeWithAge,
    last_seen_age_seconds: (value) => `${formatDuration(value)} before the poll`,
    sampled_timestamp_seconds: dateTimeWithAge,
    session: String,
    playback_id: String,
    recording: yesOrNo,
    recording_status: String,
    publish_allowed: yesOrNo,
  },
};
const UNGROUPED = {
  labels: (labels) => formatEntries(labels, String),
  alert_overrides: (overrides) => formatEntries(overrides, String),
  platform_metrics: (all) => all.map((one) => `${one.metric}: ${one.value}`).join(", "),
};
const FACT_LABELS = {
  viewer_error_ratio: "Viewer errors",
  viewers_partial: "Viewers are a minimum",
  slow_viewers: "Viewers disconnected as too slow",
  fallback_active: "Viewers get the fallback",
  nominal_bitrate_bytes_per_second: "Declared bitrate",
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
  media_changed_timestamp_seconds: "Last new media",
  media_edge_timestamp_seconds: "End of the newest media",
  playback_detail: "Why not playable",
  playback_forbidden: "Access refused",
  alert_overrides: "Alert settings",
};
const SHOWN_ELSEWHERE = new Set([
  "platform", "upstream", "stream", "issues", "live", "was_live", "configured", "maintenance", "name", "thresholds",
  "playback_findings", "source_platform", "source_upstream", "source_stream",
]);

/** Create a section for each group of which a fact is known. */
export function createFactGroups(facts) {
  const grouped = new Set(Object.values(GROUPS).flatMap((group) => Object.keys(group)));
  const rest = Object.keys(facts).filter((name) => !grouped.has(name) && !SHOWN_ELSEWHERE.has(name));
  const more = Object.fromEntries(rest.map((name) => [name, UNGROUPED[name] ?? chooseFormatter(name)]));
  return Object.entries({ ...GROUPS, More: more }).map(([title, group]) => {
    const rows = Object.entries(group)
      .filter(([name]) => facts[name] !== undefined)
      .map(([name, format]) =>
        element("div", {}, element("dt", {}, labelFact(name)), element("dd", {}, format(facts[name]))),
      );
    return rows.length ? element("section", {}, element("h3", {}, title), element("dl", {}, rows)) : undefined;
  });
}

/** Label of a fact, by default derived from its name: `health_score_ratio` → `Health score`. */
function labelFact(name) {
  if (FACT_LABELS[name] !== undefined) return FACT_LABELS[name];
  const text = name
    .replace(/_(ratio|seconds|timestamp_seconds|bytes_per_second|pixels)$/, "")
    .replace(/_timestamp$/, "")
    .replaceAll("_", " ");
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** Choose the formatter of a fact without a group by the unit in its name. */
function chooseFormatter(name) {
  if (/_bytes$/.test(name)) return formatBytes;
  if (/_seconds$/.test(name)) return formatDuration;
  return (value) => {
    if (typeof value === "number") return formatCount(value);
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
  return `${formatDateTime(timestamp)} (${formatDuration(exporterTime() - timestamp)} ago)`;
}
