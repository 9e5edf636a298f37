"use strict";
// The rows come as arrays: [name, link, score, level, probabilities, thumbnail, why there is none, note].
const data = JSON.parse(document.getElementById("data").textContent);
const NAME = 0, LINK = 1, SCORE = 2, LEVEL = 3, PROBS = 4, THUMB = 5, REASON = 6, NOTE = 7;
const BINS = 32, LOW = 1, HIGH = 5, AROUND = 6; // rows that are drawn above and below what is seen
const element = (id) => document.getElementById(id);
const list = element("list");

const ENDS = [[184, 72, 14], [226, 150, 92], [158, 163, 168], [110, 165, 216], [28, 104, 184]]; // orange is bad, blue is good
function colour(share) {
  const place = Math.min(Math.max(share, 0), 1) * (ENDS.length - 1), below = Math.min(Math.floor(place), ENDS.length - 2);
  const mixed = ENDS[below].map((value, i) => Math.round(value + (ENDS[below + 1][i] - value) * (place - below)));
  return `rgb(${mixed.join(", ")})`;
}
const levelColour = (index) => colour(data.levels.length > 1 ? index / (data.levels.length - 1) : 0.5);

function make(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

// ---- what is shown

const chosen = new Set(data.levels.map((_, i) => i));
let shown = [];

function folderOf(name) {
  return name.includes("/") ? name.slice(0, name.lastIndexOf("/")) : "";
}

function fits(row) {
  const folder = element("folder").value, text = element("text").value.trim().toLowerCase();
  const inside = !folder || folderOf(row[NAME]) === folder || folderOf(row[NAME]).startsWith(folder + "/");
  return chosen.has(row[LEVEL]) && inside && row[NAME].toLowerCase().includes(text);
}

// A score that is no number comes as null, and is the worst.
const worth = (row) => row[SCORE] ?? -Infinity;
const byName = (a, b) => (a[NAME] < b[NAME] ? -1 : a[NAME] > b[NAME] ? 1 : 0);
const byWorth = (a, b) => (worth(a) < worth(b) ? -1 : worth(a) > worth(b) ? 1 : byName(a, b));
const ORDERS = { worst: byWorth, best: (a, b) => byWorth(b, a), name: byName };

function update() {
  shown = data.rows.filter(fits).sort(ORDERS[element("order").value]);
  const numbers = shown.map((row) => row[SCORE]).filter((score) => score !== null);
  const [total, low, high] = numbers.reduce(([sum, low, high], score) => [sum + score, Math.min(low, score), Math.max(high, score)], [0, Infinity, -Infinity]);
  const count = shown.length === data.rows.length ? `${shown.length} pictures` : `${shown.length} of ${data.rows.length} pictures`;
  const ends = numbers.length ? `: mean ${(total / numbers.length).toFixed(2)}, ${low.toFixed(2)} to ${high.toFixed(2)}` : "";
  element("summary").textContent = count + ends;
  element("nothing").hidden = shown.length > 0;
  histogram(numbers);
  redraw();
}

// What a person changed is seen from its beginning.
function changed() {
  update();
  if (list.getBoundingClientRect().top < 0) list.scrollIntoView();
  draw();
}

// ---- the histogram

function histogram(scores) {
  const counts = new Array(BINS).fill(0);
  for (const score of scores) counts[Math.min(Math.max(Math.floor((score - LOW) / (HIGH - LOW) * BINS), 0), BINS - 1)]++;
  const width = 640, height = 190, base = 158, top = Math.max(1, ...counts), step = width / BINS;
  const svg = svgNode("svg", { viewBox: `-12 0 ${width + 24} ${height}`, role: "img" });
  svg.setAttribute("aria-label", `Histogram of ${scores.length} scores; at most ${top} in one of ${BINS} steps`);
  svg.append(svgNode("line", { x1: 0, x2: width, y1: base, y2: base }));
  counts.forEach((count, i) => {
    const tall = count ? Math.max(2, count / top * (base - 20)) : 0;
    const bar = svgNode("rect", { x: i * step + 1, y: base - tall, width: step - 2, height: tall, fill: colour((i + 0.5) / BINS) });
    const from = LOW + i * (HIGH - LOW) / BINS;
    bar.append(svgNode("title", {}, `${count} from ${from.toFixed(2)} to ${(from + (HIGH - LOW) / BINS).toFixed(2)}`));
    svg.append(bar);
  });
  for (let score = LOW; score <= HIGH; score++) {
    const x = (score - LOW) / (HIGH - LOW) * width;
    svg.append(svgNode("text", { x, y: base + 24, "text-anchor": "middle" }, String(score)));
  }
  svg.append(svgNode("text", { x: 0, y: 16 }, `${top}`));
  element("histogram").replaceChildren(svg);
}

function svgNode(name, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

// ---- the rows: only those near what is seen are in the page

const drawn = new Map();

function height() {
  return Number(getComputedStyle(document.documentElement).getPropertyValue("--row"));
}

function redraw() {
  for (const node of drawn.values()) node.remove();
  drawn.clear();
  list.style.height = `${shown.length * height()}px`;
  draw();
}

function draw() {
  const row = height(), above = -list.getBoundingClientRect().top;
  const first = Math.max(0, Math.floor(above / row) - AROUND);
  const last = Math.min(shown.length, Math.ceil((above + window.innerHeight) / row) + AROUND);
  for (const [place, node] of drawn) {
    if (place < first || place >= last) {
      node.remove();
      drawn.delete(place);
    }
  }
  for (let place = first; place < last; place++) {
    if (!drawn.has(place)) {
      const node = drawRow(shown[place], place);
      node.style.transform = `translateY(${place * row}px)`;
      drawn.set(place, node);
      list.append(node);
    }
  }
}

function drawRow(row, place) {
  const node = make("div", "row");
  node.setAttribute("role", "listitem");
  node.setAttribute("aria-setsize", shown.length);
  node.setAttribute("aria-posinset", place + 1);
  const picture = make("div", "picture");
  if (row[THUMB]) {
    const image = make("img");
    image.src = row[THUMB];
    image.alt = "";
    picture.append(image);
  } else {
    picture.append(make("div", "lost", row[REASON]));
  }
  const words = make("div", "words"), name = make(row[LINK] ? "a" : "span", "name", row[NAME]);
  if (row[LINK]) name.href = row[LINK];
  name.title = row[NAME];
  words.append(name);
  if (row[NOTE]) {
    const note = make("div", "note", row[NOTE]);
    note.title = row[NOTE];
    words.append(note);
  }
  const levels = make("div", "levels");
  levels.append(bar(row[PROBS]), make("div", "level", data.levels[row[LEVEL]]));
  node.append(picture, words, levels, make("div", "score", row[SCORE] === null ? "none" : row[SCORE].toFixed(2)));
  return node;
}

function bar(probs) {
  const made = make("div", "bar"), said = [];
  probs.forEach((share, i) => {
    const part = make("span");
    part.style.width = `${100 * (share ?? 0)}%`;
    part.style.background = levelColour(i);
    said.push(`${data.levels[i]} ${(100 * (share ?? 0)).toFixed(0)} %`);
    made.append(part);
  });
  made.title = said.join(", ");
  made.setAttribute("role", "img");
  made.setAttribute("aria-label", made.title);
  return made;
}

// ---- the filters

function counts(keys) {
  const found = new Map();
  for (const key of keys) found.set(key, (found.get(key) ?? 0) + 1);
  return found;
}

function ancestors(folder) {
  const parts = folder ? folder.split("/") : [];
  return parts.map((_, i) => parts.slice(0, i + 1).join("/"));
}

function levelButton(name, index, count) {
  const button = make("button", "", `${name} ${count}`);
  button.type = "button";
  button.style.setProperty("--colour", levelColour(index));
  const press = () => button.setAttribute("aria-pressed", chosen.has(index));
  button.addEventListener("click", () => {
    if (!chosen.delete(index)) chosen.add(index);
    press();
    changed();
  });
  press();
  return button;
}

function setUp() {
  const perLevel = counts(data.rows.map((row) => row[LEVEL]));
  element("levels").replaceChildren(...data.levels.map((name, i) => levelButton(name, i, perLevel.get(i) ?? 0)));
  const perFolder = [...counts(data.rows.flatMap((row) => ancestors(folderOf(row[NAME]))))].sort((a, b) => (a[0] < b[0] ? -1 : 1));
  element("folders").hidden = perFolder.length === 0;
  const all = make("option", "", `all (${data.rows.length})`);
  all.value = "";
  element("folder").replaceChildren(all, ...perFolder.map(([folder, count]) => {
    const option = make("option", "", `${folder} (${count})`);
    option.value = folder;
    return option;
  }));
}

function reset() {
  element("filters").reset();
  data.levels.forEach((_, i) => chosen.add(i));
  setUp();
  update();
}

for (const id of ["folder", "order"]) element(id).addEventListener("change", changed);
element("text").addEventListener("input", changed);
element("filters").addEventListener("submit", (event) => event.preventDefault());
element("all").addEventListener("click", reset);
let waiting = false;
window.addEventListener("scroll", () => {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; draw(); });
}, { passive: true });
window.addEventListener("resize", redraw);
reset();
