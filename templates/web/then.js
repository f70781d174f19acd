// The view "Then": the history. Here are the range of time, the readings at the cursor, and the tables.

import { get } from "./api.js";
import { make, makeSvg, setAttribute, setText, watchWidth } from "./dom.js";
import { cardColour, cardDash, onThemeChange } from "./look.js";
import { Plane } from "./plane.js";
import { dayAndTime, duration, localTime, number, quantity } from "./text.js";
import { drawHistory, MARGIN } from "./timechart.js";
import { Zoom } from "./zoom.js";

const RANGES = [["1 h", 3600], ["6 h", 21600], ["24 h", 86400], ["3 d", 259200], ["7 d", 604800]];
const SHORTEST_S = 60;
const LONGEST_S = 7.5 * 86400;
const REFRESH_MS = 60_000;
const MAX_EVENTS = 200;
const DENSITY_PX = 270;
const READOUT = [["temperature_c", "°C", 0], ["duty_percent", "%", 0], ["power_w", "W", 0], ["sound_db", "dB(A)", 0]];
const TOTALS = [
  ["peak", (totals) => quantity(totals.peak_c, "°C")],
  ["mean sound", (totals) => quantity(totals.sound_db, "dB(A)", 1)],
  ["swings", (totals) => number(totals.swings)],
  ["over 83 °C", (totals) => duration(totals.hot_s)],
  ["clocks lowered by heat", (totals) => duration(totals.throttled_s)],
  ["energy", (totals) => quantity(totals.energy_kwh, "kWh", 2)],
  ["recorded", (totals) => duration(totals.seconds)],
];
const HINT =
  "Drag over the charts to zoom in; double click to zoom out. The wheel zooms with Ctrl, or once the charts have the focus." +
  " Keys: arrows move the cursor, Shift and arrows move the range, + and − zoom, Home goes back.";

const nowS = () => Date.now() / 1000;

/** The view in the section `root`. */
export class Then {
  constructor(root, box) {
    this.root = root;
    this.hiddenCards = new Set();
    this.lengthS = 86400;
    this.followRange();
    this.buttons = RANGES.map(([text, lengthS]) =>
      make("button", { type: "button", onclick: () => this.choose(lengthS) }, text),
    );
    this.rangeText = make("p", { class: "range-text", role: "status" });
    this.message = make("p", { class: "notice", role: "status", hidden: true });
    this.readout = make("tbody");
    this.readoutTime = make("th", { scope: "col" }, "card");
    this.nearEvent = make("p", { class: "near soft" });
    this.chart = make("div", { class: "plot" });
    this.area = make("div", { class: "time-area", tabindex: 0, role: "group", "aria-label": "Charts over time", "aria-describedby": "zoom-hint" }, this.chart);
    this.totals = make("tbody");
    this.densities = make("div", { class: "densities" });
    this.planes = new Map();
    this.events = make("tbody");
    root.append(...this.#parts());
    this.zoom = new Zoom(this.area, { left: MARGIN.l, right: MARGIN.r, owner: this });
    watchWidth(this.area, () => this.#redraw());
    onThemeChange(() => this.#redraw());
    setInterval(() => this.following && this.#visible() && this.choose(this.lengthS), REFRESH_MS);
    this.setBox(box);
  }

  /** Know the cards (of /api/box). */
  setBox(box) {
    this.box = box;
  }

  /** Load what may have changed; called when the view is opened. */
  open() {
    if (this.following) this.followRange();
    this.load();
  }

  choose(lengthS) {
    this.lengthS = lengthS;
    this.followRange();
    this.load();
  }

  followRange() {
    this.following = true;
    this.endS = nowS();
    this.beginS = this.endS - this.lengthS;
  }

  range() {
    return [this.beginS, this.endS];
  }

  setRange(beginS, endS) {
    const length = Math.min(Math.max(endS - beginS, SHORTEST_S), LONGEST_S);
    const middle = (beginS + endS) / 2;
    this.endS = Math.min(middle + length / 2, nowS());
    this.beginS = this.endS - length;
    this.following = false;
    this.load();
  }

  resetRange() {
    this.choose(this.lengthS);
  }

  setCursor(timeS) {
    this.cursorS = timeS;
    this.#showReadout();
  }

  /** Fetch the range. A newer request replaces one that has not been answered. */
  async load() {
    this.request?.abort();
    const request = (this.request = new AbortController());
    this.#showRange();
    if (this.history) this.#redraw();
    setAttribute(this.root, "aria-busy", true);
    const range = { begin_s: this.beginS.toFixed(1), end_s: this.endS.toFixed(1) };
    try {
      const [history, density, settings] = await Promise.all([
        get("history", { ...range, points: Math.min(Math.max(this.area.clientWidth, 300), 1200) }, request.signal),
        get("density", range, request.signal),
        get("settings", {}, request.signal),
      ]);
      if (request.signal.aborted) return;
      Object.assign(this, { history, density, settings });
      this.#say(history.error || (Object.keys(history.cards).length ? "" : "The history has no readings in this range."));
      this.#showTables();
      await this.#redraw();
    } catch (error) {
      if (error.name === "AbortError") return;
      this.#say(error.message);
    } finally {
      if (this.request === request) setAttribute(this.root, "aria-busy", false);
    }
  }

  #visible() {
    return !this.root.hidden && !document.hidden;
  }

  #say(text) {
    this.message.hidden = !text;
    setText(this.message, text);
  }

  #cards() {
    const known = this.box?.cards.map((card) => card.key) ?? [];
    const keys = [...known, ...Object.keys(this.history?.cards ?? {}).filter((key) => !known.includes(key))];
    return keys.map((key, place) => ({ key, place })).filter(({ key }) => this.history?.cards[key]);
  }

  #label(key) {
    return this.box?.cards.find((card) => card.key === key)?.label ?? this.history?.cards[key]?.name ?? key;
  }

  async #redraw() {
    if (!this.history || this.root.hidden) return;
    try {
      const shown = this.#cards().filter(({ key }) => !this.hiddenCards.has(key));
      await drawHistory(this.chart, this.history, shown, this.beginS, this.endS);
      this.zoom.refresh();
    } catch (error) {
      this.#say(error.message);
    }
  }

  #showRange() {
    const long = this.endS - this.beginS > 86400 / 2 || localTime(this.beginS, "day") !== localTime(this.endS, "day");
    const end = long ? dayAndTime(this.endS) : localTime(this.endS, "minute");
    setText(this.rangeText, `${dayAndTime(this.beginS)} to ${end} (${duration(this.endS - this.beginS)})`);
    RANGES.forEach(([, lengthS], i) => setAttribute(this.buttons[i], "aria-pressed", this.following && lengthS === this.lengthS));
  }

  #showReadout() {
    if (!this.history) return;
    const at = this.cursorS ?? this.endS;
    setText(this.readoutTime, this.cursorS === null ? "last in this range" : dayAndTime(at, "second"));
    for (const row of this.readout.children) {
      const card = this.history.cards[row.dataset.key];
      const i = card ? nearest(card.time_s, at) : -1;
      READOUT.forEach(([name, , digits], column) => {
        const values = card?.[name]?.mean ?? card?.[name] ?? [];
        setText(row.cells[column + 1], number(values[i], digits));
      });
    }
    const tolerance = (this.endS - this.beginS) / 60;
    const near = this.cursorS === null ? [] : this.history.events.filter((event) => at > event.begin_s - tolerance && at < event.end_s + tolerance);
    setText(this.nearEvent, near.length ? near.slice(-2).map((event) => `${localTime(event.begin_s, "minute")} ${event.text}`).join(" · ") : "No event at the cursor.");
  }

  #showTables() {
    const cards = this.#cards();
    this.readout.replaceChildren(...cards.map(({ key, place }) => this.#legendRow(key, place)));
    this.totals.replaceChildren(...cards.map(({ key }) => totalsRow(this.#label(key), this.history.cards[key].totals)));
    if (cards.length > 1) this.totals.append(togetherRow(cards.map(({ key }) => this.history.cards[key].totals), this.history.total_sound_db));
    this.#showDensities(cards.filter(({ key }) => this.density.cards[key]));
    const events = this.history.events.slice(-MAX_EVENTS).reverse();
    const none = make("tr", {}, make("td", { colspan: 3 }, "No event in this range."));
    this.events.replaceChildren(...(events.length ? events.map((event) => this.#eventRow(event)) : [none]));
    this.#showReadout();
  }

  #showDensities(cards) {
    for (const [key, plane] of this.planes) {
      if (cards.some((card) => card.key === key)) continue;
      plane.container.parentElement.remove();
      this.planes.delete(key);
    }
    for (const { key, place } of cards) {
      if (!this.planes.has(key)) {
        const box = make("div");
        this.densities.append(make("figure", {}, make("figcaption", {}, this.#label(key)), box));
        this.planes.set(key, new Plane(box, DENSITY_PX));
        setAttribute(this.planes.get(key).svg, "role", "img");
      }
      const plane = this.planes.get(key);
      plane.setDensities([{ density: this.density.cards[key], colour: cardColour(place) }]);
      plane.setLine(this.settings.cards.find((card) => card.key === key) ?? null);
      setAttribute(plane.svg, "aria-label", `Temperature and duty of ${this.#label(key)}, and the present curve or target`);
    }
  }

  #legendRow(key, place) {
    const line = makeSvg("line", { x1: 0, x2: 34, y1: 6, y2: 6 });
    line.style.stroke = `var(${cardColour(place)})`;
    line.style.strokeDasharray = cardDash(place) === "solid" ? "none" : cardDash(place);
    const sample = makeSvg("svg", { width: 34, height: 12, class: "sample", "aria-hidden": "true" }, line);
    const box = make("input", { type: "checkbox", checked: !this.hiddenCards.has(key) });
    box.addEventListener("change", () => {
      if (box.checked) this.hiddenCards.delete(key);
      else this.hiddenCards.add(key);
      this.#redraw();
    });
    const name = make("th", { scope: "row" }, make("label", { class: "legend" }, box, sample, make("span", {}, this.#label(key))));
    return make("tr", { "data-key": key }, name, ...READOUT.map(() => make("td", { class: "n" })));
  }

  #eventRow(event) {
    const show = () => {
      const around = Math.max(event.end_s - event.begin_s, 600);
      this.setRange(event.begin_s - around, event.end_s + around);
      this.area.focus();
    };
    const button = make("button", { type: "button", class: "link", onclick: show }, dayAndTime(event.begin_s));
    const times = event.count > 1 ? ` (${event.count} times)` : "";
    return make(
      "tr",
      { "data-severity": event.severity },
      make("td", {}, button),
      make("td", {}, make("span", { class: "badge" }, event.severity)),
      make("td", {}, event.text + times),
    );
  }

  #parts() {
    const head = (names, numbers) =>
      make("thead", {}, make("tr", {}, ...names.map((text) => make("th", { scope: "col", class: numbers && text !== "card" ? "n" : null }, text))));
    const move = (text, label, action) => make("button", { type: "button", "aria-label": label, onclick: action }, text);
    const length = () => this.endS - this.beginS;
    const shift = (share) => this.setRange(this.beginS + share * length(), this.endS + share * length());
    const readoutHead = make("thead", {}, make("tr", {}, this.readoutTime, ...READOUT.map(([, unit]) => make("th", { scope: "col", class: "n" }, unit))));
    return [
      make("h2", { class: "hidden" }, "Then"),
      make(
        "div",
        { class: "toolbar" },
        make("div", { role: "group", "aria-label": "Range of time", class: "joined" }, ...this.buttons),
        make(
          "div",
          { role: "group", "aria-label": "Move and zoom", class: "joined" },
          move("‹", "Earlier", () => shift(-0.5)),
          move("›", "Later", () => shift(0.5)),
          move("−", "Zoom out", () => this.setRange(this.beginS - length() / 2, this.endS + length() / 2)),
          move("+", "Zoom in", () => this.setRange(this.beginS + length() / 4, this.endS - length() / 4)),
        ),
        this.rangeText,
      ),
      this.message,
      make(
        "div",
        { class: "panel" },
        make("table", { class: "readout" }, readoutHead, this.readout),
        this.nearEvent,
        this.area,
        make("p", { class: "soft", id: "zoom-hint" }, HINT),
      ),
      make("h2", {}, "Totals of this range"),
      make("div", { class: "panel" }, make("table", { class: "stack totals" }, head(["card", ...TOTALS.map(([name]) => name)], true), this.totals)),
      make("h2", {}, "Where each card was on its curve"),
      make("p", { class: "soft" }, "The darker a cell, the longer the card was there. The line is the curve or the target of the present settings."),
      this.densities,
      make("h2", {}, "Events"),
      make("div", { class: "panel" }, make("table", { class: "stack events" }, head(["begin", "kind", "event"], false), this.events)),
    ];
  }
}

function totalsRow(label, totals) {
  const cells = TOTALS.map(([name, text]) => make("td", { class: "n", "data-label": name }, text(totals)));
  return make("tr", {}, make("th", { scope: "row" }, label), ...cells);
}

function togetherRow(all, soundDb) {
  const sum = (name) => all.reduce((total, totals) => total + (totals[name] ?? 0), 0);
  const peaks = all.map((totals) => totals.peak_c).filter((value) => value !== null);
  return totalsRow("together", {
    peak_c: peaks.length ? Math.max(...peaks) : null, sound_db: soundDb, swings: sum("swings"), hot_s: sum("hot_s"),
    throttled_s: sum("throttled_s"), energy_kwh: sum("energy_kwh"), seconds: Math.max(...all.map((totals) => totals.seconds)),
  });
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
