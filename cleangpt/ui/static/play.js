// The playground: a prompt for one model or two, the choices at each token, and a quiz of held-out problems.

import {el, field, get, heading, interval, option, percent, stream} from "./dom.js";
import {newest, runs, shownRuns} from "./state.js";

const RULES = [["temperature", "auto", {min: "0", step: "any"}], ["top_k", "", {min: "1"}], ["top_p", "", {min: "0", max: "1", step: "any"}], ["min_p", "", {min: "0", max: "1", step: "any"}], ["repetition_penalty", "1", {min: "0.01", max: "100", step: "any"}], ["max_new_tokens", "200", {min: "1"}], ["seed", "0", {min: "0"}]];
const ENDS = {end: "the model ended the text", length: "as many tokens as were asked for", stop: "a text to stop before"};
const kept = {prompt: "", rules: {}, two: false};

export async function show(root, {asked}) {
  const prompt = el("textarea", {rows: "3", "aria-label": "Prompt", placeholder: "A prompt, or a problem as 123+456. Empty: a new text, or a problem that was held out", value: asked.get("prompt") ?? kept.prompt});
  const inputs = Object.fromEntries(RULES.map(([name, usual, bounds]) => [name, el("input", {type: "number", ...bounds, placeholder: usual || "none", value: asked.get(name) ?? kept.rules[name] ?? (["max_new_tokens", "seed"].includes(name) ? usual : "")})]));
  const two = el("input", {type: "checkbox", checked: asked.has("other") || (kept.two && !asked.size), onchange: arrange});
  const go = el("button", {type: "submit", class: "main"}, "Write");
  const halt = el("button", {type: "button", hidden: true, onclick: () => panels.forEach(panel => panel.halt())}, "Stop");
  const first = newest();
  const panels = [panelOf(asked.get("run") ?? first?.id, asked.get("weights")), panelOf(asked.get("other") ?? first?.id, asked.get("other_weights"))];
  const sides = el("div", {class: "sides"});
  const form = el("form", {class: "prompt", onsubmit: event => { event.preventDefault(); write(); }}, prompt, el("div", {class: "bar"}, RULES.map(([name]) => field(name.replaceAll("_", " "), inputs[name]))), el("div", {class: "bar"}, go, halt, el("label", {class: "check"}, two, "two models side by side")));
  root.append(heading("Playground"), form, sides);
  if (!first) sides.append(el("p", {}, "No run is here yet."));

  function arrange() {
    kept.two = two.checked;
    if (!two.checked) panels[1].halt();
    sides.replaceChildren(...(first ? panels.slice(0, two.checked ? 2 : 1).map(panel => panel.box) : []));
    sides.classList.toggle("two", two.checked);
  }

  function rules() {
    const found = {};
    for (const [name] of RULES) if (inputs[name].value !== "") found[name] = Number(inputs[name].value);
    return found;
  }

  async function write() {
    kept.prompt = prompt.value;
    kept.rules = Object.fromEntries(RULES.map(([name]) => [name, inputs[name].value]));
    go.disabled = true;
    halt.hidden = false;
    const [one, other] = panels.map(panel => panel.chosen());
    const words = {run: one.run, weights: one.weights, ...(two.checked ? {other: other.run, other_weights: other.weights} : {}), prompt: prompt.value, ...rules()};
    history.replaceState(null, "", `#/play?${new URLSearchParams(Object.entries(words).filter(([, value]) => value !== "" && value !== null && value !== undefined))}`);
    await Promise.all(panels.slice(0, two.checked ? 2 : 1).map(panel => panel.write(prompt.value, rules())));
    go.disabled = false;
    halt.hidden = true;
  }

  prompt.addEventListener("keydown", event => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  arrange();
  await Promise.all(panels.map(panel => panel.fill()));
  return {
    update(changed) { panels.forEach(panel => panel.update(changed)); },
    close() { panels.forEach(panel => panel.halt()); },
  };
}

// One model: which, what it wrote, and how it does in a quiz.
function panelOf(wanted, label) {
  const run = el("select", {"aria-label": "Run", onchange: () => { wanted = run.value; label = null; fill(); }});
  const weights = el("select", {"aria-label": "Weights", onchange: () => { label = weights.value; again(); }});
  const said = el("div", {class: "said", "aria-live": "polite"}), told = el("p", {class: "soft"}), choice = el("div", {class: "choice"});
  const asking = el("button", {type: "button", onclick: quiz}, "Ask 10 held-out problems"), anew = el("button", {type: "button", hidden: true, onclick: again}, "Begin anew");
  const ceasing = el("button", {type: "button", hidden: true, onclick: () => halt()}, "Stop");
  const score = el("p", {class: "quizscore", role: "status"}), answers = el("ol", {class: "answers"});
  const test = el("section", {class: "quiz", hidden: true}, el("h2", {}, "Quiz"), el("div", {class: "bar"}, asking, ceasing, anew), score, answers);
  const box = el("section", {class: "panel"}, el("div", {class: "bar"}, field("run", run), field("weights", weights)), said, told, choice, test);
  let doing = null, count = {start: 0, right: 0}, listed = "", asked = "";

  function list() {
    const rows = shownRuns().sort((a, b) => (b.started > a.started) - (b.started < a.started));
    const now = rows.map(row => row.id + row.name).join();
    if (now === listed) return;
    listed = now;
    if (!rows.some(row => row.id === wanted) && runs.has(wanted)) rows.unshift(runs.get(wanted));
    run.replaceChildren(...rows.map(row => option(row.id, row.name, row.id === wanted)));
    if (run.value !== wanted) { // it is gone, and with it what it said
      [wanted, label] = [run.value, null];
      return true;
    }
  }

  let filling = null;
  function fill() {
    return filling = filled();
  }

  async function filled() {
    list();
    again();
    await renew();
  }

  async function renew() {
    if (!wanted) return;
    const mine = wanted;
    try {
      const there = (await get(`/api/runs/${wanted}`)).weights;
      if (mine !== wanted) return;
      if ([...weights.options].map(one => one.value).join() !== there.join() || weights.value !== label) {
        weights.replaceChildren(...there.map(name => option(name, name, name === label)));
        if (label && weights.value !== label) again(); // what was asked of them is no more
        label = weights.value || null;
      }
      if (!there.length) told.textContent = "This run has no weights yet: neither best/ nor final/ nor a snapshot.";
      else if (told.textContent.startsWith("This run has no weights")) told.textContent = "";
      test.hidden = !there.length || !("val/accuracy" in (runs.get(wanted)?.values ?? {}));
    } catch (error) {
      told.textContent = error.message;
    }
  }

  function again() {
    halt();
    count = {start: 0, right: 0};
    score.textContent = "";
    answers.replaceChildren();
    choice.replaceChildren();
    said.replaceChildren();
    told.textContent = "";
    anew.hidden = true;
  }

  function halt() {
    doing?.abort();
    doing = null;
  }

  // Do one thing at a time, and say what came of it.
  async function during(path, body, each) {
    halt();
    const mine = doing = new AbortController();
    told.className = "soft";
    told.textContent = "Opening the model …";
    try {
      for await (const line of stream(path, {run: wanted, weights: label, ...body}, mine.signal)) {
        if (line.kind === "error") throw new Error(line.why);
        if (line.kind === "model") {
          told.textContent = `${runs.get(wanted)?.name ?? ""}/${label}, ${line.state}`;
          test.hidden = !line.answers;
        }
        if (line.kind !== "opening") each(line);
      }
    } catch (error) {
      if (error.name !== "AbortError") {
        told.className = "error";
        told.textContent = error.message;
      }
    }
    if (doing === mine) doing = null;
  }

  async function write(prompt, rules) {
    await filling;
    said.replaceChildren();
    choice.replaceChildren();
    if (!label) return;
    await during("/api/speak", {prompt, rules}, line => {
      if (line.kind === "prompt") said.append(el("span", {class: "given", title: line.tokens.join(" ")}, line.text), line.asks ? " = " : "");
      else if (line.kind === "token") said.append(token(line));
      else if (line.kind === "ended") {
        if (line.verdict) said.append(verdict(line.verdict));
        told.textContent += ` · ended: ${ENDS[line.why] ?? "stopped"}${line.slid ? "; the text outgrew the context, and the model forgot all but the newest half of it" : ""}`;
      }
    });
  }

  function token(line) {
    const shown = el("button", {type: "button", class: "token", title: percent(line.share.before), onclick: () => {
      said.querySelector(".token.open")?.classList.remove("open");
      shown.classList.add("open");
      choice.replaceChildren(choices(line));
    }}, line.name === "<end>" ? "⟨end⟩" : line.name);
    shown.style.background = `color-mix(in srgb, ${line.share.before < 0.5 ? "#cf4444" : "#2a9d6f"} ${Math.round(60 * Math.abs(line.share.before - 0.5))}%, transparent)`;
    return shown;
  }

  async function quiz() {
    asking.disabled = true;
    ceasing.hidden = false;
    await filling;
    if (!label) return [asking.disabled, ceasing.hidden] = [false, true];
    during("/api/quiz", {...count, count: 10}, line => {
      if (line.kind === "model") {
        if (count.start && asked !== line.state) { // best/ was renewed by a training
          again();
          told.textContent = "The weights are newer ones now: the quiz begins anew.";
        }
        asked = line.state;
      }
      if (line.kind === "of" && count.start >= line.problems) told.textContent = `All ${line.problems} problems of ${line.split} were asked.`;
      if (line.kind !== "answer") return;
      count = {start: line.number, right: line.so_far};
      score.textContent = `${line.so_far} of ${line.number} right: ${percent(line.so_far / line.number, 1)}, 95% interval ${interval(line.interval, 1)}`;
      answers.prepend(el("li", {value: String(line.number)}, `${line.question} = `, verdict(line)));
      anew.hidden = false;
    }).finally(() => { [asking.disabled, ceasing.hidden] = [false, true]; });
  }

  return {box, fill, write, halt, chosen: () => ({run: wanted, weights: label}), update(changed) {
    if (list()) fill();
    else if (changed.has(wanted) && !doing) renew();
  }};
}

function verdict(found) {
  const digits = found.digits.map(([digit, right]) => el("span", {class: right ? "right" : "wrong"}, digit));
  return el("span", {class: "verdict"}, el("span", {class: "digits"}, digits), found.correct ? el("b", {class: "right"}, " ✓") : el("b", {class: "wrong"}, ` ✗ it is ${found.right}`));
}

function choices(line) {
  const list = (title, pairs) => el("div", {}, el("h3", {}, title), el("table", {class: "likeliest"}, el("tbody", {}, pairs.map(([name, share]) => {
    const bar = el("span", {class: "share"}, el("i"));
    bar.firstElementChild.style.width = `${100 * share}%`;
    return el("tr", {class: name === line.name ? "taken" : ""}, el("td", {}, el("code", {}, JSON.stringify(name))), el("td", {}, bar), el("td", {class: "number"}, percent(share)));
  }))));
  return el("div", {class: "both"}, list("As the model has it", line.likeliest.before), list("After the rules", line.likeliest.after));
}
