// Numbers, durations and times as text. Times are in the reader's local time.

const NONE = "–";
const NAME_LETTERS = 60;
const NO_BREAK = "\u00a0";

/** Return `value` with `digits` decimals and its unit; a dash if it is unknown. */
export function quantity(value, unit, digits = 0) {
  return isNumber(value) ? `${value.toFixed(digits)}${NO_BREAK}${unit}` : NONE;
}

/** Return `value` with `digits` decimals; a dash if it is unknown. */
export function number(value, digits = 0) {
  return isNumber(value) ? value.toFixed(digits) : NONE;
}

/** Whether `value` is a known number. */
export function isNumber(value) {
  return typeof value === "number" && Number.isFinite(value);
}

/** Return the name of a card, without its middle if it is too long. */
export function shortName(name) {
  const letters = [...name];
  if (letters.length <= NAME_LETTERS) return name;
  const half = NAME_LETTERS / 2;
  return `${letters.slice(0, half).join("")}…${letters.slice(-half).join("")}`;
}

/** Return a duration in words: `42 s`, `9 min 12 s`, `2 h 10 min`, `3 d 4 h`. */
export function duration(seconds) {
  if (!isNumber(seconds)) return NONE;
  const s = Math.round(seconds);
  if (s < 60) return `${s} s`;
  const units = [
    ["d", 86400],
    ["h", 3600],
    ["min", 60],
    ["s", 1],
  ];
  const first = units.findIndex(([, length]) => s >= length);
  const [[unit, length], [smaller, part]] = [units[first], units[first + 1]];
  const rest = Math.floor((s % length) / part);
  return `${Math.floor(s / length)} ${unit}${rest ? ` ${rest} ${smaller}` : ""}`;
}

const formats = {
  minute: { hour: "2-digit", minute: "2-digit", hourCycle: "h23" },
  second: { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" },
  day: { weekday: "short", day: "numeric", month: "short" },
};
for (const [name, options] of Object.entries(formats)) formats[name] = new Intl.DateTimeFormat("en-GB", options);

/** Return a time (seconds since the epoch) as local text: `minute` 14:05, `second` 14:05:09, `day` Tue 24 Nov. */
export function localTime(timeS, form) {
  return formats[form].format(new Date(timeS * 1000));
}

/** Return a time with its day: `Tue 24 Nov 14:05`. */
export function dayAndTime(timeS, form = "minute") {
  return `${localTime(timeS, "day").replace(",", "")} ${localTime(timeS, form)}`;
}
