// Labels for the API's names and values.

import { formatSince } from "./units.js";

const REASONS = {
  verdict: "unhealthy verdict",
  issues: "issues",
  bitrate_low: "low bitrate",
  frame_rate_low: "low frame rate",
  transcode_slow: "slow transcoding",
  loss: "packet loss",
  silent: "no media or heartbeat",
};

const SHAPES = { bad: "▲", warn: "◆", unknown: "?", maintenance: "◇", ok: "●", off: "○" };

/** Label of a reason for a low health score. */
export function reasonLabel(name) {
  return REASONS[name] ?? name.replaceAll("_", " ");
}

/** Last known state of an unknown stream, and the time since which it is unknown. */
export function unknownLabel({ was_live: wasLive, status_last_change_timestamp_seconds: since }) {
  const before = wasLive === undefined ? "" : wasLive ? "was live" : "was not live";
  const state = since === undefined ? "state unknown" : `state unknown since ${formatSince(since)}`;
  return [before, state].filter(Boolean).join(", ");
}

/** End and reason of a maintenance window. */
export function maintenanceLabel({ end_timestamp_seconds: end, reason }) {
  return [`maintenance until ${formatSince(end)}`, reason].filter(Boolean).join(", ");
}

/** Shape shown with each colour, for people with colour blindness. */
export function severityShape(severity) {
  return SHAPES[severity];
}

export function pluralize(number, one, many) {
  return number === 1 ? one : many;
}
