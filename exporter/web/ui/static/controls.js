// Search, filters and order, kept in the address so that a link shows the same.

import { element } from "./dom.js";
import { FILTERS, ORDERS } from "./streams.js";
import { count } from "./units.js";

const PAUSE_MS = 120;

/** `chosen` holds what is chosen now; `changed()` is called after each change. */
export class Controls {
  constructor(changed) {
    this.changed = changed;
    this.chosen = fromAddress(new URL(location.href).searchParams);
    this.search = element("input", {
      type: "search",
      id: "search",
      placeholder: "Name, upstream, issue, alert …",
      autocomplete: "off",
      spellcheck: "false",
      oninput: () => this.searchLater(),
    });
    this.search.value = this.chosen.search;
    this.filters = Object.entries(FILTERS).map(([name, { label }]) => this.filterButton(name, label));
    this.upstream = element("select", { id: "upstream", onchange: () => this.set({ upstream: this.upstream.value }) });
    this.order = element(
      "select",
      { id: "order", onchange: () => this.set({ order: this.order.value, reversed: false }) },
      Object.entries(ORDERS).map(([name, { label }]) => element("option", { value: name }, label)),
    );
    this.node = element(
      "div",
      { class: "controls", role: "search" },
      field("search", "Search", this.search),
      element("div", { class: "filters", role: "group", "aria-label": "Which streams" }, this.filters.map((f) => f.node)),
      field("upstream", "Upstream", this.upstream),
      field("order", "Sort by", this.order, "order"),
    );
    this.reflect();
  }

  /** Change what is chosen. */
  set(change) {
    Object.assign(this.chosen, change);
    this.reflect();
    history.replaceState(history.state, "", withChosen(this.chosen));
    this.changed();
  }

  /** Sort by this, or the other way round when that is so already. */
  sortBy(order) {
    this.set({ order, reversed: order === this.chosen.order ? !this.chosen.reversed : false });
  }

  /** How many items each filter would leave, which upstreams there are, and whether alerts are known. */
  offer(items, upstreams, withAlerts) {
    for (const { name, number, node } of this.filters) {
      if (name === "alerts") node.hidden = !withAlerts && this.chosen.filter !== "alerts";
      number.textContent = count(items.filter(FILTERS[name].test).length);
    }
    const names = ["", ...upstreams.map((upstream) => upstream.upstream)];
    const offered = [...this.upstream.options].map((option) => option.value);
    if (names.join("\n") !== offered.join("\n")) {
      this.upstream.replaceChildren(...names.map((name) => element("option", { value: name }, name || "All")));
    }
    if (this.chosen.upstream && !names.includes(this.chosen.upstream)) this.chosen.upstream = "";
    this.upstream.value = this.chosen.upstream;
  }

  filterButton(name, label) {
    const number = element("span", { class: "number" });
    const node = element("button", { type: "button", onclick: () => this.set({ filter: name }) }, label, " ", number);
    return { name, number, node };
  }

  searchLater() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.set({ search: this.search.value }), PAUSE_MS);
  }

  reflect() {
    for (const { name, node } of this.filters) node.setAttribute("aria-pressed", name === this.chosen.filter);
    this.order.value = this.chosen.order;
    this.upstream.value = this.chosen.upstream;
  }
}

function field(id, label, control, name = id) {
  return element("div", { class: `field ${name}` }, element("label", { for: id }, label), control);
}

function fromAddress(query) {
  const filter = query.get("show");
  const order = query.get("sort");
  return {
    search: query.get("q") ?? "",
    filter: Object.hasOwn(FILTERS, filter) ? filter : "all",
    upstream: query.get("only") ?? "",
    order: Object.hasOwn(ORDERS, order) ? order : "attention",
    reversed: query.has("reversed"),
  };
}

function withChosen({ search, filter, upstream, order, reversed }) {
  const url = new URL(location.href);
  const query = new URLSearchParams();
  if (search) query.set("q", search);
  if (filter !== "all") query.set("show", filter);
  if (upstream) query.set("only", upstream);
  if (order !== "attention") query.set("sort", order);
  if (reversed) query.set("reversed", "");
  url.search = query.toString();
  return url;
}
