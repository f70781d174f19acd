// The charts of the view "Then": temperature, duty, power and sound of all cards over one time axis, and the events.

import { timeTicks } from "./axes.js";
import { cardColour, cardDash, colour } from "./look.js";
import { axis, draw, plain } from "./plot.js";
import { isNumber } from "./text.js";

export const MARGIN = { l: 44, r: 12, t: 8, b: 28 };
const BAND_CARDS = 4;
const MAX_SHADES = 200;

/** The panels, from the top. `line(card)` returns the values; `band(card)` the lowest and highest values, or null. */
const PANELS = [
  {
    title: "temperature, °C",
    share: 3,
    line: (card) => card.temperature_c.mean,
    band: (card) => card.temperature_c,
    range: temperatures,
  },
  {
    title: "duty, %",
    share: 2,
    line: (card) => card.duty_percent.mean,
    band: (card) => card.duty_percent,
    range: () => [0, 102],
  },
  {
    title: "power, W",
    share: 2,
    line: (card) => card.power_w.mean,
    band: (card) => card.power_w,
    range: (values) => [0, 1.05 * Math.max(50, ...values)],
  },
  {
    title: "sound, dB(A)",
    share: 2,
    line: (card) => card.sound_db ?? [],
    band: () => null,
    range: (values) => [20, 4 + Math.max(40, ...values)],
  },
];
const SYMBOLS = { problem: "triangle-up", warning: "triangle-up-open", note: "circle-open" };

function temperatures(values) {
  return [Math.min(30, ...values) - 2, Math.max(85, ...values) + 3];
}

/** Draw `history` (of /api/history) in `container` from `beginS` to `endS`. `cards` are `{key, place}` of those shown. */
export function drawHistory(container, history, cards, beginS, endS) {
  const domains = panelDomains();
  const isShown = (event) => !history.cards[event.key] || cards.some(({ key }) => key === event.key);
  const events = history.events.filter(isShown);
  const traces = [eventMarks(events, cards)];
  const layout = {
    height: container.clientHeight,
    margin: MARGIN,
    annotations: [],
    shapes: shades(events),
    xaxis: axis({ range: [beginS, endS], anchor: "y5", ...timeAxis(beginS, endS, container.clientWidth) }),
    yaxis: axis({
      domain: domains[0],
      range: [-0.7, Math.max(cards.length, 1) - 0.3],
      showgrid: false,
      showticklabels: false,
    }),
  };
  title(layout, "events", domains[0]);
  PANELS.forEach((panel, i) => {
    const values = [];
    traces.push(emptyTrace(i + 2));
    for (const { key, place } of cards) {
      const card = history.cards[key];
      const band = cards.length <= BAND_CARDS ? panel.band(card) : null;
      if (band) traces.push(bandTrace(card.time_s, band, place, i + 2));
      traces.push(lineTrace(card.time_s, panel.line(card), place, i + 2));
      values.push(...(band ? [...band.low, ...band.high] : panel.line(card)).filter(isNumber));
    }
    layout[`yaxis${i + 2}`] = axis({ domain: domains[i + 1], range: panel.range(values), nticks: 5 });
    title(layout, panel.title, domains[i + 1]);
  });
  return draw(container, traces, layout);
}

function panelDomains() {
  const gap = 0.045;
  const eventsHeight = 0.05;
  const shares = PANELS.reduce((sum, panel) => sum + panel.share, 0);
  const unit = (1 - eventsHeight - gap * (PANELS.length + 1)) / shares;
  let top = 1 - gap;
  const domains = [[top - eventsHeight, top]];
  top -= eventsHeight;
  for (const panel of PANELS) {
    top -= gap;
    domains.push([Math.max(top - unit * panel.share, 0), top]);
    top -= unit * panel.share;
  }
  return domains;
}

function title(layout, text, [, top]) {
  layout.annotations.push({
    text,
    x: 0,
    y: top,
    xref: "paper",
    yref: "paper",
    xanchor: "left",
    yanchor: "bottom",
    showarrow: false,
    font: { color: colour("--ink"), size: 13 },
  });
}

function timeAxis(beginS, endS, width) {
  const ticks = timeTicks(beginS, endS, Math.max(Math.floor(width / 62), 2));
  return {
    tickmode: "array",
    tickvals: ticks.map((tick) => tick.timeS),
    ticktext: ticks.map((tick) => plain(tick.label)),
  };
}

/** Return a trace without points. Plotly leaves out the axes of a panel that has no trace. */
function emptyTrace(panel) {
  return { type: "scatter", mode: "markers", x: [null], y: [null], xaxis: "x", yaxis: `y${panel}` };
}

function lineTrace(x, y, place, panel) {
  const line = { color: colour(cardColour(place)), dash: cardDash(place), width: 1.75 };
  return { type: "scatter", mode: "lines", x, y, xaxis: "x", yaxis: `y${panel}`, line, connectgaps: false };
}

/** Return the area between the lowest and the highest values: a polygon for each stretch without a gap. */
function bandTrace(times, { low, high }, place, panel) {
  const x = [];
  const y = [];
  let begin = 0;
  for (let i = 0; i <= times.length; i += 1) {
    if (i < times.length && isNumber(low[i]) && isNumber(high[i])) continue;
    const stretch = times.slice(begin, i);
    if (stretch.length > 1) {
      x.push(...stretch, ...stretch.toReversed(), null);
      y.push(...high.slice(begin, i), ...low.slice(begin, i).toReversed(), null);
    }
    begin = i + 1;
  }
  const fillcolor = colour(cardColour(place), 0.16);
  return { type: "scatter", mode: "none", x, y, xaxis: "x", yaxis: `y${panel}`, fill: "toself", fillcolor };
}

function eventMarks(events, cards) {
  const place = new Map(cards.map(({ key }, i) => [key, cards.length - 1 - i]));
  return {
    type: "scatter",
    mode: "markers",
    xaxis: "x",
    yaxis: "y",
    x: events.map((event) => event.begin_s),
    y: events.map((event) => place.get(event.key) ?? (cards.length - 1) / 2),
    marker: {
      size: 9,
      symbol: events.map((event) => SYMBOLS[event.severity] ?? SYMBOLS.note),
      color: events.map((event) => eventColour(event)),
    },
  };
}

function eventColour(event) {
  return colour({ problem: "--problem", warning: "--warning" }[event.severity] ?? "--soft");
}

/** Return shapes behind all panels: a stripe for an event that lasted, a line for one that did not. */
function shades(events) {
  const grave = events.filter((event) => event.severity !== "note");
  return grave.slice(-MAX_SHADES).map((event) => {
    const lasting = event.end_s > event.begin_s;
    const shape = { xref: "x", yref: "paper", y0: 0, y1: 1, x0: event.begin_s, x1: event.end_s, layer: "below" };
    const line = { color: eventColour(event), width: lasting ? 0 : 1, dash: "dot" };
    return {
      ...shape,
      type: lasting ? "rect" : "line",
      fillcolor: eventColour(event),
      opacity: lasting ? 0.18 : 0.7,
      line,
    };
  });
}
