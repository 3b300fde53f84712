// Elements, numbers and requests. Text of a run only ever becomes text: nothing here parses HTML.

export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "class") made.className = value;
    else if (["value", "checked", "disabled", "hidden", "open", "htmlFor"].includes(name)) made[name] = value;
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat().filter(child => child !== null && child !== undefined));
  return made;
}

export function option(value, text = value, selected = false) {
  const made = el("option", {value}, text);
  made.selected = selected;
  return made;
}

export function field(label, input) {
  return el("label", {class: "field"}, el("span", {}, label), input);
}

// A long name, which may be broken behind its signs.
export function breakable(text) {
  return text.split(/(?<=[_,=/])/).flatMap((part, n) => (n ? [el("wbr"), part] : [part]));
}

// ---- what people read

const SHARE = /accuracy|pass@/;
export const isShare = name => SHARE.test(name);

export function number(value, name = "") {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
  if (isShare(name)) return `${(100 * value).toFixed(2)}%`;
  if (Number.isInteger(value)) return value.toLocaleString("en");
  return Math.abs(value) >= 1e5 || (value !== 0 && Math.abs(value) < 1e-4) ? value.toExponential(3) : value.toPrecision(5);
}

export const percent = (value, digits = 2) => `${(100 * value).toFixed(digits)}%`;

export function interval([low, high], digits = 2) {
  return `${(100 * low).toFixed(digits)} to ${percent(high, digits)}`;
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "";
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole}s`;
  if (whole < 3600) return `${Math.floor(whole / 60)}m ${whole % 60}s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)}h ${Math.floor((whole % 3600) / 60)}m`;
  return `${Math.floor(whole / 86400)}d ${Math.floor((whole % 86400) / 3600)}h`;
}

export const status = word => word.replaceAll("_", " ");

// ---- requests

export class Refused extends Error {}

export async function get(path, parameters = {}, signal = undefined) {
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== null && value !== undefined));
  return read(await fetch(`${path}?${query}`, {signal}));
}

export async function post(path, body, signal = undefined) {
  return read(await send(path, body, signal));
}

function send(path, body, signal) {
  return fetch(path, {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(body), signal});
}

async function read(response) {
  const found = await response.json().catch(() => null);
  if (!response.ok) throw new Refused(found?.error?.message ?? `the server said ${response.status}`);
  return found;
}

// Lines of JSON, each as it comes.
export async function* stream(path, body, signal) {
  const response = await send(path, body, signal);
  if (!response.ok) await read(response);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const {done, value} = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) if (line) yield JSON.parse(line);
  }
}

// ---- pieces that several pages have

export function heading(text, ...more) {
  return el("div", {class: "heading"}, el("h1", {}, text), ...more);
}

export function copyable(text) {
  const button = el("button", {type: "button", class: "small", onclick: async () => {
    await navigator.clipboard?.writeText(text).catch(() => null);
    button.textContent = "copied";
    setTimeout(() => { button.textContent = "copy"; }, 1500);
  }}, "copy");
  return el("div", {class: "command"}, el("code", {}, text), button);
}

export function failed(error) {
  return el("p", {class: "error", role: "alert"}, error.message);
}

// A table whose headings sort it. Cells are [text or element, value to sort by].
export function table(titles, rows, {numeric = [], name = "", mark = () => ""} = {}) {
  const body = el("tbody");
  const shown = rows.map((cells, number) => {
    const row = el("tr", {class: mark(number)}, cells.map(([text], n) => el("td", {class: numeric[n] ? "number" : ""}, text)));
    return {row, values: cells.map(([, value]) => value)};
  });
  body.append(...shown.map(one => one.row));
  const heads = titles.map((title, n) => {
    const head = el("th", {scope: "col", class: numeric[n] ? "number" : ""});
    head.append(el("button", {type: "button", onclick: () => {
      const falling = head.getAttribute("aria-sort") === "ascending";
      heads.forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", falling ? "descending" : "ascending");
      shown.sort((a, b) => compared(a.values[n], b.values[n], falling));
      body.replaceChildren(...shown.map(one => one.row));
    }}, title));
    return head;
  });
  return el("div", {class: "wide", tabindex: "0", role: "region", "aria-label": name},
    el("table", {}, el("thead", {}, el("tr", {}, heads)), body));
}

// What is not known comes last, either way.
export function compared(a, b, falling) {
  const none = value => value === null || value === undefined || value === "";
  if (none(a) || none(b)) return none(a) - none(b);
  const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", {numeric: true});
  return falling ? -order : order;
}
