// Playback checks: what viewers get, and the hop that explains it in a chain of a stream and its checks.

import { exporterTime } from "./api.js";
import { streamKey } from "./streams.js";
import { formatBitrate, formatDuration } from "./units.js";

const MAX_HOPS = 5;

/**
 * The chains of streams that have checks, and of checks that have a source, by key. `hops` are the streams from the
 * first one to this one, `paths` the hops of all checks behind this one.
 */
export function findChains(streams) {
  const chains = new Map();
  const checks = streams.filter(({ source_stream: source }) => source !== undefined);
  if (!checks.length) return chains;
  const known = new Map(streams.map((stream) => [keyOf(stream), stream]));
  for (const check of checks) {
    const hops = findHops(check, known);
    hops.forEach((hop, index) => {
      const chain = chains.get(keyOf(hop)) ?? { hops: hops.slice(0, index + 1), paths: [] };
      chains.set(keyOf(hop), chain);
      if (hop !== check) chain.paths.push(hops);
    });
  }
  return chains;
}

function findHops(check, known) {
  const hops = [check];
  while (hops[0].source_stream !== undefined && hops.length < MAX_HOPS) {
    const { source_upstream: upstream, source_stream: stream } = hops[0];
    hops.unshift(known.get(streamKey(upstream, stream)) ?? { upstream, stream, status: "unknown" });
  }
  return hops;
}

/** The first hop that is known to be broken; undefined without one. */
export function findBrokenHop(hops) {
  const isBroken = ({ live, playable }) => live === false || playable === false;
  // A check knows whether its source is live; the source's own facts may be outdated.
  return hops.find((hop, index) => (index + 1 < hops.length ? hops[index + 1].source_live === false : isBroken(hop)));
}

/** What the row of a stream shows: what viewers get at its checks, or the hop that explains why they get nothing. */
export function describePlayback(stream, { hops, paths } = { hops: [stream], paths: [] }) {
  // Checks behind a broken hop add nothing.
  const isExplained = (path) => ![undefined, path.at(-1)].includes(findBrokenHop(path));
  const checks = paths.filter((path) => !isExplained(path)).map((path) => path.at(-1));
  const shown = isCheck(stream) || checks.length ? [stream, ...checks] : [];
  const parts = shown.map((hop) => describeAtHop(hop, shown.filter(isCheck).length > 1));
  return [...parts, describeSource(stream, hops)].filter(Boolean).join(" · ");
}

function describeAtHop(hop, isOneOfSeveral) {
  if (!isCheck(hop)) return `platform: ${describeHop(hop)}`;
  return `viewers${isOneOfSeveral ? ` at ${hop.upstream}` : ""}: ${describeHop(hop)}`;
}

function describeSource({ source_live: sourceLive }, hops) {
  if (hops.length < 2) return "";
  const broken = findBrokenHop(hops);
  if (broken && broken !== hops.at(-1)) return `broken at ${hopName(broken)}: ${describeHop(broken)}`;
  return `source ${hopName(hops.at(-2))}: ${sourceLive ? "live" : "unknown"}`;
}

/** Name of a hop: its upstream and stream. */
export function hopName({ upstream, stream }) {
  return `${upstream}/${stream}`;
}

/** What arrives at a hop: media at a platform, something playable at a check. */
export function describeHop(hop) {
  const { live, status, playable, ingest_bitrate_bytes_per_second: bitrate } = hop;
  if (playable === false) return describeNothing(hop);
  if (isCheck(hop)) return playable ? "playable" : "unknown";
  return live && bitrate !== undefined ? `${status}, ${formatBitrate(bitrate)}` : status;
}

function describeNothing({ live, unplayable_reason: reason, playback_detail: detail, media_changed_timestamp_seconds: at }) {
  if (live || at === undefined) return ["nothing", detail].filter(Boolean).join(", ");
  const nothing = `nothing for ${formatDuration(exporterTime() - at)}`;
  return reason === "stale" || !detail ? nothing : `${nothing}, ${detail}`;
}

function isCheck({ playable, source_stream: source }) {
  return playable !== undefined || source !== undefined;
}

function keyOf({ upstream, stream }) {
  return streamKey(upstream, stream);
}
