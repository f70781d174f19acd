// The highest duty, and quiet hours.

import { TARGET_RANGE_C } from "./curve.js";
import { make } from "./dom.js";

const DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

const TIME = {
  type: "text",
  required: true,
  size: 5,
  maxlength: 5,
  inputmode: "numeric",
  title: "hours and minutes, such as 22:00",
};

/** The forms in `container`. `changed()` is called after each change by a person. */
export class Limits {
  constructor(container, changed) {
    this.changed = changed;
    this.maxDuty = make("input", {
      type: "number",
      min: 1,
      max: 100,
      step: 1,
      placeholder: "100",
      title: "a whole number from 1 to 100",
      onchange: () => this.#setMaxDuty(),
    });
    this.list = make("div", { class: "quiet-list" });
    const add = make("button", { type: "button", onclick: () => this.#add() }, "Add quiet hours");
    container.append(
      make("label", {}, "Highest duty of all cards ", this.maxDuty, " %"),
      make(
        "p",
        { class: "soft" },
        "To change it, choose all cards. A card near its slowdown temperature still gets full speed.",
      ),
      make("h3", {}, "Quiet hours, for all cards"),
      this.list,
      add,
    );
  }

  /**
   * Show the settings of the file: `maxDuty` in percent, null for no limit, and the quiet hours.
   *
   * Both are for all cards together. Without `isForAll`, some cards are chosen, and `maxDuty` cannot be changed.
   */
  show(maxDuty, quiet, isForAll) {
    this.maxDuty.disabled = !isForAll;
    this.oldMaxDuty = maxDuty;
    this.oldQuiet = JSON.stringify(quiet);
    this.maxDutyPercent = maxDuty;
    this.quiet = quiet.map((hours) => ({ ...hours }));
    this.maxDuty.value = maxDuty ?? "";
    this.#draw();
  }

  /** Return the highest duty and the quiet hours for a request; null for each that has not changed. */
  get() {
    return {
      max_duty_percent: this.maxDutyPercent === this.oldMaxDuty ? null : (this.maxDutyPercent ?? 100),
      quiet: JSON.stringify(this.quiet) === this.oldQuiet ? null : this.quiet,
    };
  }

  #setMaxDuty() {
    if (!this.maxDuty.checkValidity()) return this.maxDuty.reportValidity();
    this.maxDutyPercent = this.maxDuty.value === "" ? null : Number(this.maxDuty.value);
    return this.changed();
  }

  #add() {
    this.quiet.push({ from: "22:00", to: "07:00", days: null, max_duty_percent: 50, target_c: null });
    this.#draw();
    this.list.lastElementChild.querySelector("input").focus();
    this.changed();
  }

  #draw() {
    const rows = this.quiet.map((hours, i) => this.#row(hours, i));
    this.list.replaceChildren(...(rows.length ? rows : [make("p", { class: "soft" }, "none")]));
  }

  #row(hours, i) {
    const field = (text, name, attributes, unit = "") => {
      const input = make("input", { ...attributes, value: hours[name] ?? "" });
      input.addEventListener("change", () => {
        if (!input.checkValidity()) return input.reportValidity();
        const value = input.type === "number" ? (input.value === "" ? null : Number(input.value)) : input.value;
        hours[name] = value;
        return this.changed();
      });
      return make("label", {}, `${text} `, input, unit);
    };
    const remove = () => {
      this.quiet.splice(i, 1);
      this.#draw();
      this.changed();
    };
    return make(
      "fieldset",
      { class: "quiet" },
      make("legend", {}, `Quiet hours ${i + 1}`),
      field("from", "from", { ...TIME, pattern: "([01][0-9]|2[0-3]):[0-5][0-9]" }),
      field("to", "to", { ...TIME, pattern: "([01][0-9]|2[0-3]):[0-5][0-9]|24:00" }),
      field("at most", "max_duty_percent", { type: "number", min: 1, max: 100, step: 1 }, " %"),
      field("target", "target_c", { type: "number", min: TARGET_RANGE_C[0], max: TARGET_RANGE_C[1], step: 0.5 }, " °C"),
      make(
        "div",
        { class: "days", role: "group", "aria-label": "Days on which they begin" },
        ...DAYS.map((day) => this.#day(hours, day)),
      ),
      make("button", { type: "button", onclick: remove }, "Remove"),
    );
  }

  #day(hours, day) {
    const box = make("input", { type: "checkbox", checked: !hours.days || hours.days.includes(day) });
    box.addEventListener("change", () => {
      const days = DAYS.filter((other) => (other === day ? box.checked : !hours.days || hours.days.includes(other)));
      if (!days.length) {
        box.checked = true; // hours without a day would never begin
        return;
      }
      hours.days = days.length === DAYS.length ? null : days;
      this.changed();
    });
    return make("label", { class: "check" }, box, ` ${day}`);
  }
}
