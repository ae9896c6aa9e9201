// Client of the JSON API. Knows nothing of the document.

import { root } from "./route.js";
import { streamKey } from "./streams.js";

const TIMEOUT_MS = 20_000;
const MAX_URL_LENGTH = 6000;
const MAX_STREAMS_PER_REQUEST = 100;

/** A response with an error status. */
export class ResponseError extends Error {
  constructor(status) {
    super(`status ${status}`);
    this.status = status;
  }
}

/** Seconds that the exporter's clock is ahead of ours. Small differences are the time the response took. */
let clockOffset = 0;

/** Unix seconds on the exporter's clock. */
export function now() {
  return Date.now() / 1000 + clockOffset;
}

let streamsEtag = "";

/** All upstreams and streams; null if nothing has changed since the last response. */
export async function fetchStreams() {
  const response = await request("api/v1/streams", streamsEtag ? { "If-None-Match": streamsEtag } : {});
  const difference = Date.parse(response.headers.get("Date")) / 1000 - Date.now() / 1000;
  clockOffset = Math.abs(difference) > 2 ? difference : 0;
  if (response.status === 304) return null;
  const data = await response.json();
  streamsEtag = response.headers.get("ETag") ?? "";
  return data;
}

/** The sidecar's alerts; null if it is not running. */
export async function fetchAlerts() {
  const { active, alerts } = await (await request("api/v1/sidecar")).json();
  return active ? alerts.map(parseAlert) : null;
}

function parseAlert({ labels, annotations, state, activeAt }) {
  const { alertname, severity, upstream, stream } = labels;
  const { summary, description, runbook_url: runbook } = annotations;
  return { alertname, severity, upstream, stream, state, summary, description, runbook, since: Date.parse(activeAt) / 1000 };
}

/** All facts of one stream; null if there is no such stream now. */
export async function fetchStream(upstream, stream) {
  try {
    return await (await request(`api/v1/stream?${new URLSearchParams({ upstream, stream })}`)).json();
  } catch (error) {
    if (error instanceof ResponseError && error.status === 404) return null;
    throw error;
  }
}

/** The history of some streams: key → entry of `/api/v1/history`. */
export async function fetchHistories(items) {
  const found = new Map();
  for (const url of historyUrls(items)) {
    const { streams } = await (await request(url)).json();
    for (const points of streams) found.set(streamKey(points.upstream, points.stream), points);
  }
  return found;
}

/** URLs of bounded length that together request the history of all items. */
function* historyUrls(items) {
  let query = new URLSearchParams();
  for (const { key } of items) {
    query.append("stream", key);
    if (query.size >= MAX_STREAMS_PER_REQUEST || query.toString().length > MAX_URL_LENGTH) {
      yield `api/v1/history?${query}`;
      query = new URLSearchParams();
    }
  }
  if (query.size) yield `api/v1/history?${query}`;
}

async function request(path, headers = {}) {
  const response = await fetch(new URL(path, root), {
    headers: { Accept: "application/json", ...headers },
    cache: "no-store",
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  if (!response.ok && response.status !== 304) throw new ResponseError(response.status);
  return response;
}
