// The view "Now": one block for each card, changed in place with each snapshot.

import { make, makeName, setAttribute, setText } from "./dom.js";
import { RECENT_S } from "./recent.js";
import { dutyRow, Strips, temperatureRow } from "./strips.js";
import { duration, isNumber, quantity } from "./text.js";

const BADGES = { note: "note", warning: "warning", problem: "needs help" };
const CONTROL = {
  ours: "gpufan sets the fans",
  driver: "the driver sets the fans",
  released: "the driver sets the fans, after a fault",
  lost: "the card does not answer",
};
const FACTS = ["fans", "control", "clocks", "order", "quiet hours", "limits"];
const TICKS = [
  { ago: RECENT_S, label: "10 min ago" },
  { ago: RECENT_S / 2, label: "5 min" },
  { ago: 0, label: "now" },
];

const ROWS = [
  temperatureRow("temperature", 72, ["temperature"]),
  dutyRow("duty set, and read (dotted)", 52, ["read", "duty"]),
];

/** The blocks of all cards in `container`, and the list `caseFans`. */
export class Now {
  constructor(container, empty, caseFans) {
    this.container = container;
    this.caseFans = caseFans;
    this.empty = empty;
    this.blocks = new Map();
  }

  /** Make a block for each of `cards` (of /api/box), in their order. */
  setCards(cards) {
    const keys = new Set(cards.filter((card) => this.has(card)).map((card) => card.key));
    for (const [key, block] of this.blocks) {
      if (!keys.has(key)) {
        block.root.remove();
        this.blocks.delete(key);
      }
    }
    for (const card of cards) {
      if (!this.blocks.has(card.key)) this.blocks.set(card.key, new Block(card));
      this.container.append(this.blocks.get(card.key).root);
    }
    setAttribute(this.container, "data-count", cards.length);
  }

  /** Whether there is a block for the card, with its present name. */
  has({ key, label }) {
    return this.blocks.get(key)?.card.label === label;
  }

  /** Show a snapshot. If `trusted` is false, gpufan does not run, and no value is shown. */
  show(snapshot, recent, trusted) {
    const present = new Map(trusted ? snapshot.cards.map((card) => [card.key, card]) : []);
    for (const [key, block] of this.blocks) {
      block.show(present.get(key) ?? null, recent.of(key), snapshot);
    }
    this.#showCaseFans(trusted ? (snapshot.case_fans ?? []) : []);
  }

  /** Show a line for each of `fans`. */
  #showCaseFans(fans) {
    this.caseFans.hidden = !fans.length;
    const lines = fans.map((fan) => {
      const duty = fan.duty_percent === null ? "auto" : `${fan.duty_percent} %`;
      const speeds = fan.rpm.filter((rpm) => rpm !== null).map((rpm) => `, ${rpm} rpm`);
      const sentences = [fan.reason, fan.fault, fan.remedy].filter(Boolean).join("; ");
      return make("li", { "data-severity": fan.severity }, `${fan.label}: ${duty}${speeds.join("")}: ${sentences}`);
    });
    this.caseFans.replaceChildren(...lines);
  }

  /** Say why there is no card. */
  setEmpty(text) {
    this.empty.hidden = !text;
    setText(this.empty, text);
  }
}

class Block {
  constructor(card) {
    const id = `card-${card.key}`;
    this.card = card;
    this.badge = make("span", { class: "badge", role: "status" });
    this.temperature = make("span", { class: "celsius" });
    this.settings = make("span", { class: "soft" });
    this.duty = make("span", { class: "value" });
    this.power = make("span", { class: "value" });
    this.reason = make("p", { class: "reason" });
    this.fault = make("p", { class: "fault" });
    this.remedy = make("p", { class: "remedy" });
    this.facts = Object.fromEntries(FACTS.map((name) => [name, make("dd")]));
    const chart = make("div", { class: "chart" });
    this.root = make(
      "article",
      { class: "card", "aria-labelledby": id, "data-key": card.key, "data-severity": "ok" },
      make(
        "header",
        {},
        make("h3", { id }, makeName(card.label)),
        make("span", { class: "soft address" }, card.pci.replace(/^0+:/, "").toLowerCase()),
        this.badge,
      ),
      make(
        "div",
        { class: "parts" },
        make(
          "div",
          { class: "words" },
          make("div", { class: "main-values" }, this.temperature, pair("duty", this.duty), pair("power", this.power)),
          make("div", { class: "why" }, this.settings, this.reason, this.fault, this.remedy),
          make("dl", { class: "facts" }, ...FACTS.flatMap((name) => [make("dt", {}, name), this.facts[name]])),
        ),
        chart,
      ),
    );
    this.chart = chart;
    this.powerHigh = 0;
  }

  show(card, past, snapshot) {
    const known = card !== null;
    setAttribute(this.root, "data-severity", known ? card.severity : "unknown");
    setText(this.badge, known ? (BADGES[card.severity] ?? "") : "no readings");
    setText(this.temperature, quantity(card?.temperature_c, "°C"));
    setText(this.duty, card?.duty ?? quantity(card?.duty_percent, "%"));
    setText(this.power, quantity(card?.power_w, "W"));
    setText(this.settings, known ? settingsText(card) : "");
    setText(this.reason, known ? card.reason : "gpufan reports nothing about this card.");
    setText(this.fault, card?.fault ?? "");
    setText(this.remedy, card?.remedy ?? "");
    setText(this.facts.fans, known ? fansText(card) : "–");
    setText(this.facts.control, known ? controlText(card) : "–");
    setText(this.facts.clocks, known ? card.throttle || "not lowered" : "–");
    setText(this.facts.order, known ? orderText(card) : "–");
    setText(this.facts["quiet hours"], known ? card.quiet || snapshot.quiet || "none" : "–");
    setText(this.facts.limits, known ? limitsText(card) : "–");
    this.#showPast(card, past, snapshot);
  }

  #showPast(card, past, snapshot) {
    const highest = Math.max(card?.power_limit_w ?? 0, ...past.power_w.filter(isNumber), 100);
    if (highest > this.powerHigh) {
      this.powerHigh = Math.ceil(highest / 100) * 100;
      const ticks = [0, this.powerHigh / 2, this.powerHigh];
      const power = { title: "power", unit: "W", height: 52, low: 0, high: this.powerHigh, ticks, lines: ["power"] };
      this.chart.replaceChildren();
      this.strips = new Strips(this.chart, [...ROWS, power]);
    }
    const endS = Math.max(snapshot.time_s, past.time_s.at(-1) ?? 0);
    this.strips.show({
      timesS: past.time_s,
      values: [[past.temperature_c], [past.speed_percent, past.duty_percent], [past.power_w]],
      beginS: endS - RECENT_S,
      endS,
      gapS: Math.max(5, 4 * snapshot.interval_s),
      ticks: TICKS.map(({ ago, label }) => ({ timeS: endS - ago, label })),
      marks: [[card?.target_c, card?.slowdown_c]],
      label: pastText(past),
    });
  }
}

function pair(name, value) {
  return make("dl", { class: "pair" }, make("dt", {}, name), make("dd", {}, value));
}

function settingsText(card) {
  const slowdown = isNumber(card.slowdown_c) ? `slowdown at ${quantity(card.slowdown_c, "°C")}` : "";
  return [card.settings, slowdown].filter(Boolean).join(" · ");
}

function fansText(card) {
  const count = Math.max(card.read_percent?.length ?? 0, card.rpm?.length ?? 0);
  if (!count) return "no fan reports its speed";
  const each = Array.from({ length: count }, (_, i) => {
    const parts = [quantity(card.read_percent?.[i], "%")];
    if (isNumber(card.rpm?.[i])) parts.push(`${card.rpm[i]} rpm`);
    return parts.join(", ");
  });
  return each.join("\n");
}

function controlText(card) {
  const old = card.age_s > 5 ? `; the reading is ${duration(card.age_s)} old` : "";
  return `${CONTROL[card.control] ?? card.control}${old}`;
}

function orderText(card) {
  if (!card.order) return "none";
  return isNumber(card.order_left_s)
    ? `${card.order}, for another ${duration(card.order_left_s)}`
    : `${card.order}, until cleared`;
}

function limitsText(card) {
  const limits = [
    isNumber(card.power_limit_w) ? `power ${quantity(card.power_limit_w, "W")}` : "",
    isNumber(card.temperature_limit_c) ? `temperature ${quantity(card.temperature_limit_c, "°C")}` : "",
  ].filter(Boolean);
  return limits.join(", ") || "none set by gpufan";
}

function pastText(past) {
  const range = (values, unit) => {
    const known = values.filter(isNumber);
    return known.length ? `${Math.round(Math.min(...known))} to ${Math.round(Math.max(...known))} ${unit}` : "unknown";
  };
  return `The last ten minutes: temperature ${range(past.temperature_c, "°C")}, duty ${range(past.duty_percent, "%")}, power ${range(past.power_w, "W")}.`;
}
