// The readings of the last ten minutes, which the page adds to with each snapshot.

import { isNumber } from "./text.js";

export const RECENT_S = 600;

const SERIES = {
  temperature_c: (card) => card.temperature_c,
  power_w: (card) => card.power_w,
  duty_percent: (card) => card.duty_percent,
  speed_percent: (card) => card.read_percent?.find(isNumber), // of the first fan that reports it, as in the history
};
const COLUMNS = ["time_s", ...Object.keys(SERIES)];

/** Readings of all cards, by the key of the card. */
export class Recent {
  constructor() {
    this.cards = new Map();
  }

  /** Replace all readings with those that the server remembers. */
  seed(cards) {
    this.cards = new Map(Object.entries(cards).map(([key, card]) => [key, { ...card, time_s: [...card.time_s] }]));
  }

  /** Add the readings of a snapshot. */
  add(snapshot) {
    for (const card of snapshot.cards) {
      const past = this.of(card.key);
      // Readings from the future were made before the clock was set back.
      while (past.time_s.at(-1) > snapshot.time_s) for (const name of COLUMNS) past[name].pop();
      if (past.time_s.at(-1) === snapshot.time_s) continue;
      past.time_s.push(snapshot.time_s);
      for (const [name, value] of Object.entries(SERIES)) past[name].push(value(card) ?? null);
      const old = past.time_s.findIndex((time) => time >= snapshot.time_s - RECENT_S);
      if (old > 0) for (const name of COLUMNS) past[name].splice(0, old);
    }
  }

  /** Return the readings of a card: `time_s` and one list for each quantity. */
  of(key) {
    if (!this.cards.has(key)) this.cards.set(key, Object.fromEntries(COLUMNS.map((name) => [name, []])));
    return this.cards.get(key);
  }
}
