"use strict";
// Labels by keyboard: the most doubtful image first, one key each. All text from the station is set
// as text, never as markup.
const at = (id) => document.getElementById(id);
let labels = [];
let all = [];
let queue = [];
let now = 0;
const given = [];

async function asked(path, options) {
  const response = await fetch(path, options);
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

function failed(error) {
  at("error").textContent = error.message || "The review server has ended.";
  at("error").hidden = false;
}

function choose() {
  const filter = at("filter").value;
  const said = at("said").value;
  queue = all.filter((one) =>
    (filter === "all" || (filter === "done") === (one.label !== null)) && (!said || one.said === said));
  now = 0;
  show();
}

function fact(name, value) {
  const term = document.createElement("dt");
  const text = document.createElement("dd");
  term.textContent = name;
  text.textContent = value;
  at("facts").append(term, text);
}

async function show() {
  const one = queue[now];
  const done = all.filter((other) => other.label !== null).length;
  at("progress").textContent = `${done} of ${all.length} labelled, ${queue.length ? now + 1 : 0} of ${queue.length} here`;
  at("empty").hidden = Boolean(one);
  at("pictures").hidden = !one;
  document.querySelector("aside").hidden = !one;
  if (!one) return;
  for (const name of ["frame", "view", "heat"]) {
    const image = at(name);
    image.parentElement.hidden = false;
    image.onerror = () => { image.parentElement.hidden = true; };
    image.src = `${one.id}/${name}.png`;
  }
  at("verdict").textContent = `The station said: ${one.said}`;
  at("facts").replaceChildren();
  drawChoices(one);
  const verdict = await asked(`${one.id}/verdict`);
  if (queue[now] !== one) return;
  at("facts").replaceChildren();
  fact("disposition", verdict.disposition);
  if (verdict.reason !== "decided") fact("reason", `${verdict.reason} ${verdict.detail || ""}`);
  fact("time", one.time);
  fact("camera, die", `${verdict.camera}, ${verdict.die}`);
  if (verdict.part_id) fact("part", verdict.part_id);
  const shares = Object.entries(verdict.probabilities || {}).sort((a, b) => b[1] - a[1]).slice(0, 3);
  for (const [name, share] of shares) fact(name, `${(100 * share).toFixed(1)} %`);
  if (verdict.drift) fact("drift", `p = ${verdict.drift.p_value.toPrecision(2)}`);
  if (one.label) fact("labelled", `${one.label}, by ${one.who}`);
}

function drawChoices(one) {
  at("choices").replaceChildren(...labels.map(({ label, key }) => {
    const button = document.createElement("button");
    const cap = document.createElement("kbd");
    cap.textContent = key || "·";
    button.append(cap, ` ${label}`);
    button.setAttribute("aria-pressed", String(one.label === label));
    button.onclick = () => give(label);
    return button;
  }));
  at("undo").disabled = given.length === 0;
}

async function post(path, document) {
  return asked(path, {
    method: "POST",
    headers: {"Content-Type": "application/json"},
    body: JSON.stringify(document),
  });
}

async function give(label) {
  const one = queue[now];
  if (!one) return;
  const before = one.label;
  try {
    const answer = await post("label", { id: one.id, label, who: at("who").value });
    take(one, answer);
    given.push({ one, before });
    at("undo").disabled = false;
    go(1);
  } catch (error) { failed(error); }
}

function take(one, answer) {
  one.label = answer.label;
  one.who = answer.who;
  at("error").hidden = true;
  if (answer.labels) labels = answer.labels;
}

async function undo() {
  const last = given.pop();
  if (!last) return;
  const { one, before } = last;
  try {
    take(one, await post("undo", { id: one.id, before, who: at("who").value }));
    if (!queue.includes(one)) queue.push(one);
    now = queue.indexOf(one);
    show().catch(failed);
  } catch (error) {
    given.push(last);
    failed(error);
  }
}

function go(step) {
  now = Math.min(Math.max(now + step, 0), queue.length);
  show().catch(failed);
}

document.addEventListener("keydown", (event) => {
  if (event.target.matches("input, select") || event.ctrlKey || event.altKey || event.metaKey) return;
  const chosen = labels.find(({ key }) => key && key === event.key.toLowerCase());
  if (chosen) give(chosen.label);
  else if (event.key === "z") undo();
  else if (event.key === "ArrowRight" || event.key === "j") go(1);
  else if (event.key === "ArrowLeft" || event.key === "k") go(-1);
  else if (event.key === " ") at("pictures").classList.toggle("large");
  else return;
  event.preventDefault();
});
at("undo").onclick = undo;
at("filter").onchange = choose;
at("said").onchange = choose;
at("new").onsubmit = (event) => {
  event.preventDefault();
  const label = at("new-label").value.trim();
  if (label) give(label);
  at("new-label").value = "";
  at("new-label").blur();
};

asked("exhibits").then((answer) => {
  labels = answer.labels;
  all = answer.exhibits;
  at("who").value = answer.who;
  for (const said of [...new Set(all.map((one) => one.said))].sort()) {
    const option = document.createElement("option");
    option.value = option.textContent = said;
    at("said").append(option);
  }
  choose();
}).catch(failed);
