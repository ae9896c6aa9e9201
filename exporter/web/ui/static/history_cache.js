// Recent histories of the streams that have been visible, for their sparklines.

import { fetchHistories } from "./api.js";

const MAX_STREAMS = 500;

export class HistoryCache {
  constructor() {
    this.histories = new Map();
    this.fetchedAt = new Map();
    /** Time between two points; not known before the first response. */
    this.stepSeconds = Infinity;
  }

  /** History of a stream, or undefined if it has not been fetched. */
  get(key) {
    return this.histories.get(key);
  }

  /** Fetch the histories of these items that may have a new point. Returns whether any was fetched. */
  async refresh(items) {
    const oldest = Date.now() / 1000 - this.stepSeconds;
    const outdated = items.filter(({ key }) => !(this.fetchedAt.get(key) > oldest));
    if (outdated.length === 0) return false;
    for (const { key } of outdated) this.fetchedAt.set(key, Date.now() / 1000);
    try {
      const { stepSeconds, histories } = await fetchHistories(outdated);
      this.stepSeconds = stepSeconds;
      for (const { key } of outdated) this.histories.delete(key);
      for (const [key, history] of histories) this.histories.set(key, history);
    } catch (error) {
      for (const { key } of outdated) this.fetchedAt.delete(key);
      throw error;
    }
    this.evictOldest();
    return true;
  }

  evictOldest() {
    for (const key of this.histories.keys()) {
      if (this.histories.size <= MAX_STREAMS) return;
      this.histories.delete(key);
      this.fetchedAt.delete(key);
    }
  }
}
