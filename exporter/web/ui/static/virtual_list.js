// A list of any length that keeps only the visible rows in the document.

const ROWS_AROUND = 8;

/** Rows of equal height that scroll with the window. */
export class VirtualList {
  /**
   * `createRow(item)` returns `{node, update(item)}`; every node contains one link, which takes the keyboard focus.
   * `onVisibleItems(items)` is called with the items in the document each time they are drawn.
   */
  constructor(container, createRow, onVisibleItems) {
    this.container = container;
    this.createRow = createRow;
    this.onVisibleItems = onVisibleItems;
    this.items = [];
    this.rows = new Map();
    this.drawScheduled = false;
    const scheduleDraw = () => this.scheduleDraw();
    addEventListener("scroll", scheduleDraw, { passive: true });
    addEventListener("resize", scheduleDraw, { passive: true });
    container.addEventListener("keydown", (event) => this.onKeydown(event));
  }

  setItems(items) {
    this.items = items;
    this.draw();
  }

  scheduleDraw() {
    if (this.drawScheduled) return;
    this.drawScheduled = true;
    requestAnimationFrame(() => {
      this.drawScheduled = false;
      this.draw();
    });
  }

  /** Put the visible rows into the document, in order, and remove the others. */
  draw() {
    if (!this.container.isConnected || this.container.offsetParent === null) return;
    const height = rowHeight(this.container);
    this.container.style.height = `${this.items.length * height}px`;
    const above = -this.container.getBoundingClientRect().top;
    const first = Math.max(0, Math.floor(above / height) - ROWS_AROUND);
    const end = Math.min(this.items.length, Math.ceil((above + innerHeight) / height) + ROWS_AROUND);
    const indices = [];
    for (let index = first; index < end; index += 1) indices.push(index);
    this.keepFocusedRow(indices);
    const focused = this.container.contains(document.activeElement) ? document.activeElement : null;
    this.placeRows(indices, height);
    // Moving a row in the document removes the focus from it.
    if (focused?.isConnected && focused !== document.activeElement) focused.focus({ preventScroll: true });
    this.onVisibleItems(indices.map((index) => this.items[index]));
  }

  /** Add the row with the keyboard focus to the visible ones, so that it keeps the focus. */
  keepFocusedRow(indices) {
    const key = document.activeElement?.closest?.("[data-key]")?.dataset.key;
    if (key === undefined || !this.rows.has(key)) return;
    const index = this.items.findIndex((item) => item.key === key);
    if (index < 0 || (indices.length > 0 && index >= indices[0] && index <= indices.at(-1))) return;
    if (indices.length === 0 || index > indices.at(-1)) indices.push(index);
    else indices.unshift(index);
  }

  placeRows(indices, height) {
    const wanted = new Set(indices.map((index) => this.items[index].key));
    for (const [key, row] of this.rows) {
      if (wanted.has(key)) continue;
      row.node.remove();
      this.rows.delete(key);
    }
    let before = this.container.firstChild;
    for (const index of indices) {
      const item = this.items[index];
      let row = this.rows.get(item.key);
      if (row === undefined) {
        row = this.createRow(item);
        row.node.dataset.key = item.key;
        this.rows.set(item.key, row);
      }
      row.update(item);
      row.node.setAttribute("aria-rowindex", index + 2);
      row.node.style.transform = `translateY(${index * height}px)`;
      if (row.node === before) before = before.nextSibling;
      else this.container.insertBefore(row.node, before);
    }
  }

  /** Scroll the row of an item into view and focus it. */
  focusRow(index) {
    const item = this.items[index];
    if (item === undefined) return;
    const height = rowHeight(this.container);
    const top = this.container.getBoundingClientRect().top + index * height;
    const header = parseFloat(getComputedStyle(this.container).scrollMarginTop) || 0;
    if (top < header) scrollBy(0, top - header);
    else if (top + height > innerHeight) scrollBy(0, top + height - innerHeight);
    this.draw();
    this.rows.get(item.key)?.node.querySelector("a").focus({ preventScroll: true });
  }

  onKeydown(event) {
    const key = event.target.closest?.("[data-key]")?.dataset.key;
    const from = this.items.findIndex((item) => item.key === key);
    if (from < 0 || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const page = Math.max(1, Math.floor(innerHeight / rowHeight(this.container)) - 2);
    const last = this.items.length - 1;
    const to = { ArrowDown: from + 1, ArrowUp: from - 1, PageDown: from + page, PageUp: from - page, Home: 0, End: last }[
      event.key
    ];
    if (to === undefined) return;
    event.preventDefault();
    this.focusRow(Math.min(Math.max(to, 0), last));
  }
}

/** Row height in pixels. The style sheet sets it in rem, so that it scales with the font size. */
function rowHeight(container) {
  const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
  return parseFloat(getComputedStyle(container).getPropertyValue("--row-height")) * rem;
}
