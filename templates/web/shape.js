// The view "Shape": choose cards, change their curve or target, see the prediction, and write the settings.

import { get, nowS } from "./api.js";
import { Apply } from "./apply.js";
import { CurveEditor } from "./curve.js";
import { CurveTable } from "./curve_table.js";
import { make, makeName, setText } from "./dom.js";
import { Limits } from "./limits.js";
import { cardColour } from "./look.js";
import { Prediction } from "./prediction.js";

const DEFAULT_CURVE = [
  [50, 30],
  [75, 50],
  [80, 64],
  [83, 100],
];
const DEFAULT_TARGET_C = 78;
const CURVE_HINT = "A double click adds a point, Delete removes it. ";
const HINT =
  "Drag, or use the arrow keys (Shift for larger steps)." +
  " The thin line is the present setting of the first card chosen; the shading shows where the cards were in the last day," +
  " the rings where they are now.";

/** The view in the section `root`. */
export class Shape {
  constructor(root, box) {
    this.root = root;
    this.chosen = []; // keys of cards; empty for all cards
    this.curve = DEFAULT_CURVE;
    this.targetC = DEFAULT_TARGET_C;
    this.message = make("p", { class: "notice", role: "status", hidden: true });
    this.cards = make("div", { class: "choices" });
    const mode = (value, text) => {
      const input = make("input", { type: "radio", name: "mode", value, onchange: () => this.#setMode(value) });
      return [input, make("label", { class: "check" }, input, ` ${text}`)];
    };
    const [byTarget, targetLabel] = mode("target", "hold a target temperature");
    const [byCurve, curveLabel] = mode("curve", "follow a curve");
    this.modes = { target: byTarget, curve: byCurve };
    const [canvas, numbers, limits, outcome, text] = Array.from({ length: 5 }, () => make("div"));
    const headline = make("p", { class: "headline" });
    this.curveHint = make("span", {}, CURVE_HINT);
    this.editor = new CurveEditor(canvas, (settings) => this.#edited(settings));
    this.table = new CurveTable(numbers, this.editor);
    this.limits = new Limits(limits, () => this.#changed());
    this.prediction = new Prediction(outcome, headline, (key) => this.#label(key));
    this.apply = new Apply(
      text,
      () => this.settings(),
      () => this.#applied(),
    );
    this.back = make("button", { type: "button", onclick: () => this.#useSettings() }, "Back to the present settings");
    this.content = make("div", { class: "shape", hidden: true }); // until cards and settings are known
    root.append(make("h2", { class: "hidden" }, "Shape"), this.message, this.content);
    this.content.append(
      make(
        "div",
        { class: "column" },
        make("div", { class: "panel choices", role: "group", "aria-label": "Cards" }, this.cards),
        make(
          "div",
          { class: "panel" },
          make(
            "div",
            { class: "choices", role: "radiogroup", "aria-label": "Curve or target" },
            targetLabel,
            curveLabel,
          ),
          canvas,
          headline,
          make("p", { class: "soft" }, this.curveHint, HINT),
          numbers,
          make("div", { class: "buttons" }, this.back),
        ),
        make("div", { class: "panel limits" }, make("h2", {}, "Limits"), limits),
      ),
      make(
        "div",
        { class: "column" },
        make("div", { class: "panel" }, make("h2", {}, "Prediction for the last day"), outcome),
        make("div", { class: "panel text" }, make("h2", {}, "Text for the config file"), text),
      ),
    );
    this.setBox(box);
  }

  /** Use the cards of `box` (of /api/box). */
  setBox(box) {
    const first = !this.box;
    this.box = box;
    if (!box) return;
    this.#drawCards();
    if (!this.fromServer) return;
    this.apply.setBox(box, this.fromServer.path);
    if (first) this.#useSettings();
  }

  /** Load the settings and the state of the models; called when the view is opened. */
  async open() {
    if (!this.fromServer || this.isStale) await this.#load();
    this.prediction.open(() => !this.root.hidden);
  }

  /** Show where the cards are now. */
  show(snapshot) {
    this.isStale ||= this.version !== undefined && this.version !== snapshot.settings_version;
    this.version = snapshot.settings_version;
    if (this.root.hidden || !this.box) return;
    if (this.isStale) this.#load();
    const chosen = this.#keys();
    const cards = snapshot.cards.filter((card) => chosen.includes(card.key));
    this.editor.plane.setPresent(cards.map((card) => ({ ...card, colour: this.#colour(card.key) })));
  }

  /** Return the settings of the editor for a request. */
  settings() {
    const byCurve = this.modes.curve.checked;
    return {
      cards: this.chosen,
      curve: byCurve ? this.curve : null,
      target_c: byCurve ? null : this.targetC,
      ...this.limits.get(),
    };
  }

  /** The file has the settings of the editor now, or those from before if they were undone. */
  #applied() {
    this.unedited = JSON.stringify(this.settings());
    return this.#load();
  }

  async #load() {
    const first = !this.fromServer;
    const end = nowS();
    try {
      this.isStale = false;
      const isEdited = JSON.stringify(this.settings()) !== this.unedited;
      this.fromServer = await get("settings");
      this.message.hidden = true;
      if (this.box) this.apply.setBox(this.box, this.fromServer.path);
      if (first || !isEdited) this.#useSettings();
      else this.editor.plane.setFormer(this.#card() ?? null); // what a person has edited stays
      this.density = await get("density", { begin_s: (end - 86400).toFixed(0), end_s: end.toFixed(0) });
      this.#drawDensity();
    } catch (error) {
      this.message.hidden = false;
      setText(this.message, error.message);
    }
  }

  #keys() {
    return this.chosen.length ? this.chosen : (this.box?.cards.map((card) => card.key) ?? []);
  }

  #card() {
    const [key] = this.#keys();
    return this.fromServer?.cards.find((card) => card.key === key);
  }

  #label(key) {
    return this.box?.cards.find((card) => card.key === key)?.label ?? key;
  }

  #drawCards() {
    const choose = (keys) => {
      this.chosen = keys.length === this.box.cards.length ? [] : keys;
      this.#drawCards();
      this.#useSettings();
    };
    const option = (text, checked, change) => {
      const box = make("input", { type: "checkbox", checked });
      box.addEventListener("change", () => change(box.checked));
      return make("label", { class: "check" }, box, " ", makeName(text));
    };
    const focused = [...this.cards.querySelectorAll("input")].indexOf(document.activeElement);
    const all = option("all cards", !this.chosen.length, () => choose([]));
    const each = this.box.cards.map(({ key, label }) =>
      option(label, this.chosen.includes(key), (on) =>
        choose(on ? [...this.chosen, key] : this.chosen.filter((other) => other !== key)),
      ),
    );
    this.cards.replaceChildren(all, ...(each.length > 1 ? each : []));
    this.cards.querySelectorAll("input")[focused]?.focus();
  }

  #useSettings() {
    const card = this.#card();
    if (!card) return;
    this.content.hidden = false;
    if (card.curve) this.curve = card.curve;
    if (card.target_c) this.targetC = card.target_c;
    this.modes[card.curve ? "curve" : "target"].checked = true;
    this.#drawDensity();
    this.limits.show(card.max_duty_percent ?? null, this.fromServer.quiet, !this.chosen.length);
    this.editor.plane.setFormer(card);
    this.unedited = JSON.stringify(this.settings());
    this.#draw();
    this.#changed();
  }

  #setMode() {
    this.#draw();
    this.#changed();
  }

  #edited(settings) {
    if (settings.curve) this.curve = settings.curve;
    else this.targetC = settings.target_c;
    this.table.show(settings);
    this.#changed();
  }

  #draw() {
    const { curve, target_c } = this.settings();
    this.curveHint.hidden = curve === null;
    this.editor.show({ curve, target_c });
    this.table.show({ curve, target_c });
  }

  #drawDensity() {
    const chosen = this.#keys().filter((key) => this.density?.cards[key]);
    const colour = (key) => (chosen.length > 1 ? "--soft" : this.#colour(key));
    this.editor.plane.setDensities(chosen.map((key) => ({ density: this.density.cards[key], colour: colour(key) })));
  }

  #colour(key) {
    return cardColour(
      Math.max(
        this.box.cards.findIndex((card) => card.key === key),
        0,
      ),
    );
  }

  #changed() {
    this.prediction.request(this.settings(), this.#keys());
    this.apply.changed();
  }
}
