// A small picture with one strip for each quantity, all over the same time axis. It is cheap to draw: Now draws it for
// each card at each snapshot.

import { linePath, scale, timeTicks } from "./axes.js";
import { beforeNextPicture, makeSvg, setAttribute, watchWidth } from "./dom.js";
import { isNumber } from "./text.js";

const LEFT = 36;
const RIGHT = 10;
const TITLE = 20;
const BELOW = 20;

/** Return a row of `Strips` for a temperature. */
export function temperatureRow(title, height, lines) {
  return { title, unit: "°C", height, low: 20, high: 100, ticks: [20, 60, 100], lines };
}

/** Return a row of `Strips` for a duty. */
export function dutyRow(title, height, lines) {
  return { title, unit: "%", height, low: 0, high: 100, ticks: [0, 50, 100], lines };
}

/**
 * Strips in a container. Each of `rows` is `{title, unit, height, low, high, ticks, lines: [class of each line]}`.
 */
export class Strips {
  constructor(container, rows) {
    this.rows = rows;
    this.container = container;
    this.svg = makeSvg("svg", { class: "strips", role: "img", "aria-label": "no readings yet" });
    container.append(this.svg);
    this.draw = beforeNextPicture(() => this.#draw());
    watchWidth(container, (width) => {
      this.width = width;
      this.#layOut();
      this.draw();
    });
  }

  /**
   * Show `values[row][line]` over `timesS`. `marks[row]` are horizontal lines. `ticks` are `{timeS, label}`; without
   * them there are ticks of local time.
   */
  show({ timesS, values, beginS, endS, gapS, ticks, marks = [], label }) {
    this.data = { timesS, values, beginS, endS, gapS, ticks, marks, label };
    this.draw();
  }

  #layOut() {
    const factor = Number(getComputedStyle(this.container).getPropertyValue("--height-factor")) || 1;
    const heights = this.rows.map((row) => Math.round(row.height * factor));
    const right = this.width - RIGHT;
    let top = 0;
    this.height = heights.reduce((sum, height) => sum + TITLE + height, BELOW);
    setAttribute(this.svg, "width", this.width);
    setAttribute(this.svg, "height", this.height);
    this.svg.replaceChildren();
    this.parts = this.rows.map((row, i) => {
      top += TITLE;
      const y = scale(row.low, row.high, top + heights[i], top);
      this.svg.append(makeSvg("text", { x: LEFT, y: top - 4, class: "title" }, `${row.title}, ${row.unit}`));
      for (const tick of row.ticks) {
        this.svg.append(
          makeSvg("path", { d: `M${LEFT} ${y(tick)}H${right}`, class: "grid" }),
          makeSvg("text", { x: LEFT - 5, y: y(tick) + 4, "text-anchor": "end" }, String(tick)),
        );
      }
      const mark = makeSvg("path", { class: "mark" });
      const lines = row.lines.map((name) => makeSvg("path", { class: `line ${name}` }));
      this.svg.append(mark, ...lines);
      top += heights[i];
      return { y, mark, lines };
    });
    this.times = makeSvg("g", {});
    this.svg.append(this.times);
  }

  #draw() {
    if (!this.data || !this.parts) return;
    const { timesS, values, beginS, endS, gapS, marks, label } = this.data;
    const right = this.width - RIGHT;
    const x = scale(beginS, endS, LEFT, right);
    this.parts.forEach(({ y, mark, lines }, i) => {
      const { low, high } = this.rows[i];
      const inside = (value) => (isNumber(value) ? y(Math.min(Math.max(value, low), high)) : null);
      lines.forEach((line, j) => setAttribute(line, "d", linePath(timesS, values[i][j], x, inside, gapS)));
      const shown = (marks[i] ?? []).filter((value) => isNumber(value) && value >= low && value <= high);
      setAttribute(mark, "d", shown.map((value) => `M${LEFT} ${y(value)}H${right}`).join(""));
    });
    this.times.replaceChildren(
      ...(this.data.ticks ?? timeTicks(beginS, endS, Math.max(Math.floor(this.width / 90), 2))).map(
        ({ timeS, label: text }) => {
          const at = x(timeS);
          const anchor = at > right - 20 ? "end" : at < LEFT + 20 ? "start" : "middle";
          return makeSvg("text", { x: at, y: this.height - 5, "text-anchor": anchor }, text);
        },
      ),
    );
    setAttribute(this.svg, "aria-label", label);
  }
}
