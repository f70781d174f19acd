// The editor of a curve or a target: drag with mouse or touch, or move with the keyboard.

import { makeSvg, setAttribute } from "./dom.js";
import { Plane } from "./plane.js";

export const MAX_C = 110;
export const TARGET_RANGE_C = [50, 90];
const HEIGHT = 340;
const CLOSE_PX = 26;
const MAX_POINTS = 32;

/**
 * The editor in `container`. `settings` is `{curve, target_c}`, where one of both is null; it is never changed in place.
 *
 * `changed(settings)` is called after each change by a person.
 */
export class CurveEditor {
  constructor(container, changed) {
    this.changed = changed;
    this.plane = new Plane(container, HEIGHT, () => this.#draw());
    this.handles = [];
    this.settings = { curve: null, target_c: 78 };
    const { svg } = this.plane;
    setAttribute(svg, "role", "group");
    svg.classList.add("editor");
    svg.addEventListener("pointerdown", (event) => this.#down(event));
    svg.addEventListener("pointermove", (event) => this.#move(event));
    for (const end of ["pointerup", "pointercancel"]) svg.addEventListener(end, () => (this.dragged = null));
    svg.addEventListener("dblclick", (event) => this.#addAt(event));
    svg.addEventListener("keydown", (event) => this.#key(event));
  }

  /** Show `settings`, without a call of `changed`. */
  show(settings) {
    this.settings = settings;
    this.#draw();
  }

  /** Move point `i` to a temperature and a duty, or as near as the neighbours allow. */
  movePoint(i, temperatureC, percent) {
    const curve = this.settings.curve.map((point) => [...point]);
    const before = curve[i - 1] ?? [-1, 0];
    const after = curve[i + 1] ?? [MAX_C + 1, 100];
    curve[i][0] = clamp(Math.round(temperatureC), before[0] + 1, after[0] - 1);
    if (curve[i][1] !== null && percent !== null) curve[i][1] = clamp(Math.round(percent), before[1] ?? 0, after[1]);
    this.#change({ curve, target_c: null });
  }

  /** Add a point after point `i`, in the middle of the line. Returns its index; -1 if there is no room. */
  addPoint(i) {
    const { curve } = this.settings;
    const [temperatureC, percent] = curve[i];
    const next = curve[i + 1] ?? [Math.min(temperatureC + 10, MAX_C), 100];
    if (next[0] - temperatureC < 2 || curve.length >= MAX_POINTS) return -1;
    const middle = percent === null ? next[1] : Math.round((percent + next[1]) / 2);
    const added = [Math.round((temperatureC + next[0]) / 2), middle];
    this.#change({ curve: curve.toSpliced(i + 1, 0, added), target_c: null });
    return i + 1;
  }

  /** Remove point `i`. One point with a duty always stays. */
  removePoint(i) {
    const curve = this.settings.curve.toSpliced(i, 1);
    if (curve.some(([, percent]) => percent !== null)) this.#change({ curve, target_c: null });
  }

  /** Let the driver have the fans below the second point, or not. */
  setAutomatic(automatic) {
    let { curve } = this.settings;
    if (automatic && curve[0][1] !== null) {
      curve = curve.length > 1 ? curve.with(0, [curve[0][0], null]) : [[Math.max(curve[0][0] - 10, 0), null], ...curve];
    } else if (!automatic && curve[0][1] === null) curve = curve.with(0, [curve[0][0], curve[1][1]]);
    this.#change({ curve, target_c: null });
  }

  /** Set the target. */
  setTarget(temperatureC) {
    this.#change({ curve: null, target_c: clamp(Math.round(temperatureC * 2) / 2, ...TARGET_RANGE_C) });
  }

  /** Focus the handle of point `i`. */
  focusPoint(i) {
    this.handles[i]?.focus();
  }

  #change(settings) {
    this.settings = settings;
    this.#draw();
    this.changed(settings);
  }

  #draw() {
    const { plane, settings } = this;
    plane.setLine(settings);
    if (!plane.x) return;
    const handles = settings.curve ?? [[settings.target_c, 50]];
    while (this.handles.length > handles.length) this.handles.pop().remove();
    while (this.handles.length < handles.length) {
      const parts = [makeSvg("circle", { class: "reach", r: 18 }), makeSvg("circle", { class: "dot", r: 7 })];
      const handle = makeSvg("g", { class: "handle", tabindex: 0, role: "slider" }, ...parts);
      this.handles.push(handle);
      plane.top.append(handle);
    }
    handles.forEach((point, i) => this.#drawHandle(this.handles[i], point, i));
    const name = settings.curve
      ? "Curve editor. Arrows move a point, Insert or Enter adds one, Delete removes it."
      : "Target editor. Arrows move the target.";
    setAttribute(plane.svg, "aria-label", name);
  }

  #drawHandle(handle, [temperatureC, percent], i) {
    const { plane, settings } = this;
    setAttribute(handle, "transform", `translate(${plane.x(temperatureC)} ${plane.y(percent ?? 0)})`);
    setAttribute(handle, "data-point", i);
    handle.classList.toggle("auto", percent === null);
    if (settings.curve) {
      const text = `${temperatureC} °C, ${percent === null ? "driver" : `${percent} %`}`;
      setAttributes(handle, {
        "aria-label": `Point ${i + 1}`,
        "aria-valuemin": 0,
        "aria-valuemax": 100,
        "aria-valuenow": percent ?? 0,
        "aria-valuetext": text,
      });
    } else {
      const [low, high] = TARGET_RANGE_C;
      setAttributes(handle, {
        "aria-label": "Target",
        "aria-valuemin": low,
        "aria-valuemax": high,
        "aria-valuenow": temperatureC,
        "aria-valuetext": `${temperatureC} °C`,
      });
    }
  }

  #down(event) {
    if (event.button !== 0) return;
    const box = this.plane.svg.getBoundingClientRect();
    const points = this.settings.curve ?? [[this.settings.target_c, 50]];
    const distances = points.map(([temperatureC, percent]) => {
      const dx = this.plane.x(temperatureC) + box.left - event.clientX;
      const dy = this.plane.y(percent ?? 0) + box.top - event.clientY;
      return this.settings.curve ? Math.hypot(dx, dy) : Math.abs(dx);
    });
    const i = distances.indexOf(Math.min(...distances));
    if (distances[i] > CLOSE_PX) return;
    event.preventDefault();
    this.dragged = i;
    this.plane.svg.setPointerCapture(event.pointerId);
    this.focusPoint(i);
  }

  #move(event) {
    if (this.dragged === null || this.dragged === undefined) return;
    const [temperatureC, percent] = this.plane.at(event.clientX, event.clientY);
    if (this.settings.curve) this.movePoint(this.dragged, temperatureC, percent);
    else this.setTarget(temperatureC);
  }

  #addAt(event) {
    if (!this.settings.curve || this.settings.curve.length >= MAX_POINTS || event.target.closest(".handle")) return;
    const [temperatureC, percent] = this.plane.at(event.clientX, event.clientY).map(Math.round);
    const { curve } = this.settings;
    const i = curve.findIndex(([other]) => other >= temperatureC);
    const place = i < 0 ? curve.length : i;
    if (curve[place]?.[0] === temperatureC || temperatureC < 0 || temperatureC > MAX_C) return;
    const low = curve[place - 1]?.[1] ?? 0;
    const high = curve[place]?.[1] ?? 100;
    if (curve[place]?.[1] === null) return; // the driver has the fans there
    this.#change({ curve: curve.toSpliced(place, 0, [temperatureC, clamp(percent, low, high)]), target_c: null });
    this.focusPoint(place);
  }

  #key(event) {
    const i = this.handles.indexOf(event.target);
    if (i < 0) return;
    const step = event.shiftKey ? 5 : 1;
    const move = {
      ArrowLeft: [-step, 0],
      ArrowRight: [step, 0],
      ArrowUp: [0, step],
      ArrowDown: [0, -step],
      PageUp: [0, 10],
      PageDown: [0, -10],
    }[event.key];
    const { curve, target_c: targetC } = this.settings;
    if (!curve && move) this.setTarget(targetC + (move[0] || move[1]) * (event.shiftKey ? 1 : 0.5));
    else if (curve && move)
      this.movePoint(i, curve[i][0] + move[0], curve[i][1] === null ? null : curve[i][1] + move[1]);
    else if (curve && (event.key === "Insert" || event.key === "Enter")) this.focusPoint(Math.max(this.addPoint(i), i));
    else if (curve && (event.key === "Delete" || event.key === "Backspace")) {
      this.removePoint(i);
      this.focusPoint(Math.min(i, this.settings.curve.length - 1));
    } else return;
    event.preventDefault();
  }
}

function setAttributes(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) setAttribute(element, name, value);
}

function clamp(value, low, high) {
  return Math.min(Math.max(value, low), high);
}
