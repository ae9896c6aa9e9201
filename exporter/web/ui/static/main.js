// The page: polls the API and shows the list or one stream.

import * as api from "./api.js";
import { Controls } from "./controls.js";
import { renderDetail } from "./detail.js";
import { element, setText } from "./dom.js";
import { plural } from "./labels.js";
import { List } from "./list.js";
import { parseRoute, root } from "./route.js";
import { COLUMNS, streamRow } from "./row.js";
import { buildItems, FILTERS, ORDERS, selectItems, streamKey } from "./streams.js";
import { count, duration, timeOfDay } from "./units.js";
import { Upstreams } from "./upstreams.js";

const MIN_REFRESH_SECONDS = 2;
const MAX_REFRESH_SECONDS = 5;
const MAX_RETRY_SECONDS = 10;
const HISTORY_MAX_AGE_SECONDS = 15;
const SCROLL_DEBOUNCE_MS = 150;

class Page {
  constructor() {
    this.data = null;
    this.alerts = null;
    this.items = [];
    this.visible = [];
    this.histories = new Map();
    this.historyFetchedAt = new Map();
    this.failures = 0;
    this.route = parseRoute(location.href);
    this.main = document.getElementById("main");
    this.connection = document.getElementById("connection");
    this.banner = document.getElementById("banner");
    this.announcement = document.getElementById("news");
    this.upstreams = new Upstreams((name) => this.showOnlyUpstream(name));
    this.controls = new Controls(() => this.showList());
    this.headers = COLUMNS.map((column) => this.columnHeader(column));
    this.rows = element("div", { class: "rows", role: "rowgroup" });
    this.table = element(
      "div",
      { class: "table", role: "table", "aria-label": "Streams", "aria-colcount": COLUMNS.length },
      element(
        "div",
        { class: "head", role: "rowgroup" },
        element("div", { class: "row", role: "row", "aria-rowindex": 1 }, this.headers),
      ),
      this.rows,
    );
    this.empty = element("p", { class: "quiet", hidden: true });
    this.streamsHeading = element("h2", { id: "streams-heading", tabindex: "-1" }, "Streams");
    this.listView = element(
      "div",
      { hidden: true },
      this.upstreams.node,
      element(
        "section",
        { "aria-labelledby": "streams-heading" },
        this.streamsHeading,
        this.controls.node,
        this.table,
        this.empty,
      ),
    );
    this.detailBody = element("div", {});
    this.detailView = element(
      "div",
      { class: "detail", hidden: true },
      element("p", {}, element("a", { href: root.href, class: "back" }, "← All streams")),
      this.detailBody,
    );
    this.list = new List(this.rows, (item) => streamRow(item, this.histories), (items) => this.onVisibleRows(items));
    this.main.replaceChildren(this.listView, this.detailView);
    document.addEventListener("click", (event) => this.onLinkClick(event));
    addEventListener("popstate", () => this.onRoute());
    document.addEventListener("visibilitychange", () => document.hidden || this.refresh());
    setInterval(() => this.updateAges(), 1000);
    this.refresh();
  }

  // -- polling --------------------------------------------------------------------------------------------------------

  /** Fetch and show new data, and schedule the next refresh. A hidden page fetches nothing. */
  async refresh() {
    clearTimeout(this.timer);
    if (document.hidden) return;
    if (this.refreshing) return;
    this.refreshing = true;
    try {
      // Streams come last: once they are fetched, the exporter only sends them again if they change.
      const alerts = await api.fetchAlerts();
      const data = await api.fetchStreams();
      const changed = data !== null || JSON.stringify(alerts) !== JSON.stringify(this.alerts);
      this.data = data ?? this.data;
      this.alerts = alerts;
      this.onSuccess();
      if (changed) this.onData();
      await this.refreshView();
    } catch (error) {
      this.onFailure(error);
    } finally {
      this.refreshing = false;
      this.timer = setTimeout(() => this.refresh(), this.refreshDelay() * 1000);
    }
  }

  refreshDelay() {
    if (this.failures > 0) return Math.min(2 ** (this.failures - 1), MAX_RETRY_SECONDS);
    const intervals = (this.data?.upstreams ?? []).map((upstream) => upstream.poll_interval_seconds ?? 1);
    return Math.min(Math.max(Math.min(...intervals) / 2, MIN_REFRESH_SECONDS), MAX_REFRESH_SECONDS);
  }

  async refreshView() {
    if (this.route) await this.refreshDetail();
    else await this.refreshHistories();
  }

  onSuccess() {
    this.failures = 0;
    this.succeededAt = Date.now();
    this.banner.hidden = true;
    this.updateAges();
  }

  onFailure(error) {
    this.failures += 1;
    if (error instanceof api.ResponseError && (error.status === 401 || error.status === 403)) {
      setText(this.banner, "The exporter asks who you are: load this page again to sign in.");
    } else if (error instanceof api.ResponseError || error instanceof TypeError || error.name === "TimeoutError") {
      const then = this.succeededAt ? `since ${timeOfDay(this.succeededAt / 1000)}. What stands here is from then` : "yet";
      setText(this.banner, `The exporter has not answered ${then}. Trying again.`);
    } else {
      this.banner.hidden = false;
      setText(this.banner, `This page stumbled: ${error.message}. Load it again.`);
      throw error;
    }
    this.banner.hidden = false;
    setText(this.connection, "no connection");
    this.connection.className = "lost";
  }

  updateAges() {
    if (this.failures > 0 || !this.succeededAt) return;
    setText(this.connection, `live, updated ${duration((Date.now() - this.succeededAt) / 1000)} ago`);
    this.connection.className = "";
    if (!this.route) this.upstreams.updateAges();
  }

  // -- showing --------------------------------------------------------------------------------------------------------

  /** Show new data. */
  onData() {
    this.items = buildItems(this.data, this.alerts);
    this.updateTitle();
    this.upstreams.setData(this.data.upstreams, this.alerts);
    this.controls.setOptions(this.items, this.data.upstreams, this.alerts !== null);
    this.listView.hidden = Boolean(this.route);
    this.detailView.hidden = !this.route;
    this.showList();
  }

  /** Update the title, and announce how many streams have problems or are unknown when that changes. */
  updateTitle() {
    const problems = this.items.filter(FILTERS.problems.test).length;
    const unknown = this.items.filter(FILTERS.unknown.test).length;
    const counts = [problems ? count(problems) : "", unknown ? `${count(unknown)} unknown` : ""].filter(Boolean).join(", ");
    document.title = `${counts ? `(${counts}) ` : ""}${this.route ? `${this.route.stream} · ` : ""}stream-exporter`;
    const problemsText = `${count(problems)} ${plural(problems, "stream has", "streams have")} problems`;
    const unknownText = unknown ? `, the state of ${count(unknown)} is unknown` : "";
    const news = problemsText + unknownText;
    if (this.news !== undefined && this.news !== news) setText(this.announcement, news);
    this.news = news;
  }

  showList() {
    if (this.route || this.data === null) return;
    const { order, reversed } = this.controls.selection;
    const selected = selectItems(this.items, this.controls.selection);
    this.headers.forEach((header, index) => {
      if (COLUMNS[index].order !== order) return header.removeAttribute("aria-sort");
      const descending = ORDERS[order].descending !== reversed;
      return header.setAttribute("aria-sort", descending ? "descending" : "ascending");
    });
    this.table.setAttribute("aria-rowcount", selected.length + 1);
    this.table.hidden = selected.length === 0;
    this.empty.hidden = selected.length > 0;
    setText(this.empty, this.items.length ? "No stream is like this." : "No stream is known yet.");
    const all = count(this.items.length);
    setText(this.streamsHeading, selected.length === this.items.length ? `Streams (${all})` : `Streams (${count(selected.length)} of ${all})`);
    this.list.setItems(selected);
  }

  columnHeader({ name, label, order }) {
    const button = order && element("button", { type: "button", onclick: () => this.controls.sortBy(order) }, label);
    return element("div", { class: `cell ${name}`, role: "columnheader" }, button ?? label);
  }

  showOnlyUpstream(upstream) {
    this.controls.set({ upstream });
    this.streamsHeading.focus();
  }

  // -- sparklines -----------------------------------------------------------------------------------------------------

  onVisibleRows(items) {
    this.visible = items;
    clearTimeout(this.historyTimer);
    this.historyTimer = setTimeout(() => this.refreshHistories().catch(() => {}), SCROLL_DEBOUNCE_MS);
  }

  /** Fetch the history of the visible rows that is older than a step. */
  async refreshHistories() {
    const before = Date.now() - HISTORY_MAX_AGE_SECONDS * 1000;
    const wanted = this.visible.filter(({ key }) => !(this.historyFetchedAt.get(key) > before));
    if (wanted.length === 0) return;
    for (const { key } of wanted) this.historyFetchedAt.set(key, Date.now());
    const found = await api.fetchHistories(wanted);
    for (const { key } of wanted) this.histories.delete(key);
    for (const [key, points] of found) this.histories.set(key, points);
    for (const key of this.histories.keys()) {
      if (this.histories.size <= 500) break;
      this.histories.delete(key);
      this.historyFetchedAt.delete(key);
    }
    this.list.scheduleDraw();
  }

  // -- one stream -----------------------------------------------------------------------------------------------------

  async refreshDetail() {
    const route = this.route;
    const response = await api.fetchStream(route.upstream, route.stream);
    if (this.route !== route) return;
    const focused = this.detailBody.contains(document.activeElement);
    this.detailBody.replaceChildren(...renderDetail(route, response, this.findUpstream(route), this.alerts));
    if (focused || this.headingNeedsFocus) this.detailBody.querySelector("h2").focus({ preventScroll: !this.headingNeedsFocus });
    this.headingNeedsFocus = false;
  }

  findUpstream({ upstream }) {
    return this.data?.upstreams.find((one) => one.upstream === upstream);
  }

  /** Follow the page's own links without reloading it. */
  onLinkClick(event) {
    const link = event.target.closest?.("a[href]");
    if (!link || event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    const isBack = link.classList.contains("back") || link.classList.contains("home");
    if (!isBack && !parseRoute(link.href)) return;
    event.preventDefault();
    if (isBack && history.state?.fromList) history.back();
    else {
      this.listScrollY = this.route ? this.listScrollY : scrollY;
      history.pushState({ fromList: !this.route && !isBack }, "", link.href);
      this.onRoute();
    }
  }

  onRoute() {
    const left = this.route;
    this.route = parseRoute(location.href);
    this.listView.hidden = Boolean(this.route) || this.data === null;
    this.detailView.hidden = !this.route;
    if (this.route) {
      this.headingNeedsFocus = true;
      this.detailBody.replaceChildren(element("h2", { tabindex: "-1" }, this.route.stream), element("p", {}, "…"));
      scrollTo(0, 0);
      this.refreshDetail().catch((error) => this.onFailure(error));
    } else {
      this.detailBody.replaceChildren();
      this.showList();
      scrollTo(0, this.listScrollY ?? 0);
      this.list.draw();
      if (left) this.focusStream(streamKey(left.upstream, left.stream));
    }
    if (this.data !== null) this.updateTitle();
  }

  /** Return the keyboard focus to the stream that was opened. */
  focusStream(key) {
    const index = this.list.items.findIndex((item) => item.key === key);
    if (index >= 0) this.list.focusRow(index);
  }
}

new Page();
