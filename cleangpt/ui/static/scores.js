// A score as its JSON has it: the whole, by one property as bars, by two as a heat map with the numbers in it.

import {el, interval, number, percent, table} from "./dom.js";

export function scored(name, found, open = true) {
  return el("details", {class: "score", open}, el("summary", {}, el("strong", {}, name), ` ${headline(found)}`), ...body(found));
}

function headline(found) {
  if (typeof found.accuracy === "number") {
    const of = `${number(found.correct)} of ${number(found.problems)}${found.complete ? "" : ", a sample,"} right`;
    return `${found.split ?? ""}: ${percent(found.accuracy, 3)}, 95% interval ${interval(found.interval, 3)} (${of})`;
  }
  return found.split ?? "";
}

function body(found) {
  const parts = [], plain = [];
  for (const [key, value] of Object.entries(found)) {
    if (key.startsWith("by_") && Array.isArray(value) && value.length) parts.push(cut(key, value));
    else if (key === "wrong" && value.length) parts.push(wrong(value));
    else if (key === "sets") for (const [name, inner] of Object.entries(value)) parts.push(scored(`the set ${name}`, inner));
    else if (key === "first_errors") continue;
    else if (value !== null && typeof value === "object" && !Array.isArray(value) && typeof value.accuracy === "number") plain.push([key.replaceAll("_", " "), headline(value)]);
    else if (["number", "string"].includes(typeof value)) plain.push([key.replaceAll("_", " "), number(value, key)]);
  }
  if (found.first_errors) {
    const counts = Object.entries(found.first_errors).filter(([, count]) => count);
    if (counts.length) parts.push(el("section", {}, el("h3", {}, "Where wrong answers go wrong first"), table(["position", "problems"], counts.map(([place, count]) => [[place, place], [number(count), count]]), {numeric: [false, true], name: "First errors"})));
  }
  const facts = el("details", {}, el("summary", {}, "All numbers"), table(["", ""], plain.map(([key, value]) => [[key, key], [value, value]]), {name: "All numbers"}));
  return [el("div", {class: "cuts"}, parts.filter(part => part.tagName === "SECTION")), ...parts.filter(part => part.tagName !== "SECTION"), facts];
}

function wrong(rows) {
  const cells = rows.map(row => [[row.question, row.question], [row.right, row.right], [row.given, row.given]]);
  return el("section", {}, el("h3", {}, "The first wrong answers"), table(["question", "right", "given"], cells, {name: "Wrong answers"}));
}

function cut(key, rows) {
  const names = Object.keys(rows[0]), keys = names.slice(0, names.indexOf("problems"));
  const title = `By ${key.slice(3).replaceAll("_", " ")}`;
  return el("section", {}, el("h3", {}, title), keys.length === 2 ? heat(keys, rows, title) : bars(keys[0], rows, title));
}

function bars(key, rows, title) {
  const cells = rows.filter(row => row.problems).map(row => {
    const bar = el("span", {class: "share"}, el("i"));
    bar.firstElementChild.style.width = `${100 * row.accuracy}%`;
    return [[String(row[key]), row[key]], [bar, row.accuracy], [percent(row.accuracy), row.accuracy], [interval(row.interval), row.interval[0]], [number(row.problems), row.problems]];
  });
  return table([key, "", "right", "95% interval", "problems"], cells, {numeric: [true, false, true, true, true], name: title});
}

function heat([one, other], rows, title) {
  const values = key => [...new Set(rows.map(row => row[key]))].sort((a, b) => a - b);
  const across = values(one), down = values(other).reverse();
  const found = new Map(rows.map(row => [`${row[one]} ${row[other]}`, row]));
  const lines = down.map(y => el("tr", {}, el("th", {scope: "row"}, String(y)), across.map(x => {
    const row = found.get(`${x} ${y}`);
    if (!row?.problems) return el("td", {class: "empty"});
    const cell = el("td", {title: `${one} ${x}, ${other} ${y}: ${number(row.correct)} of ${number(row.problems)} right, ${interval(row.interval)}`}, rounded(row.accuracy, row.accuracy === 1 || across.length > 8 ? 0 : 1));
    cell.style.background = shade(row.accuracy);
    cell.style.color = row.accuracy > 0.55 ? "#10210f" : "#fff";
    return cell;
  })));
  return el("div", {class: "wide", tabindex: "0", role: "region", "aria-label": title},
    el("table", {class: "heat"}, el("tbody", {}, lines, el("tr", {}, el("th", {}, `${other} ↑ ${one} →`), across.map(x => el("th", {scope: "col"}, String(x)))))),
    el("small", {class: "soft"}, "Right answers in %."));
}

// In percent, and 100 only where all are right.
function rounded(share, digits) {
  const shown = (100 * share).toFixed(digits);
  return Number(shown) === 100 && share < 1 ? "99.9" : shown;
}

// From dark violet by green to yellow, by how much is right.
const STOPS = [[0, [68, 1, 84]], [0.25, [59, 82, 139]], [0.5, [33, 145, 140]], [0.75, [94, 201, 98]], [1, [253, 231, 37]]];
export function shade(value) {
  const place = Math.max(1, STOPS.findIndex(([at]) => at >= value));
  const [[low, from], [high, to]] = [STOPS[place - 1], STOPS[place]];
  const part = (value - low) / (high - low);
  return `rgb(${from.map((part0, n) => Math.round(part0 + part * (to[n] - part0))).join(" ")})`;
}
