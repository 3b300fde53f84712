// The runs as the server last told of them, and which of them are ticked.

import {get} from "./dom.js";

const EVERY = 2000; // milliseconds
export const runs = new Map();
export const ticked = new Set(JSON.parse(sessionStorage.getItem("ticked") ?? "[]"));
let version = "", told = () => {}, timer = null;

export const COLOURS = ["#3b7fcc", "#d9701e", "#2a9d6f", "#b652a4", "#cf4444", "#7d6fd6", "#a08432", "#1f9fb5", "#dd7f9f", "#79838f"];

// A run keeps its colour as long as it is ticked, whatever comes and goes around it.
const places = new Map();
export function colour(id) {
  if (!places.has(id)) {
    const taken = new Set(places.values());
    let place = 0;
    while (taken.has(place)) place++;
    places.set(id, place);
  }
  return COLOURS[places.get(id) % COLOURS.length];
}

// Of more runs than there are colours, lines differ by their dashes too.
const DASHES = [["solid", "solid"], ["dash", "dashed"], ["dot", "dotted"], ["longdashdot", "double"]];
const dashes = id => (colour(id), DASHES[Math.floor(places.get(id) / COLOURS.length) % DASHES.length]);
export const dash = id => dashes(id)[0];

export function swatch(id) {
  const mark = document.createElement("i");
  mark.className = "shade";
  mark.style.borderTopColor = colour(id);
  mark.style.borderTopStyle = dashes(id)[1];
  return mark;
}

export function tick(id, on) {
  if (on) ticked.add(id);
  else {
    ticked.delete(id);
    places.delete(id);
  }
  sessionStorage.setItem("ticked", JSON.stringify([...ticked]));
}

export const shownRuns = () => [...runs.values()].filter(row => !row.hidden);

export function newest(rows = shownRuns()) {
  const running = rows.filter(row => row.status === "running");
  return [...(running.length ? running : rows)].sort((a, b) => (b.started > a.started) - (b.started < a.started))[0];
}

// The quantity that a table shows until somebody chooses another one.
export function usualMetric(rows) {
  for (const name of ["val/accuracy", "val/loss", "train/loss"]) if (rows.some(row => name in row.values)) return name;
  return "train/loss";
}

export function metrics(rows) {
  return [...new Set(rows.flatMap(row => Object.keys(row.values)))].sort();
}

export async function poll() {
  clearTimeout(timer);
  let heard = false;
  const state = document.getElementById("state");
  try {
    if (!document.hidden) {
      const found = await get("/api/runs", {since: version});
      if (found.all) runs.clear();
      for (const row of found.rows) runs.set(row.id, row);
      for (const id of found.gone) runs.delete(id);
      version = found.version;
      heard = true;
      state.textContent = "";
      state.className = "";
      if (found.all || found.rows.length || found.gone.length) told(new Set([...found.rows.map(row => row.id), ...found.gone]));
    }
  } catch (error) {
    state.textContent = error instanceof TypeError ? "no answer, trying again" : error.message;
    state.className = "error";
  }
  timer = setTimeout(poll, EVERY);
  return heard;
}

// Begin to follow, and wait until the runs are known for the first time.
export async function follow(changed) {
  told = changed;
  document.addEventListener("visibilitychange", () => { if (!document.hidden) poll(); });
  while (!(await poll())) await new Promise(resolve => setTimeout(resolve, EVERY));
}

// The runs that an address names, or else those that are ticked.
export function chosen(asked) {
  const given = (asked.get("ids") ?? "").split(",").filter(id => runs.has(id));
  return given.length ? given : [...ticked].filter(id => runs.has(id));
}
