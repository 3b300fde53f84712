// Which page is shown: its name and what it shows stand behind the # of the address, so that it can be kept and sent.

import {failed} from "./dom.js";
import {follow} from "./state.js";

const PAGES = {
  runs: () => import("./runs.js"),
  curves: () => import("./curves.js"),
  run: () => import("./run.js"),
  compare: () => import("./compare.js"),
  play: () => import("./play.js"),
};
const main = document.getElementById("main");
let page = null, showing = 0;

function where() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, id] = path.split("/");
  return {name: Object.hasOwn(PAGES, name) ? name : "runs", id, asked: new URLSearchParams(query ?? "")};
}

async function show() {
  const mine = ++showing;
  page?.close?.();
  page = null;
  const {name, id, asked} = where();
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.page === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  try {
    const module = await PAGES[name]();
    if (mine !== showing) return;
    main.replaceChildren();
    main.dataset.page = name;
    const made = await module.show(main, {id, asked});
    if (mine === showing) page = made;
    else made?.close?.();
  } catch (error) {
    if (mine === showing) main.replaceChildren(failed(error));
  }
}

// ---- light and dark

const THEMES = ["", "light", "dark"];
let theme = localStorage.getItem("theme") ?? "";
function paint() {
  document.documentElement.dataset.theme = theme;
  document.getElementById("theme").title = `Colours: ${theme || "as the system has them"}`;
}
document.getElementById("theme").addEventListener("click", () => {
  theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
  localStorage.setItem("theme", theme);
  paint();
  page?.repaint?.();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => page?.repaint?.());

// ---- keys

const help = document.getElementById("help");
document.getElementById("keys").addEventListener("click", () => help.showModal());
const GO = {r: "runs", c: "curves", m: "compare", p: "play"};
document.addEventListener("keydown", event => {
  const {target, key} = event;
  if (event.ctrlKey || event.metaKey || event.altKey || help.open) return;
  if (target.closest("input:not([type=checkbox]), textarea, select, [contenteditable]")) {
    if (key === "Escape") {
      event.preventDefault(); // which would empty a search, and tell nobody
      target.blur();
    }
    return;
  }
  if (key === "?") help.showModal();
  else if (key === "/" && main.querySelector("[type=search]")) main.querySelector("[type=search]").focus();
  else if (key in GO) location.hash = `#/${GO[key]}`;
  else if (!page?.key?.(event)) return;
  event.preventDefault();
});

paint();
addEventListener("hashchange", show);
await follow(changed => page?.update?.(changed));
await show();
