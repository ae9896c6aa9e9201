// A line for each group of streams: whether it is up, and its streams with their roles and states.

import { element } from "./dom.js";
import { ItemList } from "./item_list.js";
import { severityShape } from "./labels.js";
import { streamUrl } from "./router.js";
import { createAlertChip } from "./stream_row.js";
import { formatCount } from "./units.js";

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

export class GroupList extends ItemList {
  constructor() {
    super({ id: "groups-heading", heading: "Groups", className: "group-list" });
    this.node.hidden = true;
  }

  setData(groups, alerts) {
    this.node.hidden = groups.length === 0;
    const ordered = [...groups].sort((one, other) => ORDER.indexOf(one.status) - ORDER.indexOf(other.status));
    this.setItems(ordered, alerts);
  }

  nameOf(group) {
    return group.group;
  }

  alertsOf(group) {
    return this.alerts.filter((alert) => alert.group === group.group);
  }

  fill({ node }, group, alerts) {
    const [severity, word] = chooseState(group);
    node.className = `group ${severity}`;
    node.replaceChildren(
      element("span", { class: `badge ${severity}` }, `${severityShape(severity)} ${word}`),
      element("h3", {}, group.group),
      element("span", { class: "sub counts" }, formatCounts(group)),
      element("ul", { class: "members" }, group.members.map((member) => createMember(member, group))),
      ...(alerts.length ? [element("span", { class: "words" }, alerts.map(createAlertChip))] : []),
    );
  }
}

function chooseState({ status, expected }) {
  const [severity, word] = STATES[status];
  return [severity === "unknown" && expected ? "warn" : severity, word];
}

function formatCounts({ live, needed, streams, unknown = 0 }) {
  const unknownText = unknown ? `, ${formatCount(unknown)} unknown` : "";
  return `${formatCount(live)} of ${formatCount(streams)} live${unknownText} (needed: ${formatCount(needed)})`;
}

function createMember(member, group) {
  const { upstream, stream, role, status, in_maintenance: inMaintenance } = member;
  const severity = assessMember(member, group);
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

function assessMember({ live, in_maintenance: inMaintenance }, { expected }) {
  if (live === undefined) return "unknown";
  if (live) return "ok";
  return inMaintenance || !expected ? "off" : "warn";
}
