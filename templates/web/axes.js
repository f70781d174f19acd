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

const STEPS_S = [1, 5, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800];

/** Return ticks of local time between two times (seconds since the epoch): at most `count`, each with a label.
 *
 * They count from midnight on the local clock, so that they stay round when summer time begins or ends.
 */
export function timeTicks(beginS, endS, count) {
  const step = STEPS_S.find((size) => (endS - beginS) / size <= count) ?? 7 * 86400;
  const day = new Date(beginS * 1000);
  const elapsed = beginS - new Date(day.getFullYear(), day.getMonth(), day.getDate()).getTime() / 1000;
  const found = [];
  for (let k = Math.max(Math.floor(elapsed / step) - 4, 0); found.length <= 4 * count; k += 1) {
    const tick = new Date(day.getFullYear(), day.getMonth(), day.getDate(), 0, 0, k * step);
    const timeS = tick.getTime() / 1000;
    if (timeS > endS) break;
    if (timeS < beginS || timeS <= found.at(-1)?.timeS) continue;
    const midnight = tick.getHours() + tick.getMinutes() + tick.getSeconds() === 0;
    found.push({ timeS, label: localTime(timeS, midnight ? "day" : step < 60 ? "second" : "minute") });
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
