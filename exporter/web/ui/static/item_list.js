// A list under a heading, such as that of upstreams: the first items, and a button that shows the others.

import { element, setText } from "./dom.js";
import { formatCount } from "./units.js";

const MAX_COLLAPSED = 8;

/** Subclasses have `nameOf(data)`, `alertsOf(data)` and `fill(item, data, alerts)`, which draws into `item.node`. */
export class ItemList {
  constructor({ id, heading, className }) {
    this.showAll = false;
    this.ordered = [];
    this.alerts = [];
    this.items = new Map();
    this.list = element("ul", { class: className });
    this.more = element("button", { type: "button", class: "more", hidden: true, onclick: () => this.toggleAll() });
    this.node = element("section", { "aria-labelledby": id }, element("h2", { id }, heading), this.list, this.more);
  }

  /** Draw the data of all items, in this order. */
  setItems(ordered, alerts) {
    this.ordered = ordered;
    this.alerts = alerts ?? [];
    this.draw();
  }

  toggleAll() {
    this.showAll = !this.showAll;
    this.draw();
  }

  draw() {
    const shown = this.showAll ? this.ordered : this.ordered.slice(0, MAX_COLLAPSED);
    const nodes = shown.map((data) => this.getItem(data).node);
    const names = new Set(shown.map((data) => this.nameOf(data)));
    for (const name of this.items.keys()) if (!names.has(name)) this.items.delete(name);
    if (nodes.length !== this.list.children.length || nodes.some((node, at) => node !== this.list.children[at])) {
      this.list.replaceChildren(...nodes);
    }
    this.more.hidden = this.ordered.length <= MAX_COLLAPSED;
    this.more.setAttribute("aria-expanded", this.showAll);
    setText(this.more, this.showAll ? "Show fewer" : `Show all ${formatCount(this.ordered.length)}`);
  }

  getItem(data) {
    // Redraw an item only if its content has changed, so that focus and screen readers keep their place.
    const alerts = this.alertsOf(data);
    const content = JSON.stringify([data, alerts]);
    let item = this.items.get(this.nameOf(data));
    if (item === undefined) {
      item = { node: element("li", {}) };
      this.items.set(this.nameOf(data), item);
    }
    if (item.content !== content) {
      const focused = listControls(item.node).indexOf(document.activeElement);
      this.fill(item, data, alerts);
      if (focused >= 0) listControls(item.node)[focused]?.focus({ preventScroll: true });
      item.content = content;
    }
    return item;
  }
}

function listControls(node) {
  return [...node.querySelectorAll("a, button")];
}
