// What a report says of the runs that are ticked: the settings over their seeds, what they show, and effects.

import {draw, plain, remove} from "./chart.js";
import {el, field, get, heading, option, table} from "./dom.js";
import {chosen, runs, shownRuns, tick} from "./state.js";

const MOST = 500;
const BLUE = "#3b7fcc", GREY = "#9aa1ab";

export async function show(root, {asked}) {
  let metric = asked.get("metric"), own = chosen(asked).slice(0, MOST), loading = 0, open = true, stood = "";
  const choose = el("select", {"aria-label": "Judged by", onchange: () => { metric = choose.value; load(); }});
  const said = el("div"), drawn = [], bar = el("div", {class: "bar"}, field("judged by", choose));
  root.append(heading("Compare"), bar, said);
  const there = () => own.filter(id => runs.has(id));
  const stands = () => there().map(id => runs.get(id).status).join();

  function offer() {
    const sweeps = Object.entries(Object.groupBy(shownRuns().filter(row => row.sweep), row => row.sweep)).slice(0, 20);
    const take = rows => {
      rows.forEach(row => tick(row.id, true));
      own = rows.map(row => row.id).slice(0, MOST);
      load();
    };
    bar.hidden = true;
    said.replaceChildren(el("p", {}, "No run is ticked: tick some in ", el("a", {href: "#/runs"}, "Runs"), sweeps.length ? ", or take a sweep:" : "."),
      ...sweeps.map(([name, rows]) => el("p", {}, el("button", {type: "button", onclick: () => take(rows)}, `${name}: ${rows.length} runs`))));
  }

  async function load() {
    const mine = ++loading;
    stood = stands();
    if (!there().length) return offer();
    bar.hidden = false;
    if (!said.querySelector("table")) said.replaceChildren(el("p", {class: "soft"}, "Reading the runs …"));
    const ids = there().join(",");
    history.replaceState(null, "", `#/compare?${new URLSearchParams({ids, ...(metric ? {metric} : {})})}`);
    let found;
    try {
      found = await get("/api/compare", {ids, metric});
    } catch (error) {
      if (mine === loading) said.replaceChildren(el("p", {class: "error", role: "alert"}, error.message));
      return;
    }
    if (mine !== loading || !open) return;
    metric = found.metric;
    choose.replaceChildren(...found.metrics.map(name => option(name, name, name === metric)));
    drawn.splice(0).forEach(([place]) => remove(place));
    const effects = found.effects.map(effect => {
      const place = el("div", {class: "plot"});
      drawn.push([place, effect, found.label]);
      return el("figure", {class: "chart"}, el("figcaption", {}, el("strong", {}, `Effect of ${effect.key}`)), place, el("small", {class: "soft"}, effect.caption));
    });
    said.replaceChildren(
      el("p", {class: "soft"}, found.statuses),
      ...found.findings.map(words => el("p", {class: "finding"}, words)),
      el("h2", {}, "Settings"), cells(found.settings, "Settings", number => (found.settings.groups[number] === found.best ? "best" : "")),
      el("p", {}, el("small", {class: "soft"}, "Mean ± standard deviation over the seeds of runs that finished; the interval holds the mean of all seeds with 95% confidence (Student's t). Of one seed there is neither.")),
      ...(effects.length ? [el("h2", {}, "Effects"), el("div", {class: "charts"}, effects)] : []),
      el("h2", {}, "Runs"), cells(found.runs, "Runs", () => "", found.runs.ids),
      ...(found.keys.length ? [el("h2", {}, "What differs"), el("ul", {}, found.keys.map(key => el("li", {}, el("code", {}, key.name), key.with.length ? el("small", {class: "soft"}, ` with it ${key.with.join(", ")}`) : null)))] : []),
      ...(found.remarks.length ? [el("h2", {}, "Notes"), el("ul", {}, found.remarks.map(words => el("li", {}, words)))] : []),
      el("details", {}, el("summary", {}, "What all configurations share"), table(["key", "value"], found.alike.map(([key, value]) => [[el("code", {}, key), key], [value, value]]), {name: "Shared"})),
    );
    await paint();
  }

  async function paint() {
    for (const [place, effect, label] of drawn) await paintEffect(place, effect, label);
  }

  await load();
  return {
    update() { if (stands() !== stood) load(); },
    repaint: paint,
    close() {
      open = false;
      drawn.forEach(([place]) => remove(place));
    },
  };
}

function cells(found, name, mark, ids) {
  const rows = found.rows.map((row, n) => row.map(([text, value], column) => [ids && column === 0 ? el("a", {href: `#/run/${ids[n]}`}, text) : text, value]));
  return table(found.titles, rows, {numeric: found.numeric, name, mark});
}

function paintEffect(place, effect, label) {
  const single = effect.lines.length === 1;
  const numeric = effect.values.every(value => value.trim() !== "" && isFinite(value));
  const at = value => (numeric ? Number(value) : plain(value));
  const spread = numeric && Math.min(...effect.values) > 0 && Math.max(...effect.values) / Math.min(...effect.values) >= 8;
  const traces = effect.lines.map(line => ({
    x: line.values.map(at), y: line.means, mode: "lines+markers", name: plain(line.others || "all"),
    line: {color: single ? BLUE : GREY, width: single ? 1.6 : 1}, marker: {color: single ? BLUE : GREY, size: single ? 8 : 5},
    hovertemplate: "%{y:.5~g}<extra>%{fullData.name}</extra>",
    ...(single && line.low.some(value => value !== null) ? {error_y: {type: "data", symmetric: false, color: BLUE, array: line.high.map((value, n) => (value ?? line.means[n]) - line.means[n]), arrayminus: line.low.map((value, n) => line.means[n] - (value ?? line.means[n]))}} : {}),
  }));
  if (!single && effect.lines.every(line => line.values.length === effect.values.length)) {
    const means = effect.values.map((_, n) => effect.lines.reduce((sum, line) => sum + line.means[n], 0) / effect.lines.length);
    traces.push({x: effect.values.map(at), y: means, mode: "lines+markers", name: "mean", line: {color: BLUE, width: 2.4}, marker: {color: BLUE, size: 7}, hovertemplate: "%{y:.5~g}<extra>mean</extra>"});
  }
  return draw(place, traces, {hovermode: "closest", xaxis: {title: {text: plain(effect.key)}, type: spread ? "log" : numeric ? "linear" : "category", ...(numeric && effect.values.length <= 10 ? {tickvals: effect.values.map(Number), ticktext: effect.values} : {})}, yaxis: {title: {text: plain(label)}}});
}
