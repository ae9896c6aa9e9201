// What the list shows: each stream judged, joined with its alerts, filtered and put in order. Knows nothing of the document.

const RANK = { bad: 0, warn: 1, ok: 2, off: 3 };
const ALERT_SEVERITY = { critical: "bad", warning: "warn" };

export const FILTERS = {
  all: { label: "All", test: () => true },
  problems: { label: "Problems", test: (item) => item.severity === "bad" || item.severity === "warn" },
  live: { label: "Live", test: (item) => item.stream.live === true },
  off: { label: "Off air", test: (item) => item.stream.live !== true },
  alerts: { label: "Alerts", test: (item) => item.alerts.length > 0 },
};

/** By what the list can be sorted, and whether it begins with the largest. */
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

/** A name for a stream that no two share: an upstream's name holds no slash. */
export function keyOf(upstream, stream) {
  return `${upstream}/${stream}`;
}

/** Below this a score pages, as the rule StreamUnhealthy has it. */
const UNHEALTHY_BELOW = 0.5;

/** `/api/v1/streams` and the alerts (null: not known) as items of the list. */
export function itemsOf(data, alerts) {
  const ofStream = alertsByStream(alerts ?? []);
  const upstreams = new Map(data.upstreams.map((upstream) => [upstream.upstream, upstream]));
  return data.streams.map((stream) => {
    const key = keyOf(stream.upstream, stream.stream);
    return itemOf(key, stream, upstreams.get(stream.upstream), ofStream.get(key) ?? []);
  });
}

function itemOf(key, stream, upstream, alerts) {
  const judged = judge(stream);
  const severity = alerts.map(severityOf).reduce(worse, judged.severity);
  const word = severity !== judged.severity && judged.severity === "ok" ? "Alert" : judged.word;
  return {
    key,
    stream,
    alerts: worstFirst(alerts),
    severity,
    word,
    cutOff: stream.live === undefined && upstream.up === false,
    urgency: RANK[severity] * 10 + (stream.health_score_ratio ?? 2) - Math.min(alerts.length, 5),
    text: searchable(stream, upstream.platform, word, alerts),
  };
}

/** How a stream is, in one word: `bad` needs somebody now, `warn` soon, `ok` is on the air, `off` need not be. */
export function judge(stream) {
  if (stream.status === "error") return { severity: "bad", word: "Error" };
  if (stream.live === undefined) return { severity: stream.expected ? "warn" : "off", word: "Unknown" };
  if (!stream.live) {
    if (stream.status === "paused") return { severity: "off", word: "Paused" };
    if (stream.expected) return { severity: "bad", word: "Missing" };
    return { severity: "off", word: capitalised(stream.status ?? "not live") };
  }
  const { healthy, status, health_score_ratio: score = 1 } = stream;
  if (healthy === false || status === "degraded" || score < UNHEALTHY_BELOW) return { severity: "bad", word: "Unhealthy" };
  if (stream.health_reasons) return { severity: "warn", word: "Impaired" };
  return { severity: "ok", word: "Live" };
}

export function severityOf(alert) {
  // What is pending may still go away by itself.
  return alert.state === "firing" ? (ALERT_SEVERITY[alert.severity] ?? "off") : "off";
}

export function worstFirst(alerts) {
  return [...alerts].sort((one, other) => RANK[severityOf(one)] - RANK[severityOf(other)]);
}

function worse(one, other) {
  return RANK[one] <= RANK[other] ? one : other;
}

function alertsByStream(alerts) {
  const found = new Map();
  for (const alert of alerts) {
    if (!alert.stream) continue;
    const key = keyOf(alert.upstream, alert.stream);
    found.set(key, [...(found.get(key) ?? []), alert]);
  }
  return found;
}

function searchable(stream, platform, word, alerts) {
  const words = [stream.stream, stream.name, stream.upstream, platform, stream.protocol, stream.status, word];
  const rest = [stream.health_reasons, stream.issues, alerts.map((alert) => alert.alertname)];
  return [...words, ...rest.flat()].filter(Boolean).join("\n").toLowerCase();
}

/** The items that a search, a filter and an upstream leave, in order. Every word of the search must occur. */
export function select(items, { search = "", filter = "all", upstream = "", order = "attention", reversed = false }) {
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  const { test } = FILTERS[filter];
  const left = items.filter(
    (item) =>
      test(item) &&
      (!upstream || item.stream.upstream === upstream) &&
      words.every((word) => item.text.includes(word)),
  );
  return left.sort(comparison(ORDERS[order], reversed));
}

function comparison({ value, descending }, reversed) {
  const direction = descending !== reversed ? -1 : 1;
  return (one, other) => compared(value(one), value(other), direction) || byName(one, other);
}

/** What is not known comes last, whichever way the rest goes. */
function compared(one, other, direction) {
  if (one === undefined || other === undefined) return (one === undefined) - (other === undefined);
  if (typeof one === "string") return direction * collator.compare(one, other);
  return direction * (one - other);
}

function byName(one, other) {
  return collator.compare(one.stream.stream, other.stream.stream) || collator.compare(one.key, other.key);
}

function capitalised(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
