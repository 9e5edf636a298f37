"use strict";
const element = (id) => document.getElementById(id);
const say = (text) => { element("said").textContent = text; };
let picture = null, turn = 0; // answers that come for a picture of before are dropped

// The token stays in this page: it is neither stored nor in any address.
async function ask(path, fields) {
  const body = new FormData(), token = element("token").value;
  for (const [name, value] of fields) body.append(name, value);
  const reply = await fetch(path, { method: "POST", body, headers: token ? { Authorization: `Bearer ${token}` } : {} });
  const found = await reply.json().catch(() => ({ error: `The server answers ${reply.status}.` }));
  if (reply.status === 401) element("key").hidden = false;
  const lost = found.error ?? (found.results && found.results[0].error);
  if (lost) throw new Error(lost);
  return found;
}

async function guarded(words, work) {
  const mine = turn;
  say(words);
  try {
    const show = await work();
    if (mine === turn) { show(); say(""); }
  } catch (error) {
    if (mine === turn) say(error.message);
  }
}

function bars(id, probs) {
  element(id).replaceChildren(...Object.entries(probs).map(([name, value]) => {
    const row = document.createElement("tr"), head = document.createElement("th");
    const bar = document.createElement("td"), number = document.createElement("td"), meter = document.createElement("meter");
    head.textContent = name;
    head.scope = "row";
    meter.value = value;
    meter.setAttribute("aria-label", name);
    bar.append(meter);
    number.textContent = value.toFixed(3);
    row.append(head, bar, number);
    return row;
  }));
}

function take(file) {
  if (!file) return;
  picture = file;
  turn += 1;
  element("result").hidden = true;
  guarded("Scoring ...", async () => {
    const [found] = (await ask("score", [["images", file]])).results;
    return () => show(file, found);
  });
}

function show(file, found) {
  URL.revokeObjectURL(element("picture").src);
  element("picture").src = URL.createObjectURL(file);
  element("name").textContent = file.name;
  element("score").textContent = found.score.toFixed(2);
  element("level").textContent = found.level;
  element("note").textContent = found.note ?? "";
  bars("levels", found.probs);
  bars("options", {});
  element("answer").textContent = "";
  element("overlay").hidden = element("legend").hidden = true;
  element("result").hidden = false;
}

element("file").addEventListener("change", (event) => take(event.target.files[0]));
for (const name of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    element("drop").classList.toggle("over", name === "dragover");
    if (name === "drop") take(event.dataTransfer.files[0]);
  });
}
element("key").addEventListener("submit", (event) => {
  event.preventDefault();
  element("key").hidden = true;
  take(picture);
});
element("map").addEventListener("click", () => guarded("Looking where it is bad ...", async () => {
  const found = await ask("map", [["image", picture]]);
  return () => {
    element("overlay").src = found.overlay;
    element("overlay").hidden = element("legend").hidden = false;
  };
}));
element("asking").addEventListener("submit", (event) => {
  event.preventDefault();
  const choices = element("choices").value.split(",").map((one) => one.trim()).filter(Boolean);
  const fields = [["image", picture], ["question", element("question").value], ...choices.map((one) => ["choices", one])];
  guarded("Asking ...", async () => {
    const found = await ask("ask", fields);
    return () => {
      element("answer").textContent = found.answer;
      bars("options", found.probs ?? {});
    };
  });
});
