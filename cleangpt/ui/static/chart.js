// The plotting library, loaded when the first chart is drawn, and the look that all charts share.

import {el} from "./dom.js";

let library = null;
export function plotly() {
  library ??= new Promise((resolve, reject) => {
    const script = el("script", {src: document.body.dataset.plotly});
    script.onload = () => resolve(globalThis.Plotly);
    script.onerror = () => reject(new Error("the plotting library could not be loaded"));
    document.head.append(script);
  });
  return library;
}

// The library reads tags and entities in texts; a text of ours is text.
export const plain = text => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll("%{", "%&#123;");

const paint = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// Colours as the page has them now: light-dark() is resolved only in a property.
function colours() {
  const probe = el("i", {hidden: true});
  document.body.append(probe);
  const found = Object.fromEntries(["--ink", "--soft", "--line", "--paper"].map(name => {
    probe.style.color = paint(name);
    return [name.slice(2), getComputedStyle(probe).color];
  }));
  probe.remove();
  return found;
}

export function layout(more = {}) {
  const {ink, soft, line, paper} = colours();
  const axis = {gridcolor: line, zerolinecolor: line, linecolor: line, tickcolor: line, automargin: true, exponentformat: "e", hoverformat: "~g"};
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: {color: soft, size: 12, family: "system-ui, sans-serif"},
    margin: {l: 8, r: 8, t: 8, b: 8}, height: 300, showlegend: false, hovermode: "x", dragmode: "zoom",
    hoverlabel: {bgcolor: paper, bordercolor: line, font: {color: ink, size: 12}, namelength: 40},
    ...more,
    xaxis: {...axis, ...more.xaxis}, yaxis: {...axis, ...more.yaxis},
  };
}

export const CONFIG = {displayModeBar: false, responsive: true, displaylogo: false};

export async function draw(place, traces, more) {
  const Plotly = await plotly();
  await Plotly.react(place, traces, layout(more), CONFIG);
  return Plotly;
}

export function remove(place) {
  globalThis.Plotly?.purge(place);
}
