// Scales of axes, and where their ticks are.

import { localTime } from "./text.js";

/** Return the function that maps low..high to start..end. */
export function scale(low, high, start, end) {
  return (value) => start + ((end - start) * (value - low)) / (high - low || 1);
}

/** Return round numbers from `low` to `high`: about `count`, the steps 1, 2 or 5 times a power of ten. */
export function ticks(low, high, count = 5) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough * 0.999);
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k += 1) found.push(k * step);
  return found;
}

const DAY_S = 86400;
const STEPS_S = [1, 5, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, DAY_S, 2 * DAY_S];
const MOST_UNIT_S = 900; // all time zones and changes of the clocks are multiples of it

/**
 * Return ticks of local time between two times (seconds since the epoch): about `count`, each with a label.
 *
 * They are round on the local clock, also when summer time begins or ends.
 */
export function timeTicks(beginS, endS, count) {
  const step = STEPS_S.find((size) => (endS - beginS) / size <= count) ?? 7 * DAY_S;
  const unit = Math.min(step, MOST_UNIT_S);
  const found = [];
  for (let timeS = Math.ceil(beginS / unit) * unit; timeS <= endS; timeS += unit) {
    const tick = new Date(timeS * 1000);
    const ofDay = (tick.getHours() * 60 + tick.getMinutes()) * 60 + tick.getSeconds();
    const day = Math.round((timeS - tick.getTimezoneOffset() * 60 - ofDay) / DAY_S);
    if ((day * DAY_S + ofDay) % step) continue;
    found.push({ timeS, label: localTime(timeS, ofDay === 0 ? "day" : step < 60 ? "second" : "minute") });
  }
  return found;
}

/** Return the path of a line through the points. A null, or a pause of more than `gapS`, interrupts it. */
export function linePath(timesS, values, x, y, gapS = Infinity) {
  let path = "";
  let before = null;
  for (let i = 0; i < timesS.length; i += 1) {
    const value = values[i];
    if (value === null || value === undefined) {
      before = null;
      continue;
    }
    const joined = before !== null && timesS[i] - before <= gapS;
    path += `${joined ? "L" : "M"}${x(timesS[i]).toFixed(1)} ${y(value).toFixed(1)}`;
    before = timesS[i];
  }
  return path;
}
