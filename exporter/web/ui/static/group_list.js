// A line for each group of streams: whether it is up, and its streams with their roles and states.

import { element, setText } from "./dom.js";
import { severityShape } from "./labels.js";
import { streamUrl } from "./router.js";
import { createAlertChip } from "./stream_row.js";
import { formatCount } from "./units.js";

const MAX_COLLAPSED = 8;
const STATES = {
  down: ["bad", "Down"],
  redundancy_lost: ["warn", "Redundancy lost"],
  unknown: ["unknown", "Unknown"],
  up: ["ok", "Up"],
  maintenance: ["off", "Maintenance"],
  not_expected: ["off", "Not expected"],
};
/** States in the order of the lines. */
const ORDER = Object.keys(STATES);

export class GroupList {
  constructor() {
    this.showAll = false;
    this.groups = [];
    this.alerts = [];
    this.lines = new Map();
    this.list = element("ul", { class: "group-list" });
    this.more = element("button", { type: "button", class: "more", hidden: true, onclick: () => this.toggleAll() });
    this.node = element(
      "section",
      { "aria-labelledby": "groups-heading", hidden: true },
      element("h2", { id: "groups-heading" }, "Groups"),
      this.list,
      this.more,
    );
  }

  setData(groups, alerts) {
    this.groups = groups;
    this.alerts = alerts ?? [];
    this.draw();
  }

  toggleAll() {
    this.showAll = !this.showAll;
    this.draw();
  }

  draw() {
    const ordered = [...this.groups].sort((one, other) => ORDER.indexOf(one.status) - ORDER.indexOf(other.status));
    const shown = this.showAll ? ordered : ordered.slice(0, MAX_COLLAPSED);
    const nodes = shown.map((group) => this.getLine(group));
    if (nodes.length !== this.list.children.length || nodes.some((node, at) => node !== this.list.children[at])) {
      this.list.replaceChildren(...nodes);
    }
    const names = new Set(shown.map((group) => group.group));
    for (const name of this.lines.keys()) if (!names.has(name)) this.lines.delete(name);
    this.node.hidden = ordered.length === 0;
    this.more.hidden = ordered.length <= MAX_COLLAPSED;
    this.more.setAttribute("aria-expanded", this.showAll);
    setText(this.more, this.showAll ? "Show fewer" : `Show all ${formatCount(ordered.length)}`);
  }

  getLine(group) {
    // Redraw a line only if its content has changed, so that focus and screen readers keep their place.
    const alerts = this.alerts.filter((alert) => alert.group === group.group);
    const content = JSON.stringify([group, alerts]);
    let line = this.lines.get(group.group);
    if (line === undefined) {
      line = { node: element("li", {}) };
      this.lines.set(group.group, line);
    }
    if (line.content !== content) {
      const links = [...line.node.querySelectorAll("a")];
      const focused = links.indexOf(document.activeElement);
      fillLine(line.node, group, alerts);
      if (focused >= 0) line.node.querySelectorAll("a")[focused]?.focus({ preventScroll: true });
      line.content = content;
    }
    return line.node;
  }
}

function fillLine(node, group, alerts) {
  const [severity, word] = chooseState(group);
  node.className = `group ${severity}`;
  node.replaceChildren(
    element("span", { class: `badge ${severity}` }, `${severityShape(severity)} ${word}`),
    element("h3", {}, group.group),
    element("span", { class: "sub counts" }, formatCounts(group)),
    element("ul", { class: "members" }, group.members.map(createMember)),
    ...(alerts.length ? [element("span", { class: "words" }, alerts.map(createAlertChip))] : []),
  );
}

function chooseState({ status, expected }) {
  const [severity, word] = STATES[status];
  return [severity === "unknown" && expected ? "warn" : severity, word];
}

function formatCounts({ live, needed, streams, unknown = 0 }) {
  const unknownText = unknown ? `, ${formatCount(unknown)} unknown` : "";
  return `${formatCount(live)} of ${formatCount(streams)} live${unknownText} (needed: ${formatCount(needed)})`;
}

function createMember(member) {
  const { upstream, stream, role, status, in_maintenance: inMaintenance } = member;
  const severity = memberSeverity(member);
  const words = [role, status, inMaintenance ? "maintenance" : ""].filter(Boolean).join(" · ");
  return element(
    "li",
    {},
    element("span", { class: `badge ${severity}` }, `${severityShape(severity)} ${words}`),
    " ",
    element("a", { href: streamUrl(upstream, stream) }, stream),
    element("span", { class: "sub" }, ` ${upstream}`),
  );
}

function memberSeverity({ live, in_maintenance: inMaintenance }) {
  if (live === undefined) return "unknown";
  if (live) return "ok";
  return inMaintenance ? "off" : "warn";
}
