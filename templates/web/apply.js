// The settings as text for the config file, and their way into it: difference, Apply, Undo.

import { Failure, post } from "./api.js";
import { make, setAttribute, setText } from "./dom.js";

const TEXT_AFTER_MS = 250;

/** The last part of "Shape". `settings()` returns the settings to write; `applied()` is called after a change. */
export class Apply {
  constructor(container, settings, applied) {
    Object.assign(this, { settings, applied });
    this.text = make("pre", { class: "code", tabindex: 0, role: "group", "aria-label": "Text for the config file" });
    this.copy = make("button", { type: "button", onclick: () => this.#copy() }, "Copy");
    this.open = make("button", { type: "button", class: "main", onclick: () => this.#showDifference() }, "Apply …");
    this.undo = make("button", { type: "button", hidden: true, onclick: () => this.#undo() }, "Undo");
    this.result = make("p", { role: "status", class: "result" });
    this.where = make("p", { class: "soft" });
    this.difference = make("pre", { class: "code diff", tabindex: 0, role: "group", "aria-label": "Difference" });
    this.warnings = make("ul", { class: "warnings" });
    this.confirm = make("button", { type: "button", class: "main", onclick: () => this.#apply() }, "Apply");
    this.title = make("h2", { id: "apply-title" }, "Change the settings?");
    this.dialog = make(
      "dialog",
      { "aria-labelledby": "apply-title" },
      this.title,
      make(
        "p",
        { class: "soft" },
        "Lines with + are added, lines with − are removed. The service then loads the file again.",
      ),
      this.difference,
      this.warnings,
      make(
        "div",
        { class: "buttons" },
        make("button", { type: "button", onclick: () => this.dialog.close() }, "Cancel"),
        this.confirm,
      ),
    );
    container.append(
      this.text,
      make("div", { class: "buttons" }, this.copy, this.open, this.undo),
      this.result,
      this.where,
      this.dialog,
    );
  }

  /** Show whether this page may write the settings file at `path`; `box` (of /api/box) says it. */
  setBox(box, path) {
    this.open.hidden = !box.can_apply;
    const command = box.why_not_apply || "this page may not change the settings; `sudo gpufan web` may";
    const how = box.can_apply ? `Apply writes ${path}; its comments stay` : `For ${path}: ${command}`;
    setText(this.where, `Comments of the file are not shown. ${how.replace(/\.$/, "")}.`);
  }

  /** Show the text of the settings soon. */
  changed() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.#showText(), TEXT_AFTER_MS);
  }

  async #showText() {
    const { toml, error } = await this.#post("text", this.settings());
    if (toml !== undefined) setText(this.text, error || withoutComments(toml));
  }

  async #copy() {
    try {
      await navigator.clipboard.writeText(this.text.textContent);
      this.#say("Copied.");
    } catch {
      getSelection().selectAllChildren(this.text);
      this.#say("The text is selected: copy it with Ctrl+C.");
    }
  }

  async #showDifference() {
    // The settings have the former value of a field whose text is wrong. Nothing is written until it is right.
    const wrong = [...document.querySelectorAll("#shape input:invalid")].find((input) => input.checkVisibility());
    if (wrong) {
      wrong.reportValidity();
      return;
    }
    const answer = await this.#post("diff", this.settings());
    if (answer.id === undefined) return;
    if (answer.error || !answer.diff) {
      this.#say(answer.error || "The file has these settings already.");
      return;
    }
    this.id = answer.id;
    this.difference.replaceChildren(
      ...answer.diff.split("\n").map((line) => make("span", { class: lineKind(line) }, `${line}\n`)),
    );
    this.warnings.replaceChildren(...(answer.warnings ?? []).map((warning) => make("li", {}, warning)));
    this.dialog.showModal();
    this.confirm.focus();
  }

  async #apply() {
    setAttribute(this.confirm, "disabled", true);
    const answer = await this.#post("apply", { id: this.id });
    this.confirm.removeAttribute("disabled");
    this.dialog.close();
    if (answer.text === undefined) return;
    this.#say(answer.text, answer.ok);
    this.undoId = answer.undo_id;
    this.undo.hidden = !answer.undo_id;
    this.applied();
  }

  async #undo() {
    const answer = await this.#post("undo", { undo_id: this.undoId });
    if (answer.text === undefined) return;
    this.#say(answer.text, answer.ok);
    this.undo.hidden = answer.ok;
    this.applied();
  }

  async #post(path, body) {
    try {
      return await post(path, body);
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      this.#say(error.message, false);
      return {};
    }
  }

  #say(text, ok = true) {
    setAttribute(this.result, "data-ok", ok);
    setText(this.result, text);
  }
}

/** Return TOML without the lines that are comments, and without the empty lines between them. */
function withoutComments(toml) {
  const lines = toml.split("\n").filter((line) => !line.trimStart().startsWith("#"));
  return lines
    .join("\n")
    .replace(/\n{3,}/g, "\n\n")
    .trimStart();
}

function lineKind(line) {
  if (line.startsWith("+") && !line.startsWith("+++")) return "added";
  return line.startsWith("-") && !line.startsWith("---") ? "removed" : "same";
}
