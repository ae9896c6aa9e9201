// The view that a URL stands for. The root includes any path prefix of the exporter.

export const root = new URL("..", import.meta.url);

/** URL of a stream's view. */
export function streamUrl(upstream, stream) {
  // Browsers resolve "." and ".." in a path, even when they are escaped.
  if (/^\.{1,2}$/.test(stream) || /^\.{1,2}$/.test(upstream)) {
    return new URL(`streams?${new URLSearchParams({ upstream, stream })}`, root).href;
  }
  return new URL(`streams/${encodeURIComponent(upstream)}/${encodeURIComponent(stream)}`, root).href;
}

/** `{upstream, stream}` for a stream's view, null for the list. */
export function parseRoute(href) {
  const url = new URL(href);
  const path = url.pathname.slice(root.pathname.length);
  const match = /^streams\/([^/]+)\/(.+)$/s.exec(path);
  if (match) return { upstream: decode(match[1]), stream: decode(match[2]) };
  if (path === "streams" && url.searchParams.has("stream")) {
    return { upstream: url.searchParams.get("upstream") ?? "", stream: url.searchParams.get("stream") };
  }
  return null;
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
