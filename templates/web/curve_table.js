// The points of the curve, or the target, as numbers.

import { MAX_C, TARGET_RANGE_C } from "./curve.js";
import { make } from "./dom.js";

/** The numbers in `container`, which change what `editor` (a CurveEditor) shows. */
export class CurveTable {
  constructor(container, editor) {
    this.editor = editor;
    this.rows = make("tbody");
    this.automatic = make("input", { type: "checkbox", onchange: () => editor.setAutomatic(this.automatic.checked) });
    this.target = make("input", {
      type: "number",
      min: TARGET_RANGE_C[0],
      max: TARGET_RANGE_C[1],
      step: 0.5,
      onchange: () => this.#enter([this.target], (temperatureC) => editor.setTarget(temperatureC)),
    });
    this.slider = make("input", {
      type: "range",
      min: TARGET_RANGE_C[0],
      max: TARGET_RANGE_C[1],
      step: 0.5,
      "aria-label": "Target",
      oninput: () => editor.setTarget(Number(this.slider.value)),
    });
    const heads = ["point", "temperature, °C", "duty, %", ""].map((text) =>
      make("th", { scope: "col" }, text || make("span", { class: "hidden" }, "change")),
    );
    this.curvePart = make(
      "div",
      {},
      make("table", { class: "points" }, make("thead", {}, make("tr", {}, ...heads)), this.rows),
      make("label", { class: "check" }, this.automatic, " below the second point the driver sets the fans (auto)"),
    );
    this.targetPart = make(
      "div",
      { class: "target-part" },
      make("label", {}, "Target ", this.target, " °C"),
      this.slider,
    );
    container.append(this.curvePart, this.targetPart);
  }

  /** Show `{curve, target_c}`. */
  show({ curve, target_c: targetC }) {
    this.curvePart.hidden = curve === null;
    this.targetPart.hidden = curve !== null;
    if (curve === null) {
      set(this.target, targetC);
      set(this.slider, targetC);
      return;
    }
    while (this.rows.children.length > curve.length) this.rows.lastElementChild.remove();
    while (this.rows.children.length < curve.length) this.rows.append(this.#row(this.rows.children.length));
    curve.forEach(([temperatureC, percent], i) => {
      const [temperature, duty] = this.rows.children[i].querySelectorAll("input");
      set(temperature, temperatureC);
      set(duty, percent ?? "");
      duty.disabled = percent === null;
      duty.placeholder = percent === null ? "auto" : "";
    });
    this.automatic.checked = curve[0][1] === null;
  }

  /** Call `change` with the numbers in `inputs`. If one of them has no number, show the former numbers again. */
  #enter(inputs, change) {
    if (inputs.every((input) => input.value !== "")) change(...inputs.map((input) => Number(input.value)));
    else this.show(this.editor.settings);
  }

  #row(i) {
    const enter = () => {
      const inputs = duty.disabled ? [temperature] : [temperature, duty];
      this.#enter(inputs, (temperatureC, percent = null) => this.editor.movePoint(i, temperatureC, percent));
    };
    const temperature = make("input", {
      type: "number",
      min: 0,
      max: MAX_C,
      step: 1,
      "aria-label": `Temperature of point ${i + 1}, °C`,
      onchange: enter,
    });
    const duty = make("input", {
      type: "number",
      min: 0,
      max: 100,
      step: 1,
      "aria-label": `Duty of point ${i + 1}, %`,
      onchange: enter,
    });
    const add = make(
      "button",
      { type: "button", "aria-label": `Add a point after point ${i + 1}`, onclick: () => this.editor.addPoint(i) },
      "+",
    );
    const remove = make(
      "button",
      { type: "button", "aria-label": `Remove point ${i + 1}`, onclick: () => this.editor.removePoint(i) },
      "×",
    );
    return make(
      "tr",
      {},
      make("th", { scope: "row" }, String(i + 1)),
      make("td", {}, temperature),
      make("td", {}, duty),
      make("td", { class: "buttons" }, add, remove),
    );
  }
}

function set(input, value) {
  const text = String(value);
  if (input.value !== text) input.value = text;
}
