// The page: asks again and again, and shows the list or one stream.

import { Controls } from "./controls.js";
import { detail } from "./detail.js";
import { element, say } from "./dom.js";
import { List } from "./list.js";
import { root, routeOf } from "./route.js";
import { COLUMNS, streamRow } from "./row.js";
import * as source from "./source.js";
import { FILTERS, itemsOf, keyOf, ORDERS, select } from "./streams.js";
import { count, span, timeOfDay } from "./units.js";
import { Upstreams } from "./upstreams.js";
import { plural } from "./words.js";

const SHORTEST_WAIT_SECONDS = 2;
const LONGEST_WAIT_SECONDS = 5;
const LONGEST_RETRY_SECONDS = 10;
const HISTORY_AGE_SECONDS = 15;
const SETTLE_MS = 150;

class Page {
  constructor() {
    this.data = null;
    this.alerts = null;
    this.items = [];
    this.visible = [];
    this.histories = new Map();
    this.historyAges = new Map();
    this.failures = 0;
    this.route = routeOf(location.href);
    this.main = document.getElementById("main");
    this.connection = document.getElementById("connection");
    this.banner = document.getElementById("banner");
    this.news = document.getElementById("news");
    this.upstreams = new Upstreams((name) => this.only(name));
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
    this.list = new List(this.rows, (item) => streamRow(item, this.histories), (items) => this.inSight(items));
    this.main.replaceChildren(this.listView, this.detailView);
    document.addEventListener("click", (event) => this.follow(event));
    addEventListener("popstate", () => this.arrive());
    document.addEventListener("visibilitychange", () => document.hidden || this.refresh());
    setInterval(() => this.tick(), 1000);
    this.refresh();
  }

  // -- asking ----------------------------------------------------------------------------------------------------------

  /** Ask for what is new, show it, and do so again in a while; a page that nobody looks at asks nothing. */
  async refresh() {
    clearTimeout(this.timer);
    if (document.hidden) return;
    if (this.asking) return;
    this.asking = true;
    try {
      const [data, alerts] = await Promise.all([source.fetchStreams(), source.fetchAlerts()]);
      const changed = data !== null || JSON.stringify(alerts) !== JSON.stringify(this.alerts);
      this.data = data ?? this.data;
      this.alerts = alerts;
      this.answered();
      if (changed) this.took();
      await this.refreshView();
    } catch (error) {
      this.failed(error);
    } finally {
      this.asking = false;
      this.timer = setTimeout(() => this.refresh(), this.wait() * 1000);
    }
  }

  wait() {
    if (this.failures > 0) return Math.min(2 ** (this.failures - 1), LONGEST_RETRY_SECONDS);
    const intervals = (this.data?.upstreams ?? []).map((upstream) => upstream.poll_interval_seconds ?? 1);
    return Math.min(Math.max(Math.min(...intervals) / 2, SHORTEST_WAIT_SECONDS), LONGEST_WAIT_SECONDS);
  }

  async refreshView() {
    if (this.route) await this.refreshDetail();
    else await this.refreshHistories();
  }

  answered() {
    this.failures = 0;
    this.answeredAt = Date.now();
    this.banner.hidden = true;
    this.tick();
  }

  failed(error) {
    this.failures += 1;
    if (error instanceof source.AnswerError && (error.status === 401 || error.status === 403)) {
      say(this.banner, "The exporter asks who you are: load this page again to sign in.");
    } else if (error instanceof source.AnswerError || error instanceof TypeError || error.name === "TimeoutError") {
      const then = this.answeredAt ? `since ${timeOfDay(this.answeredAt / 1000)}. What stands here is from then` : "yet";
      say(this.banner, `The exporter has not answered ${then}. Trying again.`);
    } else {
      this.banner.hidden = false;
      say(this.banner, `This page stumbled: ${error.message}. Load it again.`);
      throw error;
    }
    this.banner.hidden = false;
    say(this.connection, "no connection");
    this.connection.className = "lost";
  }

  tick() {
    if (this.failures > 0 || !this.answeredAt) return;
    say(this.connection, `live, updated ${span((Date.now() - this.answeredAt) / 1000)} ago`);
    this.connection.className = "";
    if (!this.route) this.upstreams.age();
  }

  // -- showing ---------------------------------------------------------------------------------------------------------

  /** There is news. */
  took() {
    this.items = itemsOf(this.data, this.alerts);
    this.tell();
    this.upstreams.show(this.data.upstreams, this.alerts);
    this.controls.offer(this.items, this.data.upstreams, this.alerts !== null);
    this.listView.hidden = Boolean(this.route);
    this.detailView.hidden = !this.route;
    this.showList();
  }

  /** Say aloud how many streams have problems, when that changes. */
  tell() {
    const problems = this.items.filter(FILTERS.problems.test).length;
    document.title = `${problems ? `(${count(problems)}) ` : ""}${this.route ? `${this.route.stream} · ` : ""}stream-exporter`;
    if (this.problems !== undefined && this.problems !== problems) {
      say(this.news, `${count(problems)} ${plural(problems, "stream has", "streams have")} problems`);
    }
    this.problems = problems;
  }

  showList() {
    if (this.route || this.data === null) return;
    const { order, reversed } = this.controls.chosen;
    const selected = select(this.items, this.controls.chosen);
    this.headers.forEach((header, index) => {
      if (COLUMNS[index].order !== order) return header.removeAttribute("aria-sort");
      const descending = ORDERS[order].descending !== reversed;
      return header.setAttribute("aria-sort", descending ? "descending" : "ascending");
    });
    this.table.setAttribute("aria-rowcount", selected.length + 1);
    this.table.hidden = selected.length === 0;
    this.empty.hidden = selected.length > 0;
    say(this.empty, this.items.length ? "No stream is like this." : "No stream is known yet.");
    const all = count(this.items.length);
    say(this.streamsHeading, selected.length === this.items.length ? `Streams (${all})` : `Streams (${count(selected.length)} of ${all})`);
    this.list.show(selected);
  }

  columnHeader({ name, label, order }) {
    const button = order && element("button", { type: "button", onclick: () => this.controls.sortBy(order) }, label);
    return element("div", { class: `cell ${name}`, role: "columnheader" }, button ?? label);
  }

  only(upstream) {
    this.controls.set({ upstream });
    this.streamsHeading.focus();
  }

  // -- lines -----------------------------------------------------------------------------------------------------------

  inSight(items) {
    this.visible = items;
    clearTimeout(this.settling);
    this.settling = setTimeout(() => this.refreshHistories().catch(() => {}), SETTLE_MS);
  }

  /** Ask for the lines of the rows in sight that are older than a step. */
  async refreshHistories() {
    const before = Date.now() - HISTORY_AGE_SECONDS * 1000;
    const wanted = this.visible.filter(({ key }) => !(this.historyAges.get(key) > before));
    if (wanted.length === 0) return;
    for (const { key } of wanted) this.historyAges.set(key, Date.now());
    const found = await source.fetchHistories(wanted);
    for (const { key } of wanted) this.histories.delete(key);
    for (const [key, points] of found) this.histories.set(key, points);
    for (const key of this.histories.keys()) {
      if (this.histories.size <= 500) break;
      this.histories.delete(key);
      this.historyAges.delete(key);
    }
    this.list.later();
  }

  // -- one stream ------------------------------------------------------------------------------------------------------

  async refreshDetail() {
    const route = this.route;
    const known = await source.fetchStream(route.upstream, route.stream);
    if (this.route !== route) return;
    const focused = this.detailBody.contains(document.activeElement);
    this.detailBody.replaceChildren(...detail(route, known, this.upstreamOf(route), this.alerts));
    if (focused || this.arriving) this.detailBody.querySelector("h2").focus({ preventScroll: !this.arriving });
    this.arriving = false;
  }

  upstreamOf({ upstream }) {
    return this.data?.upstreams.find((one) => one.upstream === upstream);
  }

  /** Go where a link of ours leads without leaving the page. */
  follow(event) {
    const link = event.target.closest?.("a[href]");
    if (!link || event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    const isBack = link.classList.contains("back") || link.classList.contains("home");
    if (!isBack && !routeOf(link.href)) return;
    event.preventDefault();
    if (isBack && history.state?.fromList) history.back();
    else {
      this.position = this.route ? this.position : scrollY;
      history.pushState({ fromList: !this.route && !isBack }, "", link.href);
      this.arrive();
    }
  }

  arrive() {
    const left = this.route;
    this.route = routeOf(location.href);
    this.listView.hidden = Boolean(this.route) || this.data === null;
    this.detailView.hidden = !this.route;
    if (this.route) {
      this.arriving = true;
      this.detailBody.replaceChildren(element("h2", { tabindex: "-1" }, this.route.stream), element("p", {}, "…"));
      scrollTo(0, 0);
      this.refreshDetail().catch((error) => this.failed(error));
    } else {
      this.detailBody.replaceChildren();
      this.showList();
      scrollTo(0, this.position ?? 0);
      this.list.draw();
      if (left) this.backTo(keyOf(left.upstream, left.stream));
    }
    if (this.data !== null) this.tell();
  }

  /** The keyboard returns to where it came from. */
  backTo(key) {
    const index = this.list.items.findIndex((item) => item.key === key);
    if (index >= 0) this.list.focus(index);
  }
}

new Page();
