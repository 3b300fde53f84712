// Curves of the runs that are ticked: one chart a column, along one of four axes, single or as bands of seeds.

import {draw, plain, remove} from "./chart.js";
import {el, field, get, heading, isShare, option} from "./dom.js";
import {chosen, colour, dash, newest, runs, swatch, tick} from "./state.js";

const AXES = {step: "optimizer step", tokens: "tokens", seconds: "time", flops: "FLOPs"};
const USUAL = ["train/loss", "val/loss", "val/accuracy", "lr"];
const NAME = 40; // letters of a name beside a point
const AT_ONCE = 8; // runs in a request
const MOST = 64; // lines
const UNITS = [[86400, "days"], [3600, "hours"], [60, "minutes"], [1, "seconds"]];

export async function show(root, {asked}) {
  let own = chosen(asked), all = own.length;
  if (!own.length) own = [newest()?.id].filter(Boolean);
  const view = {
    keys: asked.getAll("key").filter(Boolean),
    x: Object.hasOwn(AXES, asked.get("x") ?? "") ? asked.get("x") : "step",
    logx: asked.has("logx"), logy: asked.has("logy"), bands: asked.has("bands"),
    smooth: Math.min(0.99, Math.max(0, Number(asked.get("smooth")) || 0)),
  };
  const legend = el("div", {class: "legend"}), charts = el("div", {class: "charts"});
  const add = el("select", {"aria-label": "Add a column", onchange: () => {
    if (add.value) view.keys.push(add.value);
    usual = false;
    change();
  }});
  const axis = el("select", {onchange: () => { view.x = axis.value; reset(); }}, Object.entries(AXES).map(([name, text]) => option(name, text, name === view.x)));
  const box = (name, text) => el("label", {class: "check"}, el("input", {type: "checkbox", checked: view[name], onchange: event => { view[name] = event.target.checked; name === "logx" ? reset() : change(); }}), text);
  const smooth = el("input", {type: "range", min: "0", max: "0.99", step: "0.01", value: String(view.smooth), oninput: () => { view.smooth = Number(smooth.value); keep(); drawn.forEach(chart => chart.load()); }});
  root.append(
    heading("Curves"),
    el("div", {class: "bar"}, field("along", axis), field("add", add), box("logx", "log x"), box("logy", "log y"), box("bands", "seeds as bands"), field("smooth", smooth)),
    legend, charts,
  );
  const drawn = new Map(); // column: its chart
  const shown = () => own.filter(id => runs.has(id)).slice(0, MOST);
  let usual = !view.keys.length; // columns that nobody chose

  function keep() {
    const words = new URLSearchParams({ids: shown().join(",")});
    if (view.x !== "step") words.set("x", view.x);
    if (!usual) for (const key of view.keys) words.append("key", key);
    for (const name of ["logx", "logy", "bands"]) if (view[name]) words.set(name, "1");
    if (view.smooth) words.set("smooth", String(view.smooth));
    history.replaceState(null, "", `#/curves?${words}`);
  }

  function change() {
    keep();
    tell();
    for (const [key, chart] of drawn) {
      if (view.keys.includes(key)) continue;
      chart.close();
      drawn.delete(key);
    }
    for (const key of view.keys) {
      if (!drawn.has(key)) drawn.set(key, chartOf(key, view, shown, () => {
        view.keys = view.keys.filter(other => other !== key);
        usual = false;
        change();
      }));
      charts.append(drawn.get(key).box);
      drawn.get(key).load();
    }
  }

  function reset() {
    for (const chart of drawn.values()) chart.range = null;
    change();
  }

  function tell() {
    const ids = shown();
    legend.replaceChildren(...ids.map(id => {
      const row = runs.get(id);
      const mark = swatch(view.bands ? ids.find(other => runs.get(other).setting === row.setting) : id);
      const leave = () => { own = own.filter(other => other !== id); all--; tick(id, false); change(); };
      return el("span", {}, mark, el("a", {href: `#/run/${id}`}, row.name), el("button", {type: "button", class: "small", "aria-label": `Without ${row.name}`, onclick: leave}, "✕"));
    }));
    if (all > ids.length) legend.append(el("span", {class: "soft"}, `${ids.length} of the ${all} that are ticked: more are not drawn`));
    if (!ids.length) legend.append(el("span", {}, "No run is ticked: tick some in ", el("a", {href: "#/runs"}, "Runs")));
  }

  async function list() {
    const ids = shown(), names = ids.length ? await get("/api/names", {ids: ids.join(",")}) : [];
    add.replaceChildren(option("", "a column …"), ...names.filter(name => !view.keys.includes(name)).map(name => option(name)));
    return names;
  }

  function choose(names) {
    if (!usual) return;
    const found = USUAL.filter(name => names.includes(name));
    view.keys = found.length ? found : names.slice(0, 2);
  }

  choose(await list());
  change();
  let known = shown().length;
  return {
    update(changed) {
      const ids = shown();
      if (ids.length !== known) change();
      else if (ids.some(id => changed.has(id))) drawn.forEach(chart => chart.load());
      known = ids.length;
      list().then(names => {
        const before = view.keys.join();
        choose(names);
        if (view.keys.join() !== before) change();
      }).catch(() => null);
    },
    repaint() { drawn.forEach(chart => chart.paint()); },
    close() { drawn.forEach(chart => chart.close()); },
  };
}

// A chart of one column. It keeps its range while its curves grow.
export function chartOf(key, view, ids, leave) {
  const place = el("div", {class: "plot"}), note = el("small", {class: "soft"});
  const box = el("figure", {class: "chart", "data-key": key},
    el("figcaption", {}, el("strong", {}, key), note, leave ? el("button", {type: "button", class: "small", "aria-label": `Without ${key}`, onclick: leave}, "✕") : null), place);
  let lines = [], loading = 0, listens = false, open = true;
  const self = {key, box, range: null, load, paint, close() { open = false; remove(place); box.remove(); }};

  async function load() {
    const mine = ++loading, wanted = ids();
    const query = {key, x: view.x, begin: self.range?.[0], end: self.range?.[1], bands: view.bands || null, smooth: view.smooth || null};
    const parts = [];
    for (let n = 0; n < wanted.length; n += view.bands ? wanted.length : AT_ONCE) parts.push(wanted.slice(n, view.bands ? undefined : n + AT_ONCE));
    try {
      const found = (await Promise.all(parts.map(some => get("/api/curves", {...query, ids: some.join(",")})))).flat();
      if (mine !== loading || !open) return;
      lines = found;
      await paint();
    } catch (error) {
      note.textContent = ` ${error.message}`;
    }
  }

  async function paint() {
    if (!open) return;
    const scale = isShare(key) ? 100 : 1;
    const furthest = Math.max(1, ...lines.map(line => line.x.at(-1) ?? 0));
    const [divisor, unit] = view.x === "seconds" ? UNITS.find(([size]) => furthest >= 2 * size) ?? [1, "seconds"] : [1, ""];
    const traces = [], wanted = ids();
    for (const line of lines) {
      const first = wanted.find(id => line.ids.includes(id)) ?? line.ids[0];
      const shade = colour(first), style = dash(first), row = runs.get(first);
      const x = line.x.map(value => value / divisor), y = line.y.map(value => (value === null ? null : value * scale));
      const many = line.seeds > 1;
      const name = plain(short(many ? `${line.seeds} seeds of ${row?.sweep || row?.name || ""}${label(row)}` : row?.name ?? ""));
      const look = {x, mode: x.length === 1 ? "markers" : "lines", name, hovertemplate: `%{y:.5~g}${scale === 100 ? "%" : ""}<extra>%{fullData.name}</extra>`};
      if (many) {
        const edge = values => values.map(value => (value === null ? null : value * scale));
        traces.push({x, y: edge(line.low), mode: "lines", line: {width: 0}, hoverinfo: "skip"},
          {x, y: edge(line.high), mode: "lines", line: {width: 0}, fill: "tonexty", fillcolor: `${shade}33`, hoverinfo: "skip"});
      }
      if (line.smooth) {
        traces.push({...look, y, line: {color: `${shade}44`, width: 1}, hoverinfo: "skip", hovertemplate: null});
        const mean = line.smooth.y.map(value => (value === null ? null : value * scale));
        traces.push({...look, x: line.smooth.x.map(value => value / divisor), y: mean, line: {color: shade, width: 1.8, dash: style}});
      } else traces.push({...look, y, line: {color: shade, width: 1.6, dash: style}, marker: {color: shade, size: 7}});
      const gaps = line.y.flatMap((value, n) => (value === null ? [x[n]] : []));
      if (gaps.length && !many) traces.push({x: gaps, y: gaps.map(() => lowest(y)), mode: "markers", marker: {symbol: "x", color: shade, size: 7}, name: `${name}: not finite`, hovertemplate: "not finite<extra>%{fullData.name}</extra>"});
    }
    const lacking = ids().length - lines.flatMap(line => line.ids).length;
    note.textContent = lines.length ? (lacking ? ` ${lacking} of the runs lack it${view.x === "flops" ? ", or say nothing of FLOPs" : ""}` : "") : " none of the runs has it";
    const range = self.range?.map(value => (view.logx ? Math.log10(Math.max(value / divisor, 1e-300)) : value / divisor));
    const Plotly = await draw(place, traces, {
      xaxis: {title: {text: unit || AXES[view.x]}, type: view.logx ? "log" : "linear", ...(range ? {range, autorange: false} : {autorange: true})},
      yaxis: {title: {text: scale === 100 ? "%" : ""}, type: view.logy ? "log" : "linear", autorange: true, hoverformat: ".5~g"},
      uirevision: `${view.x} ${view.logx} ${view.logy}`,
    });
    if (!listens && open) {
      listens = true;
      place.on("plotly_relayout", event => zoomed(event, divisorNow()));
    }
    self.divisor = divisor;
    return Plotly;
  }

  const divisorNow = () => self.divisor ?? 1;

  function zoomed(event, divisor) {
    if (event["xaxis.autorange"]) self.range = null;
    else if ("xaxis.range[0]" in event) {
      self.range = [event["xaxis.range[0]"], event["xaxis.range[1]"]].map(value => (view.logx ? 10 ** value : value) * divisor);
    } else return;
    load();
  }

  return self;
}

const short = name => (name.length > NAME ? `…${name.slice(1 - NAME)}` : name);

const lowest = values => values.reduce((least, value) => (value !== null && value < least ? value : least), Infinity);

function label(row) {
  const words = (row?.differs ?? []).filter(pair => pair[0] !== "seed").map(pair => pair.join("="));
  return words.length ? ` (${words.slice(0, 3).join(", ")})` : "";
}
