// Makes and changes elements. Text enters the page only as text nodes, so a name or a sentence never becomes markup.

import { shortName } from "./text.js";

const SVG = "http://www.w3.org/2000/svg";

/** Return a new HTML element. An attribute `onclick` adds a listener; null and false leave an attribute out. */
export function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** Return a new SVG element; the arguments are those of `make`. */
export function makeSvg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

/** Return an element with the name of a card. A name that is too long is cut; the title has all of it. */
export function makeName(label) {
  return make("bdi", { class: "name", title: label }, shortName(label));
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** Set the text of `element`. If it is the same, the page is not touched. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Set the attribute `name` of `element`. If it is the same, the page is not touched. */
export function setAttribute(element, name, value) {
  const text = String(value);
  if (element.getAttribute(name) !== text) element.setAttribute(name, text);
}

/** Return a function that calls `draw` before the next picture, at most once for each picture. */
export function beforeNextPicture(draw) {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      draw();
    });
  };
}

/** Call `changed` with the width in pixels of `element`, now and whenever it changes. */
export function watchWidth(element, changed) {
  new ResizeObserver(([entry]) => {
    if (entry.contentRect.width > 0) changed(Math.floor(entry.contentRect.width));
  }).observe(element);
}
