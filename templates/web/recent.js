// The readings of the last ten minutes, which the page adds to with each snapshot.

export const RECENT_S = 600;

const SERIES = {
  temperature_c: (card) => card.temperature_c,
  power_w: (card) => card.power_w,
  duty_percent: (card) => card.duty_percent,
  speed_percent: (card) => mean(card.read_percent),
};

function mean(values) {
  const known = (values ?? []).filter((value) => value !== null);
  return known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : null;
}

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
      if (snapshot.time_s <= past.time_s.at(-1)) continue;
      past.time_s.push(snapshot.time_s);
      for (const [name, value] of Object.entries(SERIES)) past[name].push(value(card) ?? null);
      const old = past.time_s.findIndex((time) => time >= snapshot.time_s - RECENT_S);
      if (old > 0) for (const name of ["time_s", ...Object.keys(SERIES)]) past[name].splice(0, old);
    }
  }

  /** Return the readings of a card: `time_s` and one list for each quantity. */
  of(key) {
    if (!this.cards.has(key)) {
      this.cards.set(key, { time_s: [], temperature_c: [], power_w: [], duty_percent: [], speed_percent: [] });
    }
    return this.cards.get(key);
  }
}
