// Labels for the API's names and values.

import { timeSince } from "./units.js";

const REASONS = {
  verdict: "unhealthy verdict",
  issues: "issues",
  bitrate_low: "low bitrate",
  frame_rate_low: "low frame rate",
  transcode_slow: "slow transcoding",
  loss: "packet loss",
  silent: "no media or heartbeat",
};

const SHAPES = { bad: "▲", warn: "◆", unknown: "?", ok: "●", off: "○" };

/** Label of a reason for a low health score. */
export function reasonLabel(name) {
  return REASONS[name] ?? name;
}

/** Last known state of an unknown stream, and the time since which it is unknown. */
export function unknownLabel({ was_live: wasLive, status_last_change_timestamp_seconds: since }) {
  const before = wasLive === undefined ? "" : wasLive ? "was live" : "was not live";
  const state = since === undefined ? "state unknown" : `state unknown since ${timeSince(since)}`;
  return [before, state].filter(Boolean).join(", ");
}

/** Shape shown with each colour, for people with colour blindness. */
export function severityShape(severity) {
  return SHAPES[severity];
}

/** `health_score_ratio` → `Health score`. */
export function factLabel(name) {
  const text = name
    .replace(/_(ratio|seconds|timestamp_seconds|bytes_per_second|pixels)$/, "")
    .replace(/_timestamp$/, "")
    .replaceAll("_", " ");
  return text.charAt(0).toUpperCase() + text.slice(1);
}

export function plural(number, one, many) {
  return number === 1 ? one : many;
}
