// Search, filters and sort order of the list, kept in the URL so that they can be shared.

import { element } from "./dom.js";
import { FILTERS, ORDERS } from "./streams.js";
import { formatCount } from "./units.js";

const SEARCH_DEBOUNCE_MS = 120;

export class Controls {
  /** `onChange()` is called after each change of `selection`. */
  constructor(onChange) {
    this.onChange = onChange;
    this.selection = parseQuery(new URL(location.href).searchParams);
    this.search = element("input", {
      type: "search",
      id: "search",
      placeholder: "Name, upstream, issue, alert …",
      autocomplete: "off",
      spellcheck: "false",
      oninput: () => this.debounceSearch(),
    });
    this.search.value = this.selection.search;
    this.filters = Object.entries(FILTERS).map(([name, { label }]) => this.createFilterButton(name, label));
    this.upstream = element("select", { id: "upstream", onchange: () => this.set({ upstream: this.upstream.value }) });
    this.order = element(
      "select",
      { id: "order", onchange: () => this.set({ order: this.order.value, reversed: false }) },
      Object.entries(ORDERS).map(([name, { label }]) => element("option", { value: name }, label)),
    );
    this.node = element(
      "div",
      { class: "controls", role: "search" },
      createField("search", "Search", this.search),
      element(
        "div",
        { class: "filters", role: "group", "aria-label": "Filter streams" },
        this.filters.map((filter) => filter.node),
      ),
      createField("upstream", "Upstream", this.upstream),
      createField("order", "Sort by", this.order, "order"),
    );
    this.updateControls();
  }

  /** Change the selection. */
  set(change) {
    Object.assign(this.selection, change);
    this.updateControls();
    history.replaceState(history.state, "", buildUrl(this.selection));
    this.onChange();
  }

  /** Sort the list by an order, or reverse the current one. */
  sortBy(order) {
    this.set({ order, reversed: order === this.selection.order ? !this.selection.reversed : false });
  }

  /** Update the number of items per filter and the upstreams. `hasAlerts`: whether to offer the filter for alerts. */
  setOptions(items, upstreams, hasAlerts) {
    for (const { name, number, node } of this.filters) {
      if (name === "alerts") node.hidden = !hasAlerts && this.selection.filter !== "alerts";
      number.textContent = formatCount(items.filter(FILTERS[name].test).length);
    }
    const names = ["", ...upstreams.map((upstream) => upstream.upstream)];
    const current = [...this.upstream.options].map((option) => option.value);
    if (names.join("\n") !== current.join("\n")) {
      this.upstream.replaceChildren(...names.map((name) => element("option", { value: name }, name || "All")));
    }
    if (this.selection.upstream && !names.includes(this.selection.upstream)) this.selection.upstream = "";
    this.upstream.value = this.selection.upstream;
  }

  createFilterButton(name, label) {
    const number = element("span", { class: "number" });
    const node = element("button", { type: "button", onclick: () => this.set({ filter: name }) }, label, " ", number);
    return { name, number, node };
  }

  debounceSearch() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.set({ search: this.search.value }), SEARCH_DEBOUNCE_MS);
  }

  updateControls() {
    for (const { name, node } of this.filters) node.setAttribute("aria-pressed", name === this.selection.filter);
    this.order.value = this.selection.order;
    this.upstream.value = this.selection.upstream;
  }
}

function createField(id, label, control, name = id) {
  return element("div", { class: `field ${name}` }, element("label", { for: id }, label), control);
}

function parseQuery(query) {
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

function buildUrl({ search, filter, upstream, order, reversed }) {
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
