// The look of each card in pictures, a colour and a pattern of dashes, and the colours of the theme.

const COLOURS = 5;
const DASHES = ["solid", "8px,4px", "2px,4px", "10px,4px,2px,4px"];

/** Return the name of the colour of the card at `place`, a custom property of the style sheet. */
export function cardColour(place) {
  return `--card-${place % COLOURS}`;
}

/** Return the dashes of the card at `place`, as Plotly names them. The first twenty cards all look different. */
export function cardDash(place) {
  return DASHES[place % DASHES.length];
}

/** Return the present colour of a custom property as `rgb(…)`. */
export function colour(name, opacity = 1) {
  const probe = document.createElement("span");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return opacity === 1 ? found : found.replace(/^rgb\((.*)\)$/, `rgba($1, ${opacity})`);
}

/** Call `changed` when the theme changes. */
export function onThemeChange(changed) {
  document.documentElement.addEventListener("themechange", changed);
}
