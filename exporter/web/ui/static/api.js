// Client of the JSON API.

import { root } from "./router.js";
import { streamKey } from "./streams.js";

const TIMEOUT_MS = 20_000;
const MAX_RESPONSE_SECONDS = 2;
const MAX_URL_LENGTH = 6000;
const MAX_STREAMS_PER_REQUEST = 100;

/** The exporter can't be reached or does not respond in time. */
export class ConnectionError extends Error {}

/** A response with an error status. */
export class ResponseError extends Error {
  constructor(status) {
    super(`status ${status}`);
    this.status = status;
  }
}

/** Seconds that the exporter's clock is ahead of the browser's. Small differences are the time the response took. */
let clockOffset = 0;

/** Unix seconds on the exporter's clock. */
export function exporterTime() {
  return Date.now() / 1000 + clockOffset;
}

let streamsEtag = "";

/** All upstreams and streams, or null if nothing has changed since the last response. */
export async function fetchStreams() {
  const response = await request("api/v1/streams", streamsEtag ? { "If-None-Match": streamsEtag } : {});
  const difference = Date.parse(response.headers.get("Date")) / 1000 - Date.now() / 1000;
  clockOffset = Math.abs(difference) > MAX_RESPONSE_SECONDS ? difference : 0;
  if (response.status === 304) return null;
  const data = await readJson(response);
  streamsEtag = response.headers.get("ETag") ?? "";
  return data;
}

/** All groups of streams. */
export async function fetchGroups() {
  return (await getJson("api/v1/groups")).groups;
}

/** The sidecar's alerts, or null if it is not running. */
export async function fetchAlerts() {
  const { active, alerts } = await getJson("api/v1/sidecar");
  // Alerts of severity "none" are not shown: maintenance is taken from the states.
  return active ? alerts.map(parseAlert).filter((alert) => alert.severity !== "none") : null;
}

function parseAlert({ labels, annotations, state, activeAt }) {
  const { alertname, severity, upstream, stream, group } = labels;
  const { summary, description, runbook_url: runbook } = annotations;
  const since = Date.parse(activeAt) / 1000;
  return { alertname, severity, upstream, stream, group, state, summary, description, runbook, since };
}

/** All facts and the history of a stream, or null if the stream is not known. */
export async function fetchStream(upstream, stream) {
  try {
    return await getJson(`api/v1/stream?${new URLSearchParams({ upstream, stream })}`);
  } catch (error) {
    if (error instanceof ResponseError && error.status === 404) return null;
    throw error;
  }
}

/** Histories of one or more streams, by their keys, and the time between two points. */
export async function fetchHistories(items) {
  const histories = new Map();
  let stepSeconds;
  for (const url of buildHistoryUrls(items)) {
    const response = await getJson(url);
    stepSeconds = response.step_seconds;
    for (const history of response.streams) histories.set(streamKey(history.upstream, history.stream), history);
  }
  return { stepSeconds, histories };
}

/** URLs of bounded length that together request the history of all items. */
function* buildHistoryUrls(items) {
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

async function getJson(path) {
  return readJson(await request(path));
}

async function request(path, headers = {}) {
  const options = {
    headers: { Accept: "application/json", ...headers },
    cache: "no-store",
    signal: AbortSignal.timeout(TIMEOUT_MS),
  };
  const response = await fetch(new URL(path, root), options).catch(throwConnectionError);
  if (!response.ok && response.status !== 304) throw new ResponseError(response.status);
  return response;
}

async function readJson(response) {
  const text = await response.text().catch(throwConnectionError);
  return JSON.parse(text);
}

function throwConnectionError(cause) {
  throw new ConnectionError("no response", { cause });
}
