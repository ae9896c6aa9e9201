// The view of all upstreams, groups and streams.

import { Controls } from "./controls.js";
import { element, setText } from "./dom.js";
import { GroupList } from "./group_list.js";
import { HistoryCache } from "./history_cache.js";
import { COLUMNS, createStreamRow } from "./stream_row.js";
import { ORDERS, selectItems, streamKey } from "./streams.js";
import { formatCount } from "./units.js";
import { UpstreamCards } from "./upstream_cards.js";
import { VirtualList } from "./virtual_list.js";

const SCROLL_DEBOUNCE_MS = 150;

export class ListView {
  constructor() {
    this.items = null;
    this.visibleItems = [];
    this.histories = new HistoryCache();
    this.cards = new UpstreamCards((upstream) => this.showOnlyUpstream(upstream));
    this.groups = new GroupList();
    this.controls = new Controls(() => this.drawStreams());
    this.heading = element("h2", { id: "streams-heading", tabindex: "-1" }, "Streams");
    this.headers = COLUMNS.map((column) => this.createColumnHeader(column));
    const rows = element("div", { class: "rows", role: "rowgroup" });
    const headerRow = element("div", { class: "row", role: "row", "aria-rowindex": 1 }, this.headers);
    this.table = element(
      "div",
      { class: "table", role: "table", "aria-label": "Streams", "aria-colcount": COLUMNS.length },
      element("div", { class: "head", role: "rowgroup" }, headerRow),
      rows,
    );
    this.empty = element("p", { class: "quiet", hidden: true });
    this.node = element(
      "div",
      { hidden: true },
      this.cards.node,
      this.groups.node,
      element(
        "section",
        { "aria-labelledby": "streams-heading" },
        this.heading,
        this.controls.node,
        this.table,
        this.empty,
      ),
    );
    this.list = new VirtualList(
      rows,
      (item) => createStreamRow(item, this.histories),
      (items) => this.onVisibleItems(items),
    );
  }

  /** Set what `show` draws. `alerts` is null without sidecar. */
  setData(items, upstreams, alerts, groups) {
    this.items = items;
    this.cards.setData(upstreams, alerts);
    this.groups.setData(groups, alerts);
    this.controls.setOptions(items, upstreams, alerts !== null);
  }

  show() {
    if (this.items === null) return;
    this.node.hidden = false;
    this.drawStreams();
  }

  hide() {
    this.node.hidden = true;
  }

  /** Show the view again as it was, with the keyboard focus on the stream that was opened (null if none was). */
  restore(listScrollY, stream) {
    this.show();
    scrollTo(0, listScrollY);
    this.list.draw();
    if (stream === null) return;
    const key = streamKey(stream.upstream, stream.stream);
    const index = this.list.items.findIndex((item) => item.key === key);
    if (index >= 0) this.list.focusRow(index);
  }

  /** Update the ages of the upstreams' data. */
  updateAges() {
    this.cards.updateAges();
  }

  /** Fetch and draw the histories of the visible streams. */
  async refreshHistories() {
    if (await this.histories.refresh(this.visibleItems)) this.list.scheduleDraw();
  }

  drawStreams() {
    if (this.node.hidden) return;
    const { order, reversed } = this.controls.selection;
    const selected = selectItems(this.items, this.controls.selection);
    this.headers.forEach((header, index) => {
      if (COLUMNS[index].order !== order) return header.removeAttribute("aria-sort");
      const isDescending = ORDERS[order].descending !== reversed;
      return header.setAttribute("aria-sort", isDescending ? "descending" : "ascending");
    });
    this.table.setAttribute("aria-rowcount", selected.length + 1);
    this.table.hidden = selected.length === 0;
    this.empty.hidden = selected.length > 0;
    setText(this.empty, this.items.length ? "No streams match the filters." : "No streams yet.");
    const all = formatCount(this.items.length);
    const isFiltered = selected.length < this.items.length;
    setText(this.heading, isFiltered ? `Streams (${formatCount(selected.length)} of ${all})` : `Streams (${all})`);
    this.list.setItems(selected);
  }

  createColumnHeader({ name, label, order }) {
    const button = order && element("button", { type: "button", onclick: () => this.controls.sortBy(order) }, label);
    return element("div", { class: `cell ${name}`, role: "columnheader" }, button ?? label);
  }

  showOnlyUpstream(upstream) {
    this.controls.set({ upstream });
    this.heading.focus();
  }

  onVisibleItems(items) {
    this.visibleItems = items;
    clearTimeout(this.historyTimer);
    // The poller reports failures of the exporter.
    this.historyTimer = setTimeout(() => this.refreshHistories().catch(() => {}), SCROLL_DEBOUNCE_MS);
  }
}
