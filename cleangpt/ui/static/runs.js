// The table of runs. A row belongs to its id, so a new run moves nothing that is ticked or being written.

import {breakable, compared, copyable, duration, el, field, heading, number, option, post, status} from "./dom.js";
import {metrics, poll, runs, swatch, tick, ticked, usualMetric} from "./state.js";

const AT_FIRST = 300; // rows
const COLUMNS = [
  ["run", row => row.name],
  ["status", row => row.status],
  ["last", (row, metric) => row.values[metric]],
  ["best", (row, metric) => row.best[metric]?.[0]],
  ["progress", row => (row.steps ? row.step / row.steps : row.step)],
  ["left", row => row.left],
  ["differs", row => row.differs.map(pair => pair.join("=")).join(" ")],
  ["sweep", row => row.sweep],
  ["seed", row => (isNaN(row.seed) ? row.seed : Number(row.seed))],
  ["started", row => row.started],
  ["note", row => row.note],
];
const NUMBERS = ["left", "last", "best", "seed"];
const MOST_COMPARED = 500;
const kept = {sort: "started", falling: true, words: "", metric: "", hidden: false, all: false};

export function show(root, {asked}) {
  if (asked.size) {
    const sort = asked.get("sort") ?? "started";
    Object.assign(kept, {sort: COLUMNS.some(([name]) => name === sort) ? sort : "started", falling: !asked.has("rising"), words: asked.get("q") ?? "", metric: asked.get("by") ?? "", hidden: asked.has("hidden")});
  }
  const lines = new Map(); // id: its <tr>
  let order = [], current = null;
  const search = el("input", {type: "search", placeholder: "Search: words, key=value, status", "aria-label": "Search runs", value: kept.words,
    oninput: () => { kept.words = search.value; arrange(); }});
  const metric = el("select", {"aria-label": "Quantity", onchange: () => { kept.metric = metric.value; rebuild(); }});
  const hidden = el("input", {type: "checkbox", checked: kept.hidden, onchange: () => { kept.hidden = hidden.checked; arrange(); }});
  const count = el("span", {class: "soft", "aria-live": "polite"});
  const chosen = el("span", {class: "chosen"});
  const every = el("input", {type: "checkbox", "aria-label": "Tick all that are shown", onchange: () => {
    for (const id of order) tick(id, every.checked);
    rebuild();
  }});
  const heads = COLUMNS.map(([name]) => {
    const head = el("th", {scope: "col", class: NUMBERS.includes(name) ? `number c-${name}` : `c-${name}`});
    head.append(el("button", {type: "button", onclick: () => {
      kept.falling = kept.sort === name ? !kept.falling : ["started", "progress"].includes(name);
      kept.sort = name;
      arrange();
    }}, name));
    return head;
  });
  const body = el("tbody");
  const more = el("button", {type: "button", hidden: true, onclick: () => { kept.all = true; arrange(); }}, "Show all");
  const nothing = el("p", {hidden: true}, "No run is here yet. Train one, and it appears by itself:");
  const example = el("div", {hidden: true}, copyable("python train.py experiment=adder_fast"));
  root.append(
    heading("Runs", count),
    el("div", {class: "bar"}, search, field("show", metric), el("label", {class: "check"}, hidden, "hidden ones"), chosen),
    nothing, example,
    el("div", {class: "wide runs", tabindex: "0", role: "region", "aria-label": "Runs"},
      el("table", {}, el("thead", {}, el("tr", {}, el("th", {scope: "col", class: "tick"}, every), heads)), body)),
    more,
  );

  function cells(row) {
    const name = metric.value;
    const box = el("input", {type: "checkbox", checked: ticked.has(row.id), "aria-label": `Tick ${row.name}`, onchange: () => {
      tick(row.id, box.checked);
      redraw(row.id);
      arrange();
    }});
    const part = row.steps ? Math.min(1, (row.step ?? 0) / row.steps) : 0;
    const fill = el("i");
    fill.style.width = `${100 * part}%`;
    const best = row.best[name];
    const shown = {
      run: [...(ticked.has(row.id) ? [swatch(row.id)] : []), el("a", {href: `#/run/${row.id}`, title: row.name}, breakable(row.job || row.name)), ...row.tags.map(tag => el("span", {class: "tag"}, tag))],
      status: el("span", {class: `status ${row.status}`}, status(row.status)),
      progress: row.step === null ? "–" : [el("span", {class: "progress", title: `${number(row.step)} of ${number(row.steps)}`}, fill), el("small", {}, `${number(row.step)}${row.steps ? ` / ${number(row.steps)}` : ""}`)],
      left: duration(row.left),
      last: number(row.values[name], name),
      best: best ? el("span", {title: `at step ${number(best[1])}`}, number(best[0], name)) : row.whole ? "–" : "…",
      differs: differing(row),
      sweep: row.sweep,
      seed: row.seed,
      started: row.started.slice(0, 16).replace("T", " "),
      note: note(row),
    };
    return [el("td", {class: "tick"}, box), ...COLUMNS.map(([column]) => el("td", {class: NUMBERS.includes(column) ? `number c-${column}` : `c-${column}`}, shown[column]))];
  }

  function differing(row) {
    const words = row.differs.map(pair => `${pair[0]}=${pair[1]}`);
    const shown = words.slice(0, 6).map(word => el("code", {}, word.length > 40 ? `${word.slice(0, 39)}…` : word));
    return el("span", {class: "words", title: words.join("\n")}, shown, words.length > 6 ? el("small", {}, `+${words.length - 6}`) : null);
  }

  function note(row) {
    const written = el("button", {type: "button", class: "note", "aria-label": `Note on ${row.name}`, onclick: () => write(row)}, row.note || "✎");
    const hide = el("button", {type: "button", class: "note", title: row.hidden ? "Show again" : "Hide",
      "aria-label": `${row.hidden ? "Show" : "Hide"} ${row.name}`, onclick: () => save(row, {hidden: !row.hidden})}, row.hidden ? "👁" : "✕");
    return [written, hide];
  }

  function write(row) {
    const line = lines.get(row.id);
    if (!line) return;
    const input = el("input", {value: row.note, maxlength: "2000", "aria-label": `Note on ${row.name}`});
    line.dataset.writing = "";
    line.lastElementChild.replaceChildren(input);
    input.focus();
    const end = async keep => {
      if (!("writing" in line.dataset)) return;
      delete line.dataset.writing;
      if (keep && input.value !== row.note) await save(row, {note: input.value});
      redraw(row.id);
      arrange();
      lines.get(row.id)?.focus();
    };
    input.addEventListener("keydown", event => {
      if (event.key === "Enter") end(true);
      if (event.key === "Escape") end(false);
      event.stopPropagation();
    });
    input.addEventListener("blur", () => end(true));
  }

  async function save(row, change) {
    try {
      await post(`/api/runs/${row.id}/note`, change);
    } catch (error) {
      alert(error.message);
    }
    await poll();
  }

  function redraw(id) {
    const row = runs.get(id);
    if (!row) {
      lines.delete(id);
      return;
    }
    let line = lines.get(id);
    if (!line) {
      line = el("tr", {tabindex: "-1", onfocus: () => point(id)});
      line.dataset.id = id;
      lines.set(id, line);
    }
    if (!("writing" in line.dataset)) line.replaceChildren(...cells(row));
    line.classList.toggle("hiddenrun", row.hidden);
  }

  function point(id) {
    lines.get(current)?.classList.remove("current");
    current = id;
    lines.get(id)?.classList.add("current");
  }

  // A word must be somewhere in what is said of a run; key=value is what differs, or what its name says, as a whole.
  function matches(row, words) {
    const pairs = [["seed", row.seed], ...row.differs].map(pair => pair.join("=").toLowerCase());
    const named = row.name.toLowerCase().split(/[,/_]/);
    const text = [row.name, row.status, status(row.status), row.model, row.dataset, row.note, ...row.tags, ...pairs].join(" ").toLowerCase();
    const is = (pair, word) => pair === word || pair.endsWith(`.${word}`);
    return words.every(word => (word.includes("=") ? [...pairs, ...named].some(pair => is(pair, word)) : text.includes(word)));
  }

  function keep() {
    const said = {q: kept.words, sort: kept.sort === "started" ? "" : kept.sort, rising: kept.falling ? "" : "1", by: kept.metric, hidden: kept.hidden ? "1" : ""};
    const words = new URLSearchParams(Object.entries(said).filter(([, value]) => value));
    history.replaceState(null, "", words.size ? `#/runs?${words}` : "#/runs");
  }

  function arrange() {
    const words = kept.words.toLowerCase().split(/\s+/).filter(Boolean);
    const all = [...runs.values()], [, value] = COLUMNS.find(([name]) => name === kept.sort);
    const fitting = all.filter(row => (kept.hidden || !row.hidden) && matches(row, words));
    fitting.sort((a, b) => compared(value(a, metric.value), value(b, metric.value), kept.falling) || compared(a.name, b.name, false));
    heads.forEach((head, n) => {
      if (COLUMNS[n][0] === kept.sort) head.setAttribute("aria-sort", kept.falling ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    order = fitting.map(row => row.id);
    const shown = kept.all ? order : order.slice(0, AT_FIRST);
    for (const id of shown) if (!lines.has(id)) redraw(id);
    const wanted = shown.map(id => lines.get(id));
    keep();
    // While somebody writes, rows stay where they are: what is moved loses its focus.
    if (!body.querySelector("[data-writing]") && (wanted.length !== body.rows.length || wanted.some((line, n) => line !== body.rows[n]))) {
      const focused = document.activeElement;
      body.replaceChildren(...wanted);
      if (focused && body.contains(focused)) focused.focus();
    }
    const stands = Object.entries(Object.groupBy(all, row => status(row.status))).map(([name, some]) => `${some.length} ${name}`);
    count.textContent = `${fitting.length === all.length ? all.length : `${fitting.length} of ${all.length}`}: ${stands.join(", ")}`;
    more.hidden = shown.length === order.length;
    more.textContent = `Show all ${order.length}`;
    nothing.hidden = example.hidden = all.length > 0;
    every.checked = order.length > 0 && order.every(id => ticked.has(id));
    const some = [...ticked].filter(id => runs.has(id)).length;
    chosen.replaceChildren(...(some ? [
      el("a", {class: "button", href: "#/curves"}, `Curves of ${some}`), some > MOST_COMPARED ? el("span", {class: "soft"}, `more than the ${MOST_COMPARED} that can be compared`) : el("a", {class: "button", href: "#/compare"}, `Compare ${some}`),
      el("button", {type: "button", onclick: () => { for (const id of [...ticked]) tick(id, false); rebuild(); }}, "Untick"),
    ] : []));
  }

  function fillMetrics() {
    const names = metrics([...runs.values()]);
    const wanted = names.includes(kept.metric) ? kept.metric : usualMetric([...runs.values()]);
    if (metric.options.length !== names.length || metric.value !== wanted) metric.replaceChildren(...names.map(name => option(name, name, name === wanted)));
    return wanted;
  }

  let drawnMetric = fillMetrics();
  function rebuild() {
    drawnMetric = fillMetrics();
    for (const id of lines.keys()) redraw(id);
    arrange();
  }

  arrange();
  return {
    update(changed) {
      if (fillMetrics() !== drawnMetric) rebuild();
      for (const id of changed) if (lines.has(id)) redraw(id);
      arrange();
    },
    key(event) {
      const shown = [...body.rows].map(line => line.dataset.id);
      const at = shown.indexOf(current);
      if (["j", "k", "ArrowDown", "ArrowUp"].includes(event.key)) {
        const next = shown[Math.max(0, Math.min(shown.length - 1, at + (["j", "ArrowDown"].includes(event.key) ? 1 : -1)))];
        lines.get(next)?.focus();
        return true;
      }
      if (at < 0) return false;
      if (event.key === "x") {
        tick(current, !ticked.has(current));
        redraw(current);
        arrange();
        return true;
      }
      if (event.key === "Enter" && event.target.matches("tbody tr")) location.hash = `#/run/${current}`;
      else if (event.key === "n") write(runs.get(current));
      else return false;
      return true;
    },
  };
}
