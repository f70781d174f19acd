// The plane of temperature and duty: its axes, how long a card was at each place, and a curve or a target as a line.

import { scale, ticks } from "./axes.js";
import { makeSvg, setAttribute, watchWidth } from "./dom.js";
import { duration, isNumber } from "./text.js";

const MARGIN = { left: 44, right: 12, top: 12, bottom: 40 };
const LOW_C = 20;
const HIGH_C = 100;
const SHORT_S = 20;

/** A plane in `container`, which is `height` px high. `changed` is called after its size has changed. */
export class Plane {
  constructor(container, height, changed = () => {}) {
    this.height = height;
    this.container = container;
    this.axes = makeSvg("g", {});
    this.cells = makeSvg("g", {});
    this.automatic = makeSvg("path", { class: "automatic" });
    this.former = makeSvg("path", { class: "curve former" });
    this.line = makeSvg("path", { class: "curve" });
    this.now = makeSvg("g", {});
    this.top = makeSvg("g", {});
    const layers = [this.axes, this.cells, this.automatic, this.former, this.line, this.now, this.top];
    this.svg = makeSvg("svg", { class: "plane", height }, ...layers);
    this.lowC = LOW_C;
    this.highC = HIGH_C;
    container.append(this.svg);
    watchWidth(container, (width) => {
      this.width = width;
      setAttribute(this.svg, "width", width);
      this.#layOut();
      changed();
    });
  }

  /** Show the settings `{curve, target_c}`; null shows none. */
  setLine(settings) {
    this.settings = settings;
    const far = (settings?.curve ?? []).map(([temperatureC]) => temperatureC);
    const [low, high] = [Math.min(LOW_C, ...far), Math.max(HIGH_C, ...far)];
    if (low !== this.lowC || high !== this.highC) {
      [this.lowC, this.highC] = [low, high];
      if (this.width) this.#layOut();
    }
    this.#drawLine();
  }

  /** Show the settings `{curve, target_c}` as a thin line, for comparison with those of `setLine`. */
  setFormer(settings) {
    this.formerSettings = settings;
    this.#drawLine();
  }

  /** Show densities: `{density, colour}` with an answer of /api/density and a custom property for each card. */
  setDensities(densities) {
    this.densities = densities;
    this.#drawCells();
  }

  /** Show where cards are now: `{temperature_c, duty_percent, colour}` for each card. */
  setPresent(cards) {
    this.present = cards;
    this.#drawPresent();
  }

  /** Return the temperature and the duty at a place in the window. */
  at(clientX, clientY) {
    const box = this.svg.getBoundingClientRect();
    const share = (clientX - box.left - MARGIN.left) / (this.width - MARGIN.left - MARGIN.right);
    const rise = (this.height - MARGIN.bottom - (clientY - box.top)) / (this.height - MARGIN.top - MARGIN.bottom);
    return [this.lowC + share * (this.highC - this.lowC), 100 * rise];
  }

  #layOut() {
    const [right, bottom] = [this.width - MARGIN.right, this.height - MARGIN.bottom];
    this.x = scale(this.lowC, this.highC, MARGIN.left, right);
    this.y = scale(0, 100, bottom, MARGIN.top);
    this.axes.replaceChildren(
      ...ticks(this.lowC, this.highC, this.width < 340 ? 4 : 8).flatMap((value) => [
        makeSvg("path", { class: "grid", d: `M${this.x(value)} ${MARGIN.top}V${bottom}` }),
        makeSvg("text", { x: this.x(value), y: bottom + 16, "text-anchor": "middle" }, String(value)),
      ]),
      ...[0, 20, 40, 60, 80, 100].flatMap((value) => [
        makeSvg("path", { class: "grid", d: `M${MARGIN.left} ${this.y(value)}H${right}` }),
        makeSvg("text", { x: MARGIN.left - 6, y: this.y(value) + 4, "text-anchor": "end" }, String(value)),
      ]),
      makeSvg("text", { x: (MARGIN.left + right) / 2, y: this.height - 6, "text-anchor": "middle" }, "temperature, °C"),
      makeSvg(
        "text",
        { transform: `translate(12 ${(MARGIN.top + bottom) / 2}) rotate(-90)`, "text-anchor": "middle" },
        "duty, %",
      ),
    );
    this.#drawCells();
    this.#drawLine();
    this.#drawPresent();
  }

  #drawLine() {
    if (!this.x) return;
    const shown = this.settings?.curve ?? null;
    setAttribute(this.line, "d", this.#pathOf(this.settings));
    setAttribute(this.line, "class", shown ? "curve" : "curve target");
    setAttribute(this.former, "d", this.#pathOf(this.formerSettings));
    const [left, right] = [this.x(this.lowC), shown?.length > 1 ? this.x(shown[1][0]) : 0];
    setAttribute(
      this.automatic,
      "d",
      shown?.[0][1] === null ? `M${left} ${this.y(0)}H${right}V${this.y(100)}H${left}Z` : "",
    );
  }

  #pathOf(settings) {
    const { curve, target_c: targetC } = settings ?? {};
    if (!curve) return targetC ? `M${this.x(targetC)} ${this.y(0)}V${this.y(100)}` : "";
    const points = curve.filter(([, percent]) => percent !== null);
    const begin = curve[0][1] === null ? points[0][0] : this.lowC;
    const steps = points.map(([temperatureC, percent]) => `L${this.x(temperatureC)} ${this.y(percent)}`);
    return `M${this.x(begin)} ${this.y(points[0][1])}${steps.join("")}H${this.x(this.highC)}`;
  }

  #drawPresent() {
    if (!this.x) return;
    const known = (this.present ?? []).filter((card) => isNumber(card.temperature_c) && isNumber(card.duty_percent));
    this.now.replaceChildren(
      ...known.map((card) => {
        const at = `translate(${this.x(card.temperature_c)} ${this.y(Math.min(card.duty_percent, 100))})`;
        const ring = makeSvg(
          "circle",
          { class: "present", r: 5, transform: at },
          makeSvg("title", {}, `${card.label} now`),
        );
        ring.style.stroke = `var(${card.colour})`;
        return ring;
      }),
    );
  }

  #drawCells() {
    if (this.x) this.cells.replaceChildren(...(this.densities ?? []).map((one) => this.#cellsOf(one)));
  }

  #cellsOf({ density, colour }) {
    const { temperature_c: edgesC, duty_percent: edges, seconds } = density;
    const longest = Math.max(...seconds.flat(), 1);
    const found = makeSvg("g", {});
    found.style.fill = `var(${colour})`;
    seconds.forEach((row, d) =>
      row.forEach((time, t) => {
        if (time <= 0 || edgesC[t] < this.lowC || edgesC[t + 1] > this.highC || edges[d] >= 100.5) return;
        const [left, right] = [this.x(edgesC[t]), this.x(edgesC[t + 1])];
        const [top, bottom] = [this.y(Math.min(edges[d + 1], 101)), this.y(edges[d])];
        const words = `${edgesC[t]} to ${edgesC[t + 1]} °C, ${edges[d]} to ${edges[d + 1]} %: ${duration(time)}`;
        const cell = makeSvg(
          "rect",
          { x: left, y: top, width: right - left, height: bottom - top },
          makeSvg("title", {}, words),
        );
        // The logarithm lets minutes be seen beside hours.
        cell.style.fillOpacity = (0.08 + 0.92 * (Math.log1p(time / SHORT_S) / Math.log1p(longest / SHORT_S))).toFixed(
          2,
        );
        found.append(cell);
      }),
    );
    return found;
  }
}
