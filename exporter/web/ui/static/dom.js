// Helpers that build elements. Texts become text nodes, so no stream name is ever parsed as markup.

const SVG = "http://www.w3.org/2000/svg";

/** Create an element. Attributes such as `onclick` are listeners; children are elements, texts, or empty. */
export function element(tag, attributes, ...children) {
  return populate(document.createElement(tag), attributes, children);
}

/** Create an SVG element. */
export function svg(tag, attributes, ...children) {
  return populate(document.createElementNS(SVG, tag), attributes, children);
}

/** Set a text if it has changed. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function populate(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.flat().filter((child) => child !== undefined && child !== null && child !== ""));
  return node;
}
