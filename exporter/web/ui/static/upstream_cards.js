// A card for each upstream: its state, the age of its data, its last error and what to do about it.

import { exporterTime } from "./api.js";
import { element, setText } from "./dom.js";
import { ItemList } from "./item_list.js";
import { pluralize, severityShape } from "./labels.js";
import { createAlertChip, createMaintenanceBadge } from "./stream_row.js";
import { formatCount, formatDateTime, formatDuration, formatSince } from "./units.js";

const INCOMPLETE_LIST = "The platform's list may be incomplete; streams missing from it are unknown, not off air.";

export class UpstreamCards extends ItemList {
  /** `onSelect(name)` is called to show only the streams of an upstream. */
  constructor(onSelect) {
    super({ id: "upstreams-heading", heading: "Upstreams", className: "upstreams" });
    this.onSelect = onSelect;
  }

  setData(upstreams, alerts) {
    // Failing upstreams first, then the order of the configuration.
    this.setItems([...upstreams].sort((one, other) => isFailing(other) - isFailing(one)), alerts);
  }

  draw() {
    super.draw();
    this.updateAges();
  }

  /** Update all ages. */
  updateAges() {
    for (const card of this.items.values()) card.updateAge();
  }

  nameOf(upstream) {
    return upstream.upstream;
  }

  alertsOf(upstream) {
    return this.alerts.filter((alert) => alert.upstream === upstream.upstream && !alert.stream);
  }

  fill(card, upstream, alerts) {
    const [severity, word] = chooseBadge(upstream);
    const age = element("p", { class: "age" });
    card.updateAge = () => setText(age, formatAge(upstream));
    card.node.className = `card ${severity}`;
    card.node.replaceChildren(
      element(
        "h3",
        {},
        element("span", { class: `badge ${severity}` }, `${severityShape(severity)} ${word}`),
        element("span", { class: "name" }, upstream.upstream),
      ),
      upstream.maintenance ? element("p", { class: "words" }, createMaintenanceBadge(upstream.maintenance)) : "",
      element("p", { class: "sub where" }, [upstream.platform, upstream.version, upstream.host].filter(Boolean).join(" · ")),
      this.createStreamCounts(upstream),
      age,
      upstream.list_complete === false ? element("p", { class: "sub" }, INCOMPLETE_LIST) : "",
      ...createErrors(upstream),
      ...(alerts.length ? [element("p", { class: "words" }, alerts.map(createAlertChip))] : []),
    );
  }

  createStreamCounts(counts) {
    const { upstream, streams, streams_dropped: dropped = 0 } = counts;
    if (streams === 0 && counts.streams_live === undefined) {
      return element("p", { class: "live quiet" }, "no known streams");
    }
    const droppedText = dropped ? `, ${formatCount(dropped)} more exceed max_streams` : "";
    return element(
      "p",
      { class: "live" },
      element(
        "button",
        {
          type: "button",
          class: "only",
          title: `Show only the streams of ${upstream}`,
          onclick: () => this.onSelect(upstream),
        },
        formatStreamCounts(counts),
      ),
      droppedText,
    );
  }
}

function formatStreamCounts({ streams, streams_live: live, streams_unknown: unknown = 0, ...rest }) {
  const { streams_withdrawn: withdrawn, streams_were_live: wereLive, unknown_since_timestamp_seconds: since } = rest;
  const ofStreams = `${formatCount(streams)} ${pluralize(streams, "stream", "streams")}`;
  const sinceText = since === undefined ? "" : ` since ${formatSince(since)}`;
  if (live !== undefined) {
    const text = `${formatCount(live)} of ${ofStreams} live`;
    return unknown ? `${text}, ${formatCount(unknown)} unknown${sinceText}` : text;
  }
  if (wereLive === undefined) return `state of ${ofStreams} unknown`;
  return `state unknown${sinceText}; ${formatCount(wereLive)} of ${formatCount(withdrawn)} were live then`;
}

function isFailing({ up, maintenance }) {
  return up === false && maintenance === undefined;
}

function chooseBadge({ up, maintenance }) {
  if (up === undefined) return ["off", "Not polled yet"];
  if (maintenance !== undefined) return ["maintenance", up ? "Up" : "Down"];
  return up ? ["ok", "Up"] : ["bad", "Down"];
}

function formatAge({ last_success_timestamp_seconds: success, next_poll_timestamp_seconds: next, up }) {
  const age = success === undefined ? "no data yet" : `updated ${formatDuration(exporterTime() - success)} ago`;
  if (next === undefined) return up === undefined ? "waiting for the first poll" : age;
  const until = next - exporterTime();
  return `${age} · ${until > 0.5 ? `next poll in ${formatDuration(until)}` : "polling now"}`;
}

function createErrors({ up, last_error: error, advice, last_success_timestamp_seconds: success }) {
  if (!error) return [];
  const since = up === false && success !== undefined ? ` Last successful poll: ${formatDateTime(success)}.` : "";
  return [
    element("p", { class: "error" }, element("strong", {}, "Last error: "), error),
    element("p", { class: "advice" }, formatCode(advice ?? ""), since),
  ];
}

/** Show configuration keys, which are in backquotes, as code. */
function formatCode(text) {
  return text.split("`").map((part, index) => (index % 2 ? element("code", {}, part) : part));
}
