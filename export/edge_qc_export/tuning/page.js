"use strict";
// Sliders to figures. The server decides every part again for each move; of moves that come faster
// than its answers, only the last is asked for. All text is set as text, never as markup.
const at = (id) => document.getElementById(id);
const STEPS = 400;
let start = null;
let asking = false;
let again = false;

async function asked(path, document) {
  const response = await fetch(path, document && {
    method: "POST",
    headers: {"Content-Type": "application/json"},
    body: JSON.stringify(document),
  });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

function failed(error) {
  at("error").textContent = error.message || "The tuning server has ended.";
  at("error").hidden = false;
}

function text(name, words, kind) {
  const element = document.createElement(name);
  element.textContent = words;
  if (kind) element.className = kind;
  return element;
}

function percent(share) {
  const value = 100 * share;
  return `${value < 0.095 ? value.toPrecision(1) : value < 9.95 ? value.toPrecision(2) : value.toFixed(1)} %`;
}

function money(cost) {
  return cost === null ? "–" : Number(cost.toPrecision(3)).toLocaleString("en");
}

// Every slider is a logarithm: of the share that may pass, of the share that is not GOOD, of how many
// times the bundle's cost.
function between(low, high, value) {
  return STEPS * Math.log(value / low) / Math.log(high / low);
}

function along(low, high, place) {
  return low * Math.exp(Math.log(high / low) * place / STEPS);
}

const SLIDERS = {
  max_escape: { own: () => start.own.max_escape, range: () => start.ranges.max_escape, words: percent },
  escape: { own: () => 1, range: times, words: (of) => costs("escape", of) },
  overkill: { own: () => 1, range: times, words: (of) => costs("overkill", of) },
  confusion: { own: () => 1, range: times, words: (of) => costs("confusion", of) },
  // To the right is more GOOD.
  good: { own: () => 1 - start.own.good, range: () => [...start.ranges.bad].reverse(), words: (bad) => percent(1 - bad) },
};

function times() {
  return [1 / start.ranges.times, start.ranges.times];
}

function costs(name, of) {
  if (!(name in start.costs)) return "–";
  return Math.abs(of - 1) < 0.005 ? money(start.costs[name]) : `${money(start.costs[name] * of)} (× ${of.toPrecision(2)})`;
}

function value(name) {
  const slider = SLIDERS[name];
  // The bundle's own value stays exactly what it is.
  const own = slider.own();
  return at(name).value === at(name).dataset.own ? own : along(...slider.range(), Number(at(name).value));
}

function setting() {
  const found = Object.fromEntries(Object.keys(SLIDERS).map((name) => [name, value(name)]));
  return { ...found, good: 1 - found.good };
}

function reset() {
  for (const [name, slider] of Object.entries(SLIDERS)) {
    Object.assign(at(name), { min: 0, max: STEPS, step: 1 });
    at(name).value = Math.round(between(...slider.range(), slider.own()));
    at(name).dataset.own = at(name).value;
  }
  move();
}

async function move() {
  for (const [name, slider] of Object.entries(SLIDERS)) {
    const words = slider.words(value(name));
    at(`${name}-is`).textContent = words;
    at(name).setAttribute("aria-valuetext", words);
  }
  at("saved").textContent = "";
  if (asking) { again = true; return; }
  asking = true;
  try {
    show(await asked("move", setting()));
    at("error").hidden = true;
  } catch (error) { failed(error); }
  asking = false;
  if (again) { again = false; move(); }
}

function share(found) {
  return found.of ? percent(found.count / found.of) : "–";
}

function interval(found) {
  if (!found.of) return "no such part";
  return `${found.count} of ${found.of}; ${percent(found.interval[0])} to ${percent(found.interval[1])}`;
}

function rate(name, before, now) {
  const row = document.createElement("tr");
  const change = now.count === before.count ? "" : now.count > before.count ? "worse" : "better";
  const was = text("td", share(before));
  const cell = text("td", "", "now");
  was.append(text("small", interval(before)));
  cell.append(text("span", share(now), change), text("small", interval(now)));
  row.append(text("th", name), was, cell);
  return row;
}

function show(answer) {
  at("bound").replaceChildren(...answer.says.map((words, place) => text("p", words, place ? "quiet" : "")));
  at("bound").className = answer.met ? "" : "unmet";
  const rows = [];
  for (const [name, title] of [["given", start.source], ["all", "with the bundle's own parts"]]) {
    const { before, now } = answer.figures[name];
    const head = document.createElement("tr");
    const heading = text("th", title);
    heading.colSpan = 3;
    heading.scope = "rowgroup";
    head.className = "group";
    head.append(heading);
    const cost = document.createElement("tr");
    const change = before.cost === now.cost ? "" : now.cost > before.cost ? "worse" : "better";
    const cell = text("td", "", "now");
    cell.append(text("span", money(now.cost), change));
    cost.append(text("th", "cost of a part of the line"), text("td", money(before.cost)), cell);
    rows.push(head, rate("overkill: GOOD that does not pass", before.overkill, now.overkill),
      rate("escapes: bad that passes", before.escapes, now.escapes),
      rate("to a person (REVIEW)", before.reviewed, now.reviewed), cost);
  }
  at("rates").replaceChildren(...rows);
  at("classes").replaceChildren(...answer.classes.map((one) => {
    const row = document.createElement("tr");
    row.append(text("th", `${one.label} (${one.parts})`), text("td", one.before), text("td", one.now, "now"));
    return row;
  }));
  const count = Object.values(answer.changed).reduce((sum, one) => sum + one, 0);
  at("changed-title").textContent = count === 0 ? "No part changes sides" :
    `${count} ${count === 1 ? "part changes" : "parts change"} sides`;
  const kinds = Object.entries(KINDS).filter(([kind]) => answer.changed[kind])
    .map(([kind, words]) => `${answer.changed[kind]} ${words}`);
  if (count > answer.pictured) kinds.push(`${count - answer.pictured} of them the bundle's own, without a picture here`);
  if (answer.pictured > answer.shown.length) kinds.push(`the ${answer.shown.length} most telling of ${answer.pictured} pictures`);
  at("kinds").textContent = kinds.join(" · ");
  at("shown").replaceChildren(...answer.shown.map(picture));
}

const KINDS = {
  escape: "bad, passes now", overkill: "GOOD, stopped now",
  stopped: "bad, stopped now", released: "GOOD, passes now",
};

function picture(one) {
  const figure = document.createElement("figure");
  figure.className = one.kind;
  const pair = document.createElement("div");
  for (const [name, words] of [["view", "What is judged"], ["heat", "Unusual areas, shown bright"]]) {
    const image = document.createElement("img");
    image.alt = words;
    image.loading = "lazy";
    image.src = `${one.row}/${name}.png`;
    pair.append(image);
  }
  const caption = document.createElement("figcaption");
  caption.append(text("strong", `${one.label}: ${one.was} → ${one.is}`), `${KINDS[one.kind]}. ${one.die}, ${one.name}`);
  figure.append(pair, caption);
  return figure;
}

async function save() {
  at("save").disabled = true;
  at("saved").textContent = "saving …";
  try {
    const answer = await asked("save", setting());
    at("saved").textContent = answer.said;
    at("error").hidden = true;
  } catch (error) {
    at("saved").textContent = "";
    failed(error);
  }
  at("save").disabled = false;
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || !start) return;
  if (event.key === "r") reset();
  else if (event.key === "s" && !at("save").disabled) save();
  else return;
  event.preventDefault();
});
at("reset").onclick = reset;
at("save").onclick = save;
at("sliders").oninput = move;
at("sliders").onsubmit = (event) => event.preventDefault();

asked("start").then((answer) => {
  start = answer;
  at("bundle").textContent = `${start.bundle.name}, version ${start.bundle.version}`;
  const counts = (of) => Object.entries(of).map(([label, count]) => `${label} ${count}`).join(" · ");
  at("parts").textContent = `${start.source}: ${counts(start.given)}. The bundle's own: ${counts(start.held)}`;
  at("costs").disabled = at("good").disabled = !start.weighs_costs;
  at("no-costs").hidden = start.weighs_costs;
  reset();
}).catch(failed);
