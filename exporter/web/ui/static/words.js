// The words of the page for what the exporter says in names.

const REASONS = {
  verdict: "unhealthy verdict",
  issues: "issues",
  bitrate_low: "low bitrate",
  frame_rate_low: "low frame rate",
  transcode_slow: "slow transcoding",
  loss: "packet loss",
  silent: "no sign of life",
};

const SHAPES = { bad: "▲", warn: "◆", ok: "●", off: "○" };

/** One of the reasons for a low health score. */
export function reason(name) {
  return REASONS[name] ?? name;
}

/** A shape beside each colour, for those who do not see the colour. */
export function shape(severity) {
  return SHAPES[severity];
}

/** `health_score_ratio` → `Health score`. */
export function heading(name) {
  const text = name
    .replace(/_(ratio|seconds|timestamp_seconds|bytes_per_second|pixels)$/, "")
    .replace(/_timestamp$/, "")
    .replaceAll("_", " ");
  return text.charAt(0).toUpperCase() + text.slice(1);
}

export function plural(number, one, many) {
  return number === 1 ? one : many;
}
