// The view of one stream.

import { fetchStream } from "./api.js";
import { element } from "./dom.js";
import { severityShape, unknownLabel } from "./labels.js";
import { describeHop, findBrokenHop, findChains, hopName } from "./playback.js";
import { root, streamUrl } from "./router.js";
import { createChart } from "./sparkline.js";
import { createFactGroups } from "./stream_facts.js";
import { createAlertChip, createMaintenanceBadge, distinctName } from "./stream_row.js";
import { assessStream, findMaintenance, isUnknown, sortBySeverity, streamKey } from "./streams.js";
import { formatDateTime, formatTimeOfDay } from "./units.js";

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
    const content = response === null ? createMissingNotice(route) : createDetails(response, data, alerts);
    this.body.replaceChildren(...content);
    if (hasFocus || this.needsFocus) this.body.querySelector("h2").focus({ preventScroll: !this.needsFocus });
    this.needsFocus = false;
  }
}

function createMissingNotice({ upstream, stream }) {
  const text =
    `${upstream} has no stream with this name. It may have ended, or the upstream has not been polled yet. ` +
    "This page will show the stream when it appears.";
  return [element("h2", { tabindex: "-1" }, stream), element("p", {}, text)];
}

function createDetails({ stream: facts, history }, { thresholds, upstreams, streams }, alerts) {
  const own = (alerts ?? []).filter((alert) => alert.upstream === facts.upstream && alert.stream === facts.stream);
  const upstream = upstreams.find((one) => one.upstream === facts.upstream);
  const { severity: assessed, word } = assessStream(facts, thresholds);
  const maintenance = findMaintenance(facts, upstream);
  const severity = maintenance ? "maintenance" : assessed;
  const origin = [facts.upstream, facts.platform, distinctName(facts)].filter(Boolean).join(" · ");
  return [
    element("h2", { tabindex: "-1" }, facts.stream),
    element(
      "p",
      { class: "lead" },
      element("span", { class: `badge ${severity}` }, `${severityShape(severity)} ${word}`),
      createMaintenanceBadge(maintenance),
      element("span", { class: "sub" }, origin),
    ),
    isUnknown(facts) ? createUnknownNotice(facts) : "",
    upstream?.up === false ? createOutageNotice(upstream) : "",
    ...createPlaybackSection(findChains(streams).get(streamKey(facts.upstream, facts.stream))),
    element("h3", {}, "Ingest bitrate, last 15 minutes"),
    createChart(history, facts.expected_ingest_bitrate_bytes_per_second),
    ...createAlertsSection(own, alerts !== null),
    ...createIssuesSection(facts.issues),
    element("div", { class: "groups" }, createFactGroups(facts)),
    element("h3", {}, "PromQL selector"),
    element("p", {}, element("code", { class: "selector" }, seriesSelector(facts))),
  ];
}

function createUnknownNotice(facts) {
  const text = unknownLabel(facts);
  const sentence = `${text.charAt(0).toUpperCase()}${text.slice(1)}. It may be live or off air now.`;
  return element("p", { class: "notice" }, sentence);
}

function createOutageNotice({ upstream, last_error: error, last_success_timestamp_seconds: success }) {
  const since = success === undefined ? "" : `Last successful poll: ${formatDateTime(success)}. `;
  const text = `Upstream ${upstream} is down: ${error}. ${since}Outdated values are not shown.`;
  return element("p", { class: "error" }, text);
}

/** All hops of the stream's chains in order; the first broken one of each chain is marked. */
function createPlaybackSection(chain) {
  if (chain === undefined) return [];
  const broken = [chain.hops, ...chain.paths].map(findBrokenHop);
  const list = [...chain.hops, ...chain.paths.map((path) => path.at(-1))].map((hop) =>
    element(
      "li",
      {},
      element("a", { href: streamUrl(hop.upstream, hop.stream) }, hopName(hop)),
      `: ${describeHop(hop)} `,
      broken.includes(hop) ? element("span", { class: "chip bad" }, "first broken hop") : "",
    ),
  );
  return [element("h3", {}, "From the source to viewers"), element("ol", { class: "chain" }, list)];
}

function createAlertsSection(alerts, hasSidecar) {
  if (!hasSidecar) return [];
  const list = sortBySeverity(alerts).map((alert) =>
    element(
      "li",
      {},
      element("p", {}, createAlertChip(alert), `${alert.severity}, since ${formatTimeOfDay(alert.since)}. `, alert.summary),
      alert.description && alert.description !== alert.summary ? element("p", {}, alert.description) : "",
      createRunbookLink(alert),
    ),
  );
  return [
    element("h3", {}, "Alerts"),
    list.length ? element("ul", { class: "alerts" }, list) : element("p", { class: "quiet" }, "No alerts."),
  ];
}

function createRunbookLink({ alertname, runbook }) {
  // Annotations are configurable, so only http(s) URLs become links.
  if (!/^https?:\/\//.test(runbook ?? "")) return "";
  return element("p", {}, element("a", { href: runbook, rel: "noreferrer" }, `Runbook for ${alertname}`));
}

function createIssuesSection(issues) {
  if (!issues?.length) return [];
  const list = issues.map((issue) => element("li", {}, issue));
  return [element("h3", {}, "Issues reported by the platform"), element("ul", { class: "issue-list" }, list)];
}

/** PromQL selector of the stream's series. */
function seriesSelector({ platform, upstream, stream }) {
  const quoted = (text) => `"${text.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n")}"`;
  return `{platform=${quoted(platform)}, upstream=${quoted(upstream)}, stream=${quoted(stream)}}`;
}
