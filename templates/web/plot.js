// Loads Plotly from the server when it is first needed, and draws with it in the colours of the page.

import { colour } from "./look.js";

let loading = null;

function load() {
  loading ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = new URL("./plotly.min.js", import.meta.url);
    const restore = ignoreStyles();
    script.onload = () => {
      restore();
      resolve(globalThis.Plotly);
    };
    script.onerror = () => {
      restore();
      loading = null;
      script.remove();
      reject(new Error("the charts could not be loaded: reload the page"));
    };
    document.head.append(script);
  });
  return loading;
}

/**
 * Let Plotly add no style sheet while it is loaded. It has one for maps, which are not drawn here, and the security
 * policy of this page refuses it. Returns the function that ends this.
 */
function ignoreStyles() {
  const create = document.createElement.bind(document);
  document.createElement = (name, ...more) => create(name === "style" ? "template" : name, ...more);
  return () => delete document.createElement;
}

/** Return `text` with its markup escaped, since Plotly reads some markup. */
export function plain(text) {
  return String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}

/** Draw `traces` in `container`. The keys of `layout` override the look of the page. */
export async function draw(container, traces, layout) {
  const Plotly = await load();
  const ink = colour("--ink");
  const look = {
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("--soft") },
    hoverlabel: { bgcolor: colour("--surface"), bordercolor: colour("--edge"), font: { color: ink } },
    showlegend: false,
    hovermode: false,
    dragmode: false,
  };
  await Plotly.react(container, traces, { ...look, ...layout }, { displayModeBar: false, doubleClick: false });
}

/** Return an axis in the look of the page, with the keys of `more`. */
export function axis(more) {
  const grid = colour("--grid");
  return { fixedrange: true, gridcolor: grid, linecolor: grid, zeroline: false, automargin: false, ...more };
}
