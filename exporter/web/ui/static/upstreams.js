// The upstreams: how each is, how old its news are, and what to do where it fails.

import { element } from "./dom.js";
import { alertChip } from "./row.js";
import { now } from "./source.js";
import { count, moment, span } from "./units.js";
import { plural, shape } from "./words.js";

const SHOWN = 8;

/** `choose(name)` is called with an upstream whose streams are wanted alone. */
export class Upstreams {
  constructor(choose) {
    this.choose = choose;
    this.all = false;
    this.cards = new Map();
    this.list = element("ul", { class: "upstreams" });
    this.more = element("button", { type: "button", class: "more", hidden: true, onclick: () => this.toggle() });
    this.node = element(
      "section",
      { "aria-labelledby": "upstreams-heading" },
      element("h2", { id: "upstreams-heading" }, "Upstreams"),
      this.list,
      this.more,
    );
  }

  show(upstreams, alerts) {
    this.upstreams = upstreams;
    this.alerts = alerts ?? [];
    this.draw();
  }

  toggle() {
    this.all = !this.all;
    this.draw();
  }

  draw() {
    // Those that fail first; the others in the order of the configuration.
    const ordered = [...this.upstreams].sort((one, other) => (one.up === false ? 0 : 1) - (other.up === false ? 0 : 1));
    const shown = this.all ? ordered : ordered.slice(0, SHOWN);
    const cards = shown.map((upstream) => this.card(upstream));
    for (const [name, card] of this.cards) if (!cards.includes(card)) this.cards.delete(name);
    if (cards.length !== this.list.children.length || cards.some((card, at) => card.node !== this.list.children[at])) {
      this.list.replaceChildren(...cards.map((card) => card.node));
    }
    this.more.hidden = ordered.length <= SHOWN;
    this.more.setAttribute("aria-expanded", this.all);
    this.more.textContent = this.all ? "Show fewer" : `Show all ${count(ordered.length)}`;
    this.age();
  }

  /** Say again how long ago everything was. */
  age() {
    for (const card of this.cards.values()) card.age();
  }

  card(upstream) {
    // Drawn anew only when something was said anew, so that neither focus nor a reader loses its place.
    const alerts = this.alerts.filter((alert) => alert.upstream === upstream.upstream && !alert.stream);
    const said = JSON.stringify([upstream, alerts]);
    let card = this.cards.get(upstream.upstream);
    if (card === undefined) {
      card = { node: element("li", {}) };
      this.cards.set(upstream.upstream, card);
    }
    if (card.said !== said) {
      const focused = card.node.contains(document.activeElement);
      this.fill(card, upstream, alerts);
      if (focused) card.node.querySelector("button")?.focus({ preventScroll: true });
      card.said = said;
    }
    return card;
  }

  fill(card, upstream, alerts) {
    const [severity, word] = stateOf(upstream);
    const age = element("p", { class: "age" });
    card.age = () => {
      const text = ageOf(upstream);
      if (age.textContent !== text) age.textContent = text;
    };
    card.node.className = `card ${severity}`;
    card.node.replaceChildren(
      element(
        "h3",
        {},
        element("span", { class: `badge ${severity}` }, `${shape(severity)} ${word}`),
        element("span", { class: "name" }, upstream.upstream),
      ),
      element("p", { class: "sub where" }, [upstream.platform, upstream.version, upstream.host].filter(Boolean).join(" · ")),
      this.streams(upstream),
      age,
      ...errorOf(upstream),
      ...(alerts.length ? [element("p", { class: "words" }, alerts.map(alertChip))] : []),
    );
  }

  streams({ upstream, streams, streams_live: live, streams_dropped: dropped = 0 }) {
    const text = `${count(live)} of ${count(streams)} ${plural(streams, "stream", "streams")} live`;
    const left = dropped ? `, ${count(dropped)} more left out by max_streams` : "";
    return element(
      "p",
      { class: "live" },
      element(
        "button",
        { type: "button", class: "only", title: `Show only the streams of ${upstream}`, onclick: () => this.choose(upstream) },
        text,
      ),
      left,
    );
  }
}

function stateOf({ up }) {
  if (up === undefined) return ["off", "Not polled yet"];
  return up ? ["ok", "Up"] : ["bad", "Down"];
}

function ageOf({ last_success_timestamp_seconds: success, next_poll_timestamp_seconds: next, up }) {
  const news = success === undefined ? "no news yet" : `news ${span(now() - success)} ago`;
  if (next === undefined) return up === undefined ? "waiting for the first poll" : news;
  const until = next - now();
  return `${news} · ${until > 0.5 ? `next poll in ${span(until)}` : "polling now"}`;
}

function errorOf({ up, last_error: error, advice, last_success_timestamp_seconds: success }) {
  if (!error) return [];
  const since = up === false && success !== undefined ? ` Last good news: ${moment(success)}.` : "";
  return [
    element("p", { class: "error" }, element("strong", {}, "Last error: "), error),
    element("p", { class: "advice" }, withCode(advice ?? ""), since),
  ];
}

/** What stands in backquotes is a key of the configuration. */
function withCode(text) {
  return text.split("`").map((part, index) => (index % 2 ? element("code", {}, part) : part));
}
