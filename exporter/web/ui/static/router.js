// URLs of the views, and navigation between them without reloading the page.

/** Base URL of the exporter, including the path prefix of a proxy. */
export const root = new URL("..", import.meta.url);

/** URL of a stream's view. */
export function streamUrl(upstream, stream) {
  // Browsers resolve "." and ".." in a path, even when they are escaped.
  if (/^\.{1,2}$/.test(stream) || /^\.{1,2}$/.test(upstream)) {
    return new URL(`streams?${new URLSearchParams({ upstream, stream })}`, root).href;
  }
  return new URL(`streams/${encodeURIComponent(upstream)}/${encodeURIComponent(stream)}`, root).href;
}

/** Route of a URL: `{upstream, stream}` for a stream's view, null for the list. */
function parseRoute(href) {
  const url = new URL(href);
  const path = url.pathname.slice(root.pathname.length);
  const match = /^streams\/([^/]+)\/(.+)$/s.exec(path);
  if (match) return { upstream: decode(match[1]), stream: decode(match[2]) };
  if (path === "streams" && url.searchParams.has("stream")) {
    return { upstream: url.searchParams.get("upstream") ?? "", stream: url.searchParams.get("stream") };
  }
  return null;
}

export class Router {
  /** `onRoute(route, previous)` is called after each navigation with the new route and the one before. */
  constructor(onRoute) {
    this.onRoute = onRoute;
    this.route = parseRoute(location.href);
    /** Scroll position at which the list was left. */
    this.listScrollY = 0;
    document.addEventListener("click", (event) => this.onClick(event));
    addEventListener("popstate", () => this.updateRoute());
  }

  /** Follow the page's own links. */
  onClick(event) {
    const link = event.target.closest?.("a[href]");
    if (!link || event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    const isToList = link.classList.contains("back") || link.classList.contains("home");
    if (!isToList && !parseRoute(link.href)) return;
    event.preventDefault();
    if (isToList && history.state?.fromList) {
      history.back();
      return;
    }
    if (!this.route) this.listScrollY = scrollY;
    history.pushState({ fromList: !this.route && !isToList }, "", link.href);
    this.updateRoute();
  }

  updateRoute() {
    const previous = this.route;
    this.route = parseRoute(location.href);
    this.onRoute(this.route, previous);
  }
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
