// The prediction: the last day of each card with other settings, beside the day as it was.

import { Failure, get, nowS, post } from "./api.js";
import { make, makeName, setAttribute, setText } from "./dom.js";
import { dutyRow, Strips, temperatureRow } from "./strips.js";
import { duration, isNumber, number, quantity } from "./text.js";

const ANNOUNCE_MS = 1200;
const POLL_MS = 2000;
const METRICS = [
  { name: "peak, °C", key: "peak_c", show: (value) => number(value, 1), change: (value) => signed(value, 1) },
  { name: "sound, dB(A)", key: "sound_db", show: (value) => number(value, 1), change: (value) => signed(value, 1) },
  { name: "swings", key: "swings", show: (value) => number(value), change: (value) => signed(value, 0) },
  {
    name: "over 83 °C",
    key: "hot_s",
    show: duration,
    change: (value) => signOf(Math.round(value)) + duration(Math.abs(value)),
  },
];
const ROWS = [
  temperatureRow("temperature, and as it was (dotted)", 60, ["read", "temperature"]),
  dutyRow("duty, and as it was (dotted)", 48, ["read", "duty"]),
];

function signed(value, digits) {
  return signOf(Number(value.toFixed(digits))) + Math.abs(value).toFixed(digits);
}

function signOf(value) {
  return value < 0 ? "−" : value > 0 ? "+" : "";
}

/** The prediction in `container`, and its summary in `headline`. `label(key)` returns the name of a card. */
export class Prediction {
  constructor(container, headline, label) {
    Object.assign(this, { headline, label });
    this.blocks = new Map();
    this.summary = make("p", { class: "soft" });
    this.announcement = make("p", { class: "hidden", role: "status" });
    this.grid = make("div", { class: "outcomes" });
    container.append(this.summary, this.grid, this.announcement);
  }

  /** Load the states of the models and the last day. Asks again while a model is made and `visible()` is true. */
  async open(visible) {
    clearTimeout(this.timer);
    try {
      this.model = await get("model");
    } catch (error) {
      this.#say(error.message);
    }
    const states = Object.values(this.model?.cards ?? {}).map((card) => card.state);
    const again = !this.model || states.includes("fitting");
    if (again) this.timer = setTimeout(() => visible() && this.open(visible), POLL_MS);
    if (!this.keys) return;
    this.#layOut();
    if (states.join() === this.states) return;
    this.states = states.join();
    if (!again) await this.#loadPast();
    this.request({ ...this.wanted }, this.keys); // there may be an answer now
  }

  async #loadPast() {
    const end = nowS();
    try {
      this.history = await get("history", { begin_s: (end - 86400).toFixed(0), end_s: end.toFixed(0), points: 1000 });
    } catch (error) {
      this.#say(error.message);
    }
  }

  /** Ask for the outcome of `settings` for the cards `keys`. One request runs at a time, and the newest comes next. */
  async request(settings, keys) {
    this.wanted = settings;
    this.keys = keys;
    this.#layOut();
    if (this.running) return;
    this.running = true;
    try {
      while (this.wanted !== this.answered) {
        this.answered = this.wanted;
        await this.#predict(this.wanted);
      }
    } finally {
      this.running = false;
    }
  }

  async #predict(settings) {
    try {
      this.#show(await post("predict", settings));
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      this.#say(error.message);
      this.states = null; // ask again when the view is opened
    }
  }

  #say(text) {
    setText(this.summary, text);
  }

  #layOut() {
    for (const [key, block] of this.blocks) {
      if (!this.keys.includes(key)) {
        block.root.remove();
        this.blocks.delete(key);
      }
    }
    for (const key of this.keys) {
      if (!this.blocks.has(key)) this.blocks.set(key, new Outcome(this.label(key)));
      this.grid.append(this.blocks.get(key).root);
      this.blocks.get(key).setModel(this.model?.cards[key]);
    }
  }

  #show(answer) {
    const hours = `The power of the last ${number(answer.hours, 1)} h of each card, with these settings. Calculated in ${number(answer.elapsed_ms)} ms.`;
    this.#say(answer.error || (Object.keys(answer.cards ?? {}).length ? hours : ""));
    for (const [key, block] of this.blocks) {
      if (answer.cards?.[key]) block.show(answer.cards[key], this.history?.cards[key]);
    }
    this.#showHeadline(answer);
    clearTimeout(this.announcing);
    this.announcing = setTimeout(() => setText(this.announcement, this.#words(answer)), ANNOUNCE_MS);
  }

  #showHeadline(answer) {
    const outcomes = Object.values(answer.cards ?? {});
    const { was_sound_db: was, would_sound_db: would } = answer.together ?? {};
    const peak = (name) => quantity(Math.max(...outcomes.map((outcome) => outcome[name].peak_c)), "°C", 1);
    const sound = (value) => quantity(value, "dB(A)", 1);
    const text = `The last day: peak ${peak("would")} instead of ${peak("was")}, sound ${sound(would)} instead of ${sound(was)}.`;
    setText(this.headline, outcomes.length ? text : "There is no prediction for these cards yet.");
  }

  #words(answer) {
    return Object.entries(answer.cards ?? {})
      .map(
        ([key, { was, would }]) =>
          `${this.label(key)}: peak ${quantity(would.peak_c, "°C", 1)} instead of ${quantity(was.peak_c, "°C", 1)}, ${quantity(would.sound_db, "dB(A)", 1)} instead of ${quantity(was.sound_db, "dB(A)", 1)}`,
      )
      .join("; ");
  }
}

class Outcome {
  constructor(label) {
    this.state = make("p", { class: "soft" });
    this.cells = METRICS.map(() => ["was", "would", "change"].map((name) => make("td", { class: `n ${name}` }, "–")));
    this.range = make("span", { class: "soft range" });
    const rows = METRICS.map(({ name }, i) => make("tr", {}, make("th", { scope: "row" }, name), ...this.cells[i]));
    rows.splice(
      1,
      0,
      make(
        "tr",
        { class: "uncertain" },
        make("th", { scope: "row", class: "soft" }, "likely peak"),
        make("td", { class: "n", colspan: 2 }, this.range),
        make("td"),
      ),
    );
    const head = ["", "was", "would", "change"].map((text) =>
      make(text ? "th" : "td", { scope: text ? "col" : null, class: "n" }, text),
    );
    const chart = make("div", { class: "chart course" });
    this.root = make(
      "section",
      { class: "panel outcome", "aria-label": `Prediction for ${label}` },
      make("h3", {}, makeName(label)),
      this.state,
      make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows)),
      chart,
    );
    this.strips = new Strips(chart, ROWS);
  }

  setModel(model) {
    setText(this.state, model?.text ?? "The state of its model is not known yet.");
    setAttribute(this.root, "data-state", model?.state ?? "unknown");
  }

  show({ was, would, peak_low_c: low, peak_high_c: high, course }, history) {
    METRICS.forEach(({ key, show, change }, i) => {
      const known = isNumber(was[key]) && isNumber(would[key]);
      const texts = [show(was[key]), show(would[key]), known ? change(would[key] - was[key]) : "–"];
      texts.forEach((text, j) => setText(this.cells[i][j], text));
    });
    setText(this.range, isNumber(low) && isNumber(high) ? `${number(low, 1)} to ${quantity(high, "°C", 1)}` : "–");
    if (!course?.time_s.length) return;
    const [beginS, endS] = [course.time_s[0], course.time_s.at(-1)];
    const before = history
      ? [
          align(history.time_s, history.temperature_c.mean, course.time_s),
          align(history.time_s, history.duty_percent.mean, course.time_s),
        ]
      : [[], []];
    this.strips.show({
      timesS: course.time_s,
      values: [
        [before[0], course.temperature_c],
        [before[1], course.duty_percent],
      ],
      beginS,
      endS,
      gapS: Infinity,
      marks: [[83]],
      label: `Temperature and duty over the last day with these settings; highest temperature ${quantity(would.peak_c, "°C", 1)}.`,
    });
  }
}

/** Return the values at the times `wanted`: each from the nearest of `times`. Both lists ascend. */
function align(times, values, wanted) {
  let i = 0;
  return wanted.map((timeS) => {
    while (i + 1 < times.length && times[i + 1] - timeS < timeS - times[i]) i += 1;
    return values[i] ?? null;
  });
}
