// The readings of all cards at the cursor. The table is also the legend of the charts, and shows or hides cards.

import { make, makeName, makeSvg, setText } from "./dom.js";
import { cardColour, cardDash } from "./look.js";
import { dayAndTime, localTime, number } from "./text.js";

const UNKNOWN_AFTER_S = 15; // as in the history: a longer time without readings is a gap
const COLUMNS = [
  ["temperature_c", "°C"],
  ["duty_percent", "%"],
  ["power_w", "W"],
  ["sound_db", "dB(A)"],
];

/** The readout in `container`. `changed()` is called when a person has shown or hidden a card. */
export class Readout {
  constructor(container, changed) {
    this.changed = changed;
    this.hidden = new Set(); // keys of cards
    this.heading = make("th", { scope: "col" }, "card");
    this.rows = make("tbody");
    this.near = make("p", { class: "near soft" });
    const units = COLUMNS.map(([, unit]) => make("th", { scope: "col", class: "n" }, unit));
    const head = make("thead", {}, make("tr", {}, this.heading, ...units));
    container.append(make("table", { class: "readout" }, head, this.rows), this.near);
  }

  /** Make a row for each of `cards`: `{key, place, label}`. */
  setCards(cards) {
    this.rows.replaceChildren(...cards.map((card) => this.#row(card)));
  }

  /** Show the readings of `history` (of /api/history) at `cursorS`; without a cursor (null) at the end of the range. */
  show(history, cursorS, beginS, endS) {
    const at = cursorS ?? endS;
    setText(this.heading, cursorS === null ? "last in this range" : dayAndTime(at, "second"));
    for (const row of this.rows.children) {
      const card = history.cards[row.dataset.key];
      const i = card ? nearest(card.time_s, at) : -1;
      const isKnown = cursorS === null || Math.abs(card?.time_s[i] - at) <= Math.max(history.step_s, UNKNOWN_AFTER_S);
      COLUMNS.forEach(([name], column) => {
        const values = card?.[name]?.mean ?? card?.[name] ?? [];
        setText(row.cells[column + 1], number(isKnown ? values[i] : null));
      });
    }
    const tolerance = (endS - beginS) / 60;
    const isNear = (event) => at > event.begin_s - tolerance && at < event.end_s + tolerance;
    const near = cursorS === null ? [] : history.events.filter(isNear).slice(-2);
    const words = near.map((event) => `${localTime(event.begin_s, "minute")} ${event.text}`).join(" · ");
    setText(this.near, words || "No event at the cursor.");
  }

  #row({ key, place, label }) {
    const line = makeSvg("line", { x1: 0, x2: 34, y1: 6, y2: 6 });
    line.style.stroke = `var(${cardColour(place)})`;
    line.style.strokeDasharray = cardDash(place) === "solid" ? "none" : cardDash(place);
    const sample = makeSvg("svg", { width: 34, height: 12, class: "sample", "aria-hidden": "true" }, line);
    const box = make("input", { type: "checkbox", checked: !this.hidden.has(key) });
    box.addEventListener("change", () => {
      if (box.checked) this.hidden.delete(key);
      else this.hidden.add(key);
      this.changed();
    });
    const legend = make("label", { class: "legend" }, box, sample, makeName(label));
    const cells = COLUMNS.map(() => make("td", { class: "n" }));
    return make("tr", { "data-key": key }, make("th", { scope: "row" }, legend), ...cells);
  }
}

/** Return the index of the time nearest to `timeS` in the ascending list `times`; -1 if it is empty. */
function nearest(times, timeS) {
  let [low, high] = [0, times.length - 1];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (times[middle] < timeS) low = middle;
    else high = middle;
  }
  return high < 0 ? -1 : timeS - times[low] < times[high] - timeS ? low : high;
}
