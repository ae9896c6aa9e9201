// What the exporter says, fetched. Nothing here knows the document.

import { root } from "./route.js";
import { keyOf } from "./streams.js";

const PATIENCE_MS = 20_000;
const LONGEST_ADDRESS = 6000;
const STREAMS_AT_A_TIME = 100;

/** The exporter answered, but not with what was asked for. */
export class AnswerError extends Error {
  constructor(status) {
    super(`status ${status}`);
    this.status = status;
  }
}

/** Seconds that the exporter's clock is ahead of ours; small differences are the answer's way. */
let ahead = 0;

/** Unix seconds on the exporter's clock. */
export function now() {
  return Date.now() / 1000 + ahead;
}

let streamsTag = "";

/** All upstreams and streams; null while nothing has changed since the last answer. */
export async function fetchStreams() {
  const answer = await ask("api/v1/streams", streamsTag ? { "If-None-Match": streamsTag } : {});
  const difference = Date.parse(answer.headers.get("Date")) / 1000 - Date.now() / 1000;
  ahead = Math.abs(difference) > 2 ? difference : 0;
  if (answer.status === 304) return null;
  const data = await answer.json();
  streamsTag = answer.headers.get("ETag") ?? "";
  return data;
}

/** The alerts of the sidecar; null where there is none. */
export async function fetchAlerts() {
  try {
    const { data } = await (await ask("api/v1/alerts")).json();
    return data.sidecar ? data.alerts.map(alertOf) : null;
  } catch (error) {
    if (error instanceof AnswerError) return null;
    throw error;
  }
}

function alertOf({ labels, annotations, state, activeAt }) {
  const { alertname, severity, upstream, stream } = labels;
  const { summary, description, runbook_url: runbook } = annotations;
  return { alertname, severity, upstream, stream, state, summary, description, runbook, since: Date.parse(activeAt) / 1000 };
}

/** All that is known of one stream; null when there is no such stream now. */
export async function fetchStream(upstream, stream) {
  try {
    return await (await ask(`api/v1/stream?${new URLSearchParams({ upstream, stream })}`)).json();
  } catch (error) {
    if (error instanceof AnswerError && error.status === 404) return null;
    throw error;
  }
}

/** The points of some streams' lines: key → what `/api/v1/history` says. */
export async function fetchHistories(items) {
  const found = new Map();
  for (const address of historyAddresses(items)) {
    const { streams } = await (await ask(address)).json();
    for (const points of streams) found.set(keyOf(points.upstream, points.stream), points);
  }
  return found;
}

/** Addresses of bounded length that together ask for all. */
function* historyAddresses(items) {
  let query = new URLSearchParams();
  for (const { key } of items) {
    query.append("stream", key);
    if (query.size >= STREAMS_AT_A_TIME || query.toString().length > LONGEST_ADDRESS) {
      yield `api/v1/history?${query}`;
      query = new URLSearchParams();
    }
  }
  if (query.size) yield `api/v1/history?${query}`;
}

async function ask(path, headers = {}) {
  const answer = await fetch(new URL(path, root), {
    headers: { Accept: "application/json", ...headers },
    cache: "no-store",
    signal: AbortSignal.timeout(PATIENCE_MS),
  });
  if (!answer.ok && answer.status !== 304) throw new AnswerError(answer.status);
  return answer;
}
