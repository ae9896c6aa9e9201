// The number of streams with problems: in the title, and announced to screen readers when it changes.

import { setText } from "./dom.js";
import { pluralize } from "./labels.js";
import { FILTERS } from "./streams.js";
import { formatCount } from "./units.js";

export class Summary {
  constructor() {
    this.liveRegion = document.getElementById("summary");
    this.counts = "";
  }

  /** Update the summary. `route` is that of the stream shown, or null. */
  update(items, route) {
    const problems = items.filter(FILTERS.problems.test).length;
    const unknown = items.filter(FILTERS.unknown.test).length;
    const counts = [problems ? formatCount(problems) : "", unknown ? `${formatCount(unknown)} unknown` : ""];
    this.counts = counts.filter(Boolean).join(", ");
    this.updateTitle(route);
    this.announce(formatSummary(problems, unknown));
  }

  updateTitle(route) {
    document.title = `${this.counts ? `(${this.counts}) ` : ""}${route ? `${route.stream} · ` : ""}stream-exporter`;
  }

  announce(text) {
    const isFirst = this.text === undefined;
    if (!isFirst && text !== this.text) setText(this.liveRegion, text);
    this.text = text;
  }
}

function formatSummary(problems, unknown) {
  const problemsText = `${formatCount(problems)} ${pluralize(problems, "stream has", "streams have")} problems`;
  return unknown ? `${problemsText}, ${formatCount(unknown)} ${pluralize(unknown, "is", "are")} unknown` : problemsText;
}
