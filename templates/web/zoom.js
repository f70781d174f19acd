// Chooses a time or a range of time in a chart: by mouse, touch, wheel and keyboard. It draws only the cursor and the
// selection; the owner of the chart draws the rest.

import { make } from "./dom.js";

const DRAG_PX = 6;
const NOTCH_PX = 100;

/**
 * Handles the input of `area`, whose time axis lies between the margins `left` and `right`, px.
 *
 * `owner` has `range()`, which returns [begin, end] in seconds, `setRange(beginS, endS)`, `resetRange()` and
 * `setCursor(timeS)`, whose argument is null without a cursor.
 */
export class Zoom {
  constructor(area, { left, right, owner }) {
    Object.assign(this, { area, left, right, owner });
    this.cursor = make("div", { class: "cursor", hidden: true });
    this.selection = make("div", { class: "selection", hidden: true });
    area.append(this.cursor, this.selection);
    this.pointers = new Map();
    this.cursorS = null;
    const listen = (name, handler, options) => area.addEventListener(name, handler.bind(this), options);
    listen("pointerdown", this.#down);
    listen("pointermove", this.#move);
    listen("pointerup", this.#up);
    listen("pointercancel", this.#cancel);
    listen("pointerleave", (event) => event.pointerType === "mouse" && !this.pointers.size && this.#setCursor(null));
    listen("wheel", this.#wheel, { passive: false });
    listen("dblclick", () => this.owner.resetRange());
    listen("keydown", this.#key);
  }

  /** Put the cursor where its time is now, after the range or the size has changed. */
  refresh() {
    this.#setCursor(this.cursorS);
  }

  #width() {
    return this.area.clientWidth - this.left - this.right;
  }

  #timeAt(clientX) {
    const [beginS, endS] = this.owner.range();
    const share = (clientX - this.area.getBoundingClientRect().left - this.left) / this.#width();
    return beginS + Math.min(Math.max(share, 0), 1) * (endS - beginS);
  }

  #place(timeS) {
    const [beginS, endS] = this.owner.range();
    return this.left + ((timeS - beginS) / (endS - beginS)) * this.#width();
  }

  #setCursor(timeS) {
    const [beginS, endS] = this.owner.range();
    this.cursorS = timeS !== null && timeS >= beginS && timeS <= endS ? timeS : null;
    this.cursor.hidden = this.cursorS === null;
    if (this.cursorS !== null) this.cursor.style.left = `${this.#place(this.cursorS)}px`;
    this.owner.setCursor(this.cursorS);
  }

  #down(event) {
    if (event.button !== 0) return;
    this.pointers.set(event.pointerId, { fromX: event.clientX, x: event.clientX });
    this.area.setPointerCapture(event.pointerId);
  }

  #move(event) {
    const pointer = this.pointers.get(event.pointerId);
    if (!pointer) {
      if (event.pointerType === "mouse") this.#setCursor(this.#timeAt(event.clientX));
      return;
    }
    pointer.x = event.clientX;
    const dragged = this.pointers.size === 1 && Math.abs(pointer.x - pointer.fromX) >= DRAG_PX;
    this.selection.hidden = !dragged;
    if (!dragged) return;
    const [from, to] = [pointer.fromX, pointer.x].map((x) => this.#place(this.#timeAt(x))).sort((a, b) => a - b);
    this.selection.style.left = `${from}px`;
    this.selection.style.width = `${to - from}px`;
  }

  #up(event) {
    const pointer = this.pointers.get(event.pointerId);
    if (!pointer) return;
    const others = [...this.pointers.values()].filter((other) => other !== pointer);
    this.selection.hidden = true;
    if (others.length === 1) {
      this.#pinch(pointer, others[0]);
      this.pointers.clear();
      return;
    }
    this.pointers.delete(event.pointerId);
    if (Math.abs(pointer.x - pointer.fromX) >= DRAG_PX) {
      const [from, to] = [this.#timeAt(pointer.fromX), this.#timeAt(pointer.x)].sort((a, b) => a - b);
      this.owner.setRange(from, to);
    } else this.#setCursor(this.#timeAt(event.clientX));
  }

  #pinch(one, two) {
    const before = Math.abs(one.fromX - two.fromX);
    const after = Math.abs(one.x - two.x);
    if (before > 0 && after > 0) this.#scale(before / after, this.#timeAt((one.fromX + two.fromX) / 2));
  }

  #cancel(event) {
    this.pointers.delete(event.pointerId);
    this.selection.hidden = true;
  }

  /** Zoom with the wheel, but let the page scroll unless Ctrl is held or the chart has the focus. */
  #wheel(event) {
    if (!event.ctrlKey && document.activeElement !== this.area) return;
    event.preventDefault();
    const notches = Math.min(Math.max(event.deltaY / NOTCH_PX, -1), 1); // a touchpad reports small parts of a notch
    this.#scale(1.2 ** notches, this.#timeAt(event.clientX));
  }

  #scale(factor, aroundS) {
    const [beginS, endS] = this.owner.range();
    this.owner.setRange(aroundS - (aroundS - beginS) * factor, aroundS + (endS - aroundS) * factor);
  }

  #key(event) {
    const [beginS, endS] = this.owner.range();
    const length = endS - beginS;
    const at = this.cursorS ?? (beginS + endS) / 2;
    const direction = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (direction && event.shiftKey)
      this.owner.setRange(beginS + (direction * length) / 4, endS + (direction * length) / 4);
    else if (direction) this.#setCursor(Math.min(Math.max(at + (direction * length) / 100, beginS), endS));
    else if (event.key === "+" || event.key === "=") this.#scale(1 / 1.5, at);
    else if (event.key === "-") this.#scale(1.5, at);
    else if (event.key === "Home") this.owner.resetRange();
    else if (event.key === "Escape") this.#setCursor(null);
    else return;
    event.preventDefault();
  }
}
