"use strict";
// Labels by keyboard: the most doubtful image first, one key each, or one key for all that look alike.
// All text from the station is set as text, never as markup.
const at = (id) => document.getElementById(id);
let labels = [];
let all = [];
let queue = [];
let now = 0;
let groups = new Map();
let left = new Set();
const given = [];
// Only what is in sight is labelled together; a larger group comes again.
const IN_SIGHT = 24;

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
  at("known").hidden = true;
  left = new Set();
  drawGroup(one);
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
  if (one.label) fact("labelled", `${one.label}, by ${one.who}${one.why ? `: ${one.why}` : ""}`);
  const { neighbours } = await asked(`${one.id}/neighbours`);
  if (queue[now] !== one) return;
  at("known").hidden = neighbours.length === 0;
  at("neighbours").replaceChildren(...neighbours.map(({ id, label, likeness }) => {
    const figure = document.createElement("figure");
    const caption = document.createElement("figcaption");
    caption.textContent = `${label}, ${Math.round(100 * Math.max(likeness, 0))} % alike`;
    figure.append(picture(id, `Labelled ${label}`), caption);
    return figure;
  }));
}

function picture(id, words) {
  const image = document.createElement("img");
  image.alt = words;
  image.loading = "lazy";
  image.onerror = () => { image.onerror = null; image.src = `${id}/frame.png`; };
  image.src = `${id}/view.png`;
  return image;
}

// The images without a label that look like this one, itself among them; of one alone, none.
function alike(one) {
  if (!one || one.label !== null) return [];
  const open = (groups.get(one.id) || []).filter((other) => other.label === null && other !== one);
  return open.length ? [one, ...open].slice(0, IN_SIGHT) : [];
}

function drawGroup(one) {
  const found = alike(one);
  const chosen = found.filter((other) => !left.has(other.id));
  at("alike").hidden = found.length === 0;
  at("alike-title").textContent = `${found.length} images look alike: ${chosen.length} chosen`;
  at("group").replaceChildren(...found.map((other) => {
    const button = document.createElement("button");
    const words = document.createElement("span");
    words.textContent = other === one ? "this one" : other.said;
    button.append(picture(other.id, ""), words);
    button.setAttribute("aria-pressed", String(!left.has(other.id)));
    button.disabled = other === one;
    button.onclick = () => {
      if (!left.delete(other.id)) left.add(other.id);
      drawGroup(one);
    };
    return button;
  }));
}

function isTogether() {
  return at("together").getAttribute("aria-pressed") === "true";
}

function switchTogether() {
  at("together").setAttribute("aria-pressed", String(!isTogether()));
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
  const group = isTogether() ? alike(one).filter((other) => !left.has(other.id)) : [];
  const chosen = group.length ? group : [one];
  const before = chosen.map((other) => ({ id: other.id, label: other.label, why: other.why }));
  try {
    const ids = chosen.map((other) => other.id);
    take(await post("label", { ids, label, who: at("who").value, why: at("why").value.trim() }));
    given.push({ one, before });
    at("undo").disabled = false;
    at("why").value = "";
    go(1, at("filter").value === "open" ? (other) => other.label === null : () => true);
  } catch (error) { failed(error); }
}

function take(answer) {
  const rows = new Map(answer.rows.map((row) => [row.id, row]));
  for (const one of all) Object.assign(one, rows.get(one.id));
  at("error").hidden = true;
  if (answer.labels) labels = answer.labels;
}

async function undo() {
  const last = given.pop();
  if (!last) return;
  const { one, before } = last;
  try {
    take(await post("undo", { before, who: at("who").value }));
    if (!queue.includes(one)) queue.push(one);
    now = queue.indexOf(one);
    show().catch(failed);
  } catch (error) {
    given.push(last);
    failed(error);
  }
}

function go(step, wanted = () => true) {
  now += step;
  while (now < queue.length && now > 0 && !wanted(queue[now])) now += step;
  now = Math.min(Math.max(now, 0), queue.length);
  show().catch(failed);
}

document.addEventListener("keydown", (event) => {
  if (event.target.matches("input, select") || event.ctrlKey || event.altKey || event.metaKey) return;
  const chosen = labels.find(({ key }) => key && key === event.key.toLowerCase());
  if (chosen) give(chosen.label);
  else if (event.key === "z") undo();
  else if (event.key === "ArrowRight" || event.key === "j") go(1);
  else if (event.key === "ArrowLeft" || event.key === "k") go(-1);
  else if (event.key === "Enter" && !event.target.matches("button")) switchTogether();
  else if (event.key === " " && !event.target.matches("button")) at("pictures").classList.toggle("large");
  else return;
  event.preventDefault();
});
at("undo").onclick = undo;
at("together").onclick = switchTogether;
at("why").onkeydown = (event) => { if (event.key === "Enter") at("why").blur(); };
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
  return asked("groups");
}).then((answer) => {
  const byId = new Map(all.map((one) => [one.id, one]));
  for (const ids of answer.groups) {
    const group = ids.map((id) => byId.get(id)).filter(Boolean);
    for (const one of group) groups.set(one.id, group);
  }
  drawGroup(queue[now]);
}).catch(failed);
