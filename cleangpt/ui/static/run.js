// One run: how it stands, what it was asked, what it says, and what became of it.

import {chartOf} from "./curves.js";
import {copyable, duration, el, failed, get, heading, number, post, status, table} from "./dom.js";
import {scored} from "./scores.js";
import {poll, runs, tick} from "./state.js";

const DRAWN = ["train/loss", "val/loss", "val/accuracy", "lr"];
const MOST_LOG = 200_000; // characters that are kept of a log
const MOST_SAMPLES = 200;

export async function show(root, {id}) {
  const row = runs.get(id);
  if (!row) throw new Error("This run is not there (any more).");
  let about = await get(`/api/runs/${id}`);
  const stands = el("span"), progress = el("p", {class: "soft"}), ended = el("p", {class: "error", hidden: true});
  const stop = el("button", {type: "button", onclick: end}, "Stop");
  const note = el("textarea", {rows: "2", maxlength: "2000", "aria-label": "Note", placeholder: "A note, kept in notes.json", value: row.note, onchange: () => save({note: note.value})});
  const tags = el("input", {"aria-label": "Tags", placeholder: "tags, with commas", value: row.tags.join(", "), onchange: () => save({tags: tags.value.split(",").map(word => word.trim()).filter(Boolean)})});
  const told = el("span", {class: "soft", role: "status"});
  const charts = el("div", {class: "charts"}), samples = el("div"), scores = el("div"), pictures = el("div", {class: "pictures"}), settings = el("div"), commands = el("div");
  const log = el("pre", {class: "log", tabindex: "0", "aria-label": "Log"});
  const parts = {samples: el("h2", {}, "Samples"), scores: el("h2", {}, "Scores"), log: el("h2", {}, "Log"), pictures: el("h2", {}, "Pictures")};
  root.append(
    heading(row.name, stands, el("a", {class: "button", href: "#/curves", onclick: () => tick(id, true)}, "Curves"), el("a", {class: "button", href: `#/play?run=${id}`}, "Playground"), stop),
    progress, ended, el("p", {class: "soft"}, el("code", {}, about.path)), charts,
    el("h2", {}, "Go on"), commands,
    parts.samples, samples, parts.scores, scores,
    el("h2", {}, "Configuration"), settings,
    parts.log, log, parts.pictures, pictures,
    el("h2", {}, "Note"), el("div", {class: "noted"}, note, tags, told),
  );
  const view = {x: "step", logx: false, logy: false, bands: false, smooth: 0};
  const drawn = [];
  function chart() {
    for (const key of DRAWN) {
      const isThere = key === "lr" ? runs.get(id).step : key in runs.get(id).values;
      if (isThere && !drawn.some(one => one.key === key)) drawn.push(chartOf(key, view, () => [id]));
    }
    charts.append(...drawn.map(one => one.box));
    for (const one of drawn) one.load();
  }

  async function end() {
    if (!confirm(`Stop ${row.name}? It saves a snapshot first, from which it can go on.`)) return;
    stop.disabled = true;
    try {
      await post(`/api/runs/${id}/stop`, {});
      stop.textContent = "Stopping …";
    } catch (error) {
      alert(error.message);
      stop.disabled = false;
    }
    poll();
  }

  async function save(change) {
    try {
      await post(`/api/runs/${id}/note`, change);
      told.textContent = "kept";
    } catch (error) {
      told.textContent = error.message;
    }
    poll();
  }

  function tell() {
    const now = runs.get(id);
    stands.replaceChildren(el("span", {class: `status ${now.status}`}, status(now.status)));
    stop.hidden = now.status !== "running";
    if (now.status !== "running") [stop.disabled, stop.textContent] = [false, "Stop"];
    const words = [now.step === null ? "no step yet" : `step ${number(now.step)}${now.steps ? ` of ${number(now.steps)}` : ""}`];
    if (now.left !== null) words.push(`${duration(now.left)} left`);
    if (now.speed) words.push(`${number(Math.round(now.speed))} tokens a second`);
    for (const name of ["val/loss", "val/accuracy", "test/accuracy"]) if (name in now.values) words.push(`${name} ${number(now.values[name], name)}`);
    progress.textContent = words.join(" · ");
    const why = about.summary.find(([name]) => name === "error");
    ended.hidden = !why;
    ended.textContent = why?.[1] ?? "";
  }

  function describe() {
    commands.replaceChildren(...about.commands.map(([what, words]) => el("div", {class: "go"}, el("span", {}, what), copyable(words))));
    const given = about.changed.map(([key, here, usual]) => [[el("code", {}, key), key], [here, here], [usual, usual]]);
    settings.replaceChildren(
      given.length ? table(["changed", "here", "by default"], given, {name: "What was changed"}) : el("p", {}, "Everything is as conf/ has it."),
      folded("All other keys", about.config), folded("Machine and versions", about.record), folded("Summary", about.summary));
    parts.pictures.hidden = !about.pictures.length;
    pictures.replaceChildren(...about.pictures.map((name, n) => el("figure", {}, el("img", {src: `/api/runs/${id}/picture/${n}`, alt: name, loading: "lazy"}), el("figcaption", {}, name))));
  }

  const folded = (title, pairs) => el("details", {}, el("summary", {}, title), table(["key", "value"], pairs.map(([key, value]) => [[el("code", {}, key), key], [number(value, key), value]]), {name: title}));

  async function fetchScores() {
    const found = await Promise.all(about.scores.map(async (name, n) => {
      try {
        return scored(name, await get(`/api/runs/${id}/score/${n}`), n === 0);
      } catch (error) {
        return failed(error);
      }
    }));
    parts.scores.hidden = !found.length;
    scores.replaceChildren(...found);
  }

  // ---- what grows

  const read = {log: undefined, samples: undefined};
  let answers = [];
  async function grow() {
    const [more, said] = await Promise.all([get(`/api/runs/${id}/log`, {from: read.log}), get(`/api/runs/${id}/samples`, {from: read.samples})]);
    const follows = log.scrollTop + log.clientHeight >= log.scrollHeight - 30;
    if (read.log === undefined || more.from !== read.log) log.textContent = "";
    if (more.text || more.from !== read.log) log.textContent = (log.textContent + more.text).slice(-MOST_LOG);
    if (follows) log.scrollTop = log.scrollHeight;
    parts.log.hidden = log.hidden = !log.textContent;
    if (read.samples === undefined || said.from !== read.samples) answers = [];
    if (said.rows.length || said.from !== read.samples) {
      answers = [...answers, ...said.rows].slice(-MOST_SAMPLES);
      samples.replaceChildren(sampled(answers));
    }
    parts.samples.hidden = samples.hidden = !answers.length;
    [read.log, read.samples] = [more.to, said.to];
  }

  tell();
  describe();
  await Promise.all([grow(), fetchScores()]);
  chart();
  const timer = setInterval(() => { if (!document.hidden && runs.get(id)?.status === "running") grow().catch(() => null); }, 2000);
  let before = row.status;
  return {
    async update(changed) {
      if (!changed.has(id)) return;
      if (!runs.has(id)) {
        [ended.hidden, ended.textContent, stop.hidden] = [false, "This run is not on the disk any more.", true];
        stands.replaceChildren();
        return;
      }
      tell();
      chart();
      grow().catch(() => null);
      if (runs.get(id).status !== before) {
        before = runs.get(id).status;
        about = await get(`/api/runs/${id}`);
        tell();
        describe();
        fetchScores();
      }
    },
    repaint() { drawn.forEach(chart => chart.paint()); },
    close() {
      clearInterval(timer);
      drawn.forEach(chart => chart.close());
    },
  };
}

function sampled(rows) {
  const answered = rows.some(row => "correct" in row);
  const shown = [...rows].reverse().map(row => answered
    ? [[number(row.step), row.step], [row.question ?? "", row.question], [row.given ?? "", row.given],
      [el("span", {class: row.correct ? "right" : "wrong"}, row.correct ? "✓" : `✗ ${row.right ?? ""}`), Number(Boolean(row.correct))]]
    : [[number(row.step), row.step], [el("span", {class: "text"}, `${row.prompt ?? ""}${row.text ?? ""}`), row.text]]);
  return table(answered ? ["step", "question", "answer", "right"] : ["step", "text"], shown, {name: "Samples", numeric: [true]});
}
