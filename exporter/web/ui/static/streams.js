// The items of the list: streams with their severity and alerts; filters and sort orders.

const RANK = { bad: 0, warn: 1, unknown: 2, maintenance: 3, ok: 4, off: 5 };
const ALERT_SEVERITY = { critical: "bad", warning: "warn" };

export const FILTERS = {
  all: { label: "All", test: () => true },
  problems: { label: "Problems", test: (item) => item.severity === "bad" || item.severity === "warn" },
  live: { label: "Live", test: (item) => item.stream.live === true && !isUnknown(item.stream) },
  off: { label: "Off air", test: (item) => item.stream.live === false && !isUnknown(item.stream) },
  unknown: { label: "Unknown", test: (item) => isUnknown(item.stream) },
  alerts: { label: "Alerts", test: (item) => item.alerts.length > 0 },
};

/** The sort orders of the list, and whether each is descending by default. */
export const ORDERS = {
  attention: { label: "Needs attention", value: (item) => item.urgency, descending: false },
  name: { label: "Name", value: (item) => item.stream.stream, descending: false },
  upstream: { label: "Upstream", value: (item) => item.stream.upstream, descending: false },
  health: { label: "Health", value: (item) => item.stream.health_score_ratio, descending: false },
  bitrate: { label: "Bitrate", value: (item) => item.stream.ingest_bitrate_bytes_per_second, descending: true },
  viewers: { label: "Viewers", value: (item) => item.stream.viewers, descending: true },
  latency: { label: "Latency", value: (item) => item.stream.latency_seconds, descending: true },
};

const collator = new Intl.Collator("en", { numeric: true });

/** Unique key of a stream; an upstream's name contains no slash. */
export function streamKey(upstream, stream) {
  return `${upstream}/${stream}`;
}

/** Build the items of the list from `/api/v1/streams`, the alerts (null without sidecar) and `findChains`. */
export function buildItems(data, alerts, chains) {
  const byStream = groupAlertsByStream(alerts ?? []);
  const upstreams = new Map(data.upstreams.map((upstream) => [upstream.upstream, upstream]));
  return data.streams.map((stream) => {
    const key = streamKey(stream.upstream, stream.stream);
    const item = buildItem(key, stream, upstreams.get(stream.upstream), byStream.get(key) ?? [], data.thresholds);
    return { ...item, chain: chains.get(key) };
  });
}

function buildItem(key, stream, upstream, alerts, thresholds) {
  const assessed = assessStream(stream, thresholds);
  const maintenance = findMaintenance(stream, upstream);
  const worst = alerts.map(alertSeverity).reduce(chooseWorse, assessed.severity);
  const severity = maintenance ? "maintenance" : worst;
  const word = worst !== assessed.severity && assessed.severity === "ok" ? "Alert" : assessed.word;
  return {
    key,
    stream,
    alerts: sortBySeverity(alerts),
    severity,
    word,
    maintenance,
    upstreamDown: upstream.up === false,
    urgency: RANK[severity] * 10 + (maintenance ? RANK[worst] : measureUrgency(stream, alerts)),
    text: buildSearchText(stream, upstream.platform, word, maintenance, alerts),
  };
}

function measureUrgency(stream, alerts) {
  return (stream.health_score_ratio ?? 2) - Math.min(alerts.length, 5);
}

/** The active maintenance window of a stream or of its upstream, whichever ends later; undefined without one. */
export function findMaintenance({ maintenance: own }, upstream) {
  const shared = upstream?.maintenance;
  if (own === undefined || shared === undefined) return own ?? shared;
  return own.end_timestamp_seconds > shared.end_timestamp_seconds ? own : shared;
}

/** Whether it is unknown if media arrives. Such a stream is neither live nor off air. */
export function isUnknown(stream) {
  return stream.status === "unknown" || stream.live === undefined;
}

/**
 * Severity and state of a stream. `bad` needs attention now, `warn` needs it soon, `unknown` may need it, `ok` is live,
 * `off` need not be live. `defaults`: health scores by the name of the alert rule; the stream's own, each a score or
 * "off", take precedence.
 */
export function assessStream(stream, defaults) {
  // While the source is off air, that explains it.
  if (stream.playable === false && (stream.live || stream.source_live)) return { severity: "bad", word: "Unplayable" };
  if (isUnknown(stream)) return { severity: stream.expected ? "warn" : "unknown", word: "Unknown" };
  if (stream.status === "error") return { severity: "bad", word: "Error" };
  if (!stream.live) {
    if (stream.status === "paused") return { severity: "off", word: "Paused" };
    if (stream.expected) return { severity: "bad", word: "Missing" };
    return { severity: "off", word: capitalize(stream.status ?? "not live") };
  }
  const { healthy, status, health_score_ratio: score = 1 } = stream;
  const thresholds = { ...defaults, ...stream.thresholds };
  const isBelow = (rule) => thresholds[rule] !== "off" && score < thresholds[rule];
  if (healthy === false || status === "degraded" || isBelow("StreamUnhealthy")) {
    return { severity: "bad", word: "Unhealthy" };
  }
  if (stream.health_reasons || isBelow("StreamDegraded")) return { severity: "warn", word: "Impaired" };
  return { severity: "ok", word: "Live" };
}

export function alertSeverity(alert) {
  // A pending alert may still resolve by itself.
  return alert.state === "firing" ? (ALERT_SEVERITY[alert.severity] ?? "off") : "off";
}

export function sortBySeverity(alerts) {
  return [...alerts].sort((one, other) => RANK[alertSeverity(one)] - RANK[alertSeverity(other)]);
}

function chooseWorse(one, other) {
  return RANK[one] <= RANK[other] ? one : other;
}

function groupAlertsByStream(alerts) {
  const found = new Map();
  for (const alert of alerts) {
    if (!alert.stream) continue;
    const key = streamKey(alert.upstream, alert.stream);
    found.set(key, [...(found.get(key) ?? []), alert]);
  }
  return found;
}

function buildSearchText(stream, platform, word, maintenance, alerts) {
  const words = [stream.stream, stream.name, stream.upstream, platform, stream.protocol, stream.status, word];
  const planned = maintenance && ["maintenance", maintenance.reason];
  const rest = [planned, stream.playback_detail, stream.health_reasons, stream.issues, alerts.map((alert) => alert.alertname)];
  return [...words, ...rest.flat()].filter(Boolean).join("\n").toLowerCase();
}

/** Return the items that match the filters and every word of the search, sorted. */
export function selectItems(items, { search, filter, upstream, order, reversed }) {
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  const { test } = FILTERS[filter];
  const selected = items.filter(
    (item) =>
      test(item) &&
      (!upstream || item.stream.upstream === upstream) &&
      words.every((word) => item.text.includes(word)),
  );
  return selected.sort(createComparator(ORDERS[order], reversed));
}

function createComparator({ value, descending }, reversed) {
  const direction = descending !== reversed ? -1 : 1;
  return (one, other) => compareValues(value(one), value(other), direction) || compareNames(one, other);
}

/** Missing values come last in both directions. */
function compareValues(one, other, direction) {
  if (one === undefined || other === undefined) return (one === undefined) - (other === undefined);
  if (typeof one === "string") return direction * collator.compare(one, other);
  return direction * (one - other);
}

function compareNames(one, other) {
  return collator.compare(one.stream.stream, other.stream.stream) || collator.compare(one.key, other.key);
}

function capitalize(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
