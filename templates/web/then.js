// The view "Then": the history. This file chooses the range of time, loads the history for it, and shows it in the parts.

import { get, nowS } from "./api.js";
import { make, makeName, setAttribute, setText, watchWidth } from "./dom.js";
import { eventsTable, totalsTable } from "./history_tables.js";
import { cardColour, onThemeChange } from "./look.js";
import { Plane } from "./plane.js";
import { Readout } from "./readout.js";
import { dayAndTime, duration, localTime } from "./text.js";
import { drawHistory, MARGIN } from "./timechart.js";
import { Zoom } from "./zoom.js";

const RANGES = [
  ["1 h", 3600],
  ["6 h", 21600],
  ["24 h", 86400],
  ["3 d", 259200],
  ["7 d", 604800],
];
const SHORTEST_S = 60;
const LONGEST_S = 7.5 * 86400;
const REFRESH_MS = 60_000;
const PAUSE_MS = 120; // a wheel changes the range many times a second
const DENSITY_PX = 270;
const HINT =
  "Drag over the charts to zoom in; double click to zoom out." +
  " The wheel zooms with Ctrl, or once the charts have the focus." +
  " Keys: arrows move the cursor, Shift and arrows move the range, + and − zoom, Home shows the chosen range again.";

/** The view in the section `root`. */
export class Then {
  constructor(root, box) {
    this.root = root;
    this.planes = new Map();
    this.cursorS = null;
    this.lengthS = 86400;
    this.followNow();
    const button = ([text, lengthS]) => make("button", { type: "button", onclick: () => this.choose(lengthS) }, text);
    this.buttons = RANGES.map(button);
    this.rangeText = make("p", { role: "status" });
    this.message = make("p", { class: "notice", role: "status", hidden: true });
    const [readout, totals, events] = Array.from({ length: 3 }, () => make("div"));
    Object.assign(this, { totals, events });
    this.readout = new Readout(readout, () => this.#redraw());
    this.chart = make("div", { class: "plot" });
    this.loading = make("p", { class: "loading soft" }, "Loading the history …");
    this.area = make(
      "div",
      {
        class: "time-area",
        tabindex: 0,
        role: "group",
        "aria-label": "Charts over time",
        "aria-describedby": "zoom-hint",
      },
      this.chart,
      this.loading,
    );
    this.densities = make("div", { class: "densities" });
    root.append(
      make("h2", { class: "hidden" }, "Then"),
      this.#toolbar(),
      this.message,
      make("div", { class: "panel" }, readout, this.area, make("p", { class: "soft", id: "zoom-hint" }, HINT)),
      make("h2", {}, "Totals of this range"),
      make("div", { class: "panel" }, totals),
      make("h2", {}, "Where each card was on its curve"),
      make(
        "p",
        { class: "soft" },
        "The stronger the colour of a cell, the longer the card was there. The line is the present curve or target.",
      ),
      this.densities,
      make("h2", {}, "Events"),
      make("div", { class: "panel" }, events),
    );
    this.zoom = new Zoom(this.area, { left: MARGIN.l, right: MARGIN.r, owner: this });
    watchWidth(this.area, () => this.#redraw());
    onThemeChange(() => this.#redraw());
    setInterval(() => this.following && !root.hidden && !document.hidden && this.choose(this.lengthS), REFRESH_MS);
    this.setBox(box);
  }

  /** Use the cards of `box` (of /api/box). */
  setBox(box) {
    this.box = box;
  }

  /** Load the range again; called when the view is opened. */
  open() {
    if (this.following) this.followNow();
    this.load();
  }

  /** Show the last `lengthS` seconds. */
  choose(lengthS) {
    this.lengthS = lengthS;
    this.followNow();
    this.load();
  }

  /** Let the range end now. */
  followNow() {
    this.following = true;
    this.endS = nowS();
    this.beginS = this.endS - this.lengthS;
  }

  /** Return the range: [begin, end] in seconds since the epoch. */
  range() {
    return [this.beginS, this.endS];
  }

  /** Show a range, or the nearest one that is possible. */
  setRange(beginS, endS) {
    const length = Math.min(Math.max(endS - beginS, SHORTEST_S), LONGEST_S);
    this.endS = Math.min((beginS + endS + length) / 2, nowS());
    this.beginS = this.endS - length;
    this.following = false;
    this.load(PAUSE_MS);
  }

  /** Show the range of the last button. */
  resetRange() {
    this.choose(this.lengthS);
  }

  /** Put the cursor at a time; null for no cursor. */
  setCursor(timeS) {
    this.cursorS = timeS;
    if (this.history) this.readout.show(this.history, timeS, this.beginS, this.endS);
  }

  /** Fetch the range after `pauseMs`. A newer request replaces one that has not been answered. */
  async load(pauseMs = 0) {
    this.request?.abort();
    const request = (this.request = new AbortController());
    this.#showRange();
    this.#redraw();
    setAttribute(this.root, "aria-busy", true);
    if (pauseMs) await new Promise((resolve) => setTimeout(resolve, pauseMs));
    if (request.signal.aborted) return;
    const range = { begin_s: this.beginS.toFixed(1), end_s: this.endS.toFixed(1) };
    const points = Math.min(Math.max(this.area.clientWidth, 300), 1200);
    try {
      const [history, density, settings] = await Promise.all([
        get("history", { ...range, points }, request.signal),
        get("density", range, request.signal),
        get("settings", {}, request.signal).catch((error) => {
          if (error.name === "AbortError") throw error;
          return { cards: [], error: error.message }; // the file has a mistake; the history is shown without it
        }),
      ]);
      if (request.signal.aborted) return;
      Object.assign(this, { history, density, settings });
      const isEmpty = !Object.keys(history.cards).length;
      this.#say(history.error || (isEmpty ? "The history has no readings in this range." : (settings.error ?? "")));
      this.#showTables();
      await this.#redraw();
    } catch (error) {
      if (error.name === "AbortError") return;
      this.#say(error.message);
    } finally {
      if (this.request === request) {
        setAttribute(this.root, "aria-busy", false);
        this.loading.hidden = true;
      }
    }
  }

  #say(text) {
    this.message.hidden = !text;
    setText(this.message, text);
  }

  /** Return the cards with a history: `{key, place, label}`. The cards of the box come first. */
  #cards() {
    const known = this.box?.cards ?? [];
    const keys = new Set([...known.map((card) => card.key), ...Object.keys(this.history.cards)]);
    const label = (key) => known.find((card) => card.key === key)?.label ?? this.history.cards[key].name;
    return [...keys]
      .map((key, place) => ({ key, place }))
      .filter(({ key }) => this.history.cards[key])
      .map(({ key, place }) => ({ key, place, label: label(key) }));
  }

  async #redraw() {
    if (!this.history || this.root.hidden) return;
    try {
      const shown = this.#cards().filter(({ key }) => !this.readout.hidden.has(key));
      await drawHistory(this.chart, this.history, shown, this.beginS, this.endS);
      this.zoom.refresh();
    } catch (error) {
      this.#say(error.message);
    }
  }

  #showRange() {
    const sameDay = localTime(this.beginS, "day") === localTime(this.endS, "day");
    const end = sameDay ? localTime(this.endS, "minute") : dayAndTime(this.endS);
    setText(this.rangeText, `${dayAndTime(this.beginS)} to ${end} (${duration(this.endS - this.beginS)})`);
    RANGES.forEach(([, lengthS], i) => {
      setAttribute(this.buttons[i], "aria-pressed", this.following && lengthS === this.lengthS);
    });
  }

  #showTables() {
    const cards = this.#cards();
    this.readout.setCards(cards);
    this.readout.show(this.history, this.cursorS, this.beginS, this.endS);
    const totals = cards.map(({ key, label }) => ({ label, totals: this.history.cards[key].totals }));
    this.totals.replaceChildren(totalsTable(totals, this.history.total_sound_db));
    this.events.replaceChildren(eventsTable(this.history.events, (event) => this.#showEvent(event)));
    this.#showDensities(cards.filter(({ key }) => this.density.cards[key]));
  }

  #showEvent(event) {
    const aroundS = Math.max(event.end_s - event.begin_s, 600);
    this.setRange(event.begin_s - aroundS, event.end_s + aroundS);
    this.area.focus();
  }

  #showDensities(cards) {
    for (const [key, plane] of this.planes) {
      if (cards.some((card) => card.key === key)) continue;
      plane.container.parentElement.remove();
      this.planes.delete(key);
    }
    for (const { key, place, label } of cards) {
      if (!this.planes.has(key)) {
        const box = make("div");
        this.densities.append(make("figure", {}, make("figcaption"), box));
        this.planes.set(key, new Plane(box, DENSITY_PX));
        setAttribute(this.planes.get(key).svg, "role", "img");
      }
      const plane = this.planes.get(key);
      plane.container.previousElementSibling.replaceChildren(makeName(label)); // the box may have renamed the card
      plane.setDensities([{ density: this.density.cards[key], colour: cardColour(place) }]);
      plane.setLine(this.settings.cards.find((card) => card.key === key) ?? null);
      setAttribute(plane.svg, "aria-label", `Temperature and duty of ${label}, and the present curve or target`);
    }
  }

  #toolbar() {
    const move = (text, label, action) =>
      make("button", { type: "button", "aria-label": label, onclick: action }, text);
    const by = (begin, end) => () => {
      const length = this.endS - this.beginS;
      this.setRange(this.beginS + begin * length, this.endS + end * length);
    };
    const moves = [
      move("‹", "Earlier", by(-0.5, -0.5)),
      move("›", "Later", by(0.5, 0.5)),
      move("−", "Zoom out", by(-0.5, 0.5)),
      move("+", "Zoom in", by(0.25, -0.25)),
    ];
    return make(
      "div",
      { class: "toolbar" },
      make("div", { role: "group", "aria-label": "Range of time", class: "joined" }, ...this.buttons),
      make("div", { role: "group", "aria-label": "Move and zoom", class: "joined" }, ...moves),
      this.rangeText,
    );
  }
}
