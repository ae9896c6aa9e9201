// Which view an address stands for. The root is wherever the exporter is reached, below whatever prefix.

export const root = new URL("..", import.meta.url);

/** The address of a stream's view. */
export function addressOf(upstream, stream) {
  // A browser takes "." and ".." for steps through the path, however they are written.
  if (/^\.{1,2}$/.test(stream) || /^\.{1,2}$/.test(upstream)) {
    return new URL(`streams?${new URLSearchParams({ upstream, stream })}`, root).href;
  }
  return new URL(`streams/${encodeURIComponent(upstream)}/${encodeURIComponent(stream)}`, root).href;
}

/** `{upstream, stream}` for a stream's view, null for the list. */
export function routeOf(address) {
  const url = new URL(address);
  const path = url.pathname.slice(root.pathname.length);
  const match = /^streams\/([^/]+)\/(.+)$/s.exec(path);
  if (match) return { upstream: decoded(match[1]), stream: decoded(match[2]) };
  if (path === "streams" && url.searchParams.has("stream")) {
    return { upstream: url.searchParams.get("upstream") ?? "", stream: url.searchParams.get("stream") };
  }
  return null;
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
