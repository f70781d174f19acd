// The tables of the view "Then": totals of each card, and events.

import { make, makeName } from "./dom.js";
import { dayAndTime, duration, isNumber, number, quantity } from "./text.js";

const MAX_EVENTS = 200;
const TOTALS = [
  ["peak", (totals) => quantity(totals.peak_c, "°C")],
  ["mean sound", (totals) => quantity(totals.sound_db, "dB(A)", 1)],
  ["swings", (totals) => number(totals.swings)],
  ["over 83 °C", (totals) => duration(totals.hot_s)],
  ["throttled by heat", (totals) => duration(totals.throttled_s)],
  ["energy", (totals) => quantity(totals.energy_kwh, "kWh", 2)],
  ["recorded", (totals) => duration(totals.seconds)],
];

/** Return a table of the totals of `cards`, which are `{label, totals}`, and of all together. */
export function totalsTable(cards, togetherDb) {
  if (!cards.length) return make("p", {}, "No readings in this range.");
  const all = cards.length > 1 ? [...cards, { label: "together", totals: together(cards, togetherDb) }] : cards;
  const rows = all.map(({ label, totals }) => {
    const cells = TOTALS.map(([name, text]) => make("td", { class: "n", "data-label": name }, text(totals)));
    return make("tr", {}, make("th", { scope: "row" }, makeName(label)), ...cells);
  });
  return table("totals", [["card"], ...TOTALS.map(([name]) => [name, "n"])], rows);
}

/** Return a table of `events`, the newest first. `show(event)` is called when a person chooses its time. */
export function eventsTable(events, show) {
  const rows = events
    .slice(-MAX_EVENTS)
    .reverse()
    .map((event) => {
      const time = make(
        "button",
        { type: "button", class: "link", onclick: () => show(event) },
        dayAndTime(event.begin_s),
      );
      return make(
        "tr",
        { "data-severity": event.severity },
        make("td", {}, time),
        make("td", {}, make("span", { class: "badge" }, event.severity)),
        make("td", {}, event.text),
      );
    });
  const none = make("tr", {}, make("td", { colspan: 3 }, "No event in this range."));
  return table("events", [["begin"], ["severity"], ["event"]], rows.length ? rows : [none]);
}

function table(name, heads, rows) {
  const cells = heads.map(([text, kind]) => make("th", { scope: "col", class: kind ?? null }, text));
  return make(
    "table",
    { class: `stack ${name}` },
    make("thead", {}, make("tr", {}, ...cells)),
    make("tbody", {}, ...rows),
  );
}

function together(cards, soundDb) {
  const all = cards.map(({ totals }) => totals);
  const combined = (name, combine) => {
    const known = all.map((totals) => totals[name]).filter(isNumber);
    return known.length ? known.reduce((one, other) => combine(one, other)) : null;
  };
  const sum = (name) => combined(name, (one, other) => one + other);
  return {
    peak_c: combined("peak_c", Math.max),
    sound_db: soundDb,
    swings: sum("swings"),
    hot_s: sum("hot_s"),
    throttled_s: sum("throttled_s"),
    energy_kwh: sum("energy_kwh"),
    seconds: combined("seconds", Math.max),
  };
}
