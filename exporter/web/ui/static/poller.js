// Polls the API: twice per poll of the fastest upstream, slower after failures, and never while the page is hidden.

import { fetchAlerts, fetchGroups, fetchStreams } from "./api.js";

const MIN_INTERVAL_SECONDS = 2;
const MAX_INTERVAL_SECONDS = 5;
const MAX_RETRY_SECONDS = 10;

export class Poller {
  /**
   * Each poll calls `onData(data, alerts, groups)` if any of them has changed, then `onPoll()`, which may fetch more,
   * and finally `onSuccess()` or `onFailure(error)`.
   */
  constructor({ onData, onPoll, onSuccess, onFailure }) {
    this.handlers = { onData, onPoll, onSuccess, onFailure };
    this.data = null;
    this.alerts = null;
    this.groups = [];
    this.hasNewData = false;
    this.failures = 0;
    this.isPolling = false;
    document.addEventListener("visibilitychange", () => this.poll());
  }

  /** Poll now, and schedule the next poll. */
  async poll() {
    if (document.hidden || this.isPolling) return;
    clearTimeout(this.timer);
    this.isPolling = true;
    try {
      await this.fetchData();
      await this.handlers.onPoll();
      this.failures = 0;
      this.handlers.onSuccess();
    } catch (error) {
      this.failures += 1;
      this.handlers.onFailure(error);
    } finally {
      this.isPolling = false;
      this.timer = setTimeout(() => this.poll(), this.delaySeconds() * 1000);
    }
  }

  async fetchData() {
    // Streams come last: once they are fetched, the exporter only sends them again if they change.
    const [alerts, groups] = await Promise.all([fetchAlerts(), fetchGroups()]);
    const data = await fetchStreams();
    this.hasNewData ||= data !== null || isDifferent(alerts, this.alerts) || isDifferent(groups, this.groups);
    this.data = data ?? this.data;
    this.alerts = alerts;
    this.groups = groups;
    if (!this.hasNewData) return;
    this.handlers.onData(this.data, this.alerts, this.groups);
    this.hasNewData = false;
  }

  delaySeconds() {
    if (this.failures > 0) return Math.min(2 ** (this.failures - 1), MAX_RETRY_SECONDS);
    const intervals = this.data.upstreams.map((upstream) => upstream.poll_interval_seconds ?? 1);
    return Math.min(Math.max(Math.min(...intervals) / 2, MIN_INTERVAL_SECONDS), MAX_INTERVAL_SECONDS);
  }
}

function isDifferent(one, other) {
  return JSON.stringify(one) !== JSON.stringify(other);
}
