// Takes what the server says has changed and puts it on the page. Nothing is asked of a station.

import { drawDies, drawPareto } from "./bars.js";
import { openCard } from "./card.js";
import { brief, chart, clock, count, make, mark, noteStations, percent, say, shortly, spark } from "./draw.js";
import { keyed } from "./keyed.js";
import { drawEvents, drawGaps, drawVerdicts } from "./lists.js";
import { drawHeadline, drawStations } from "./stations.js";

const $ = (id) => document.getElementById(id);
const query = new URLSearchParams(location.search);
const FILTERS = ["station", "die", "label", "window", "of"];
const LISTED = ["die", "label"];
const STALE_MS = 5000;
const latest = {};
let source = null;
let heardMs = Date.now();
let paused = false;

// ---- sections ------------------------------------------------------------------------------

const open = (station, id) => openCard(station, id, latest.server?.role ?? "look");
const toggled = (name) => (value) => choose(name, query.get(name) === value ? "" : value);
const listed = (name) => (value) => {
  toggled(name)(value);
  $("stream-card").scrollIntoView({ block: "nearest", behavior: "smooth" });
};

const allOf = (counts) => counts.passed + counts.rejected + counts.review + counts.unjudged;
const PERIODS = [["shift", "this shift"], ["day", "today"], ["week", "this week"]];

const draw = {
  headline(headline) {
    drawHeadline($("sentence"), headline);
  },
  stations(stations) {
    drawStations($("stations"), stations, toggled("station"));
  },
  totals(totals) {
    const [one, none] = totals.of === "parts" ? ["Parts", "incomplete"] : ["Views", "not judged"];
    say($("yield-name"), `Yield of ${totals.of}`);
    const yielded = percent(totals.passed, totals.all);
    $("yield").replaceChildren(yielded, yielded === "–" ? "" : make("span", "unit", "%"));
    $("yield").classList.toggle("REJECT", totals.all > 0 && totals.passed === 0);
    const before = totals.before && allOf(totals.before) ? totals.before : null;
    const said = $("filters").elements.window.selectedOptions[0].dataset.said;
    say($("yield-note"), `${count(totals.passed)} of ${count(totals.all)} ${totals.of} passed, ${said}`
      + (before ? ` · ${query.get("window")} before: ${percent(before.passed, allOf(before))} %` : ""));
    spark($("passing"), totals.passing, totals.late);
    keyed($("counts"), [
      ["REJECT", `${one} rejected`, "rejected"], ["REVIEW", `${one} for review`, "review"],
      ["NONE", `${one} ${none}`, "unjudged"], ["PASS", `${one} passed`, "passed"],
    ], (entry) => entry[1], ([symbol, name]) =>
      make("div", "", make("dt", symbol, mark(symbol), name), make("dd", "", make("span"), make("small"))),
    (element, [, , name]) => {
      const [value, then] = element.lastChild.children;
      say(value, brief(totals[name]));
      say(then, before ? `${percent(totals[name], totals.all)} %, before ${
        percent(before[name], allOf(before))} %` : "");
    });
    const notes = [];
    if (totals.historical) notes.push(`${count(totals.historical)} views came late`);
    if (totals.unreadable) notes.push(`${count(totals.unreadable)} messages could not be read`);
    if (totals.unknown) {
      notes.push(`${count(totals.unknown)} messages of stations beyond the limit were ignored`);
    }
    say($("notes"), notes.join(" · "));
    $("notes").hidden = notes.length === 0;
  },
  dies(dies) {
    drawDies($("dies"), dies, query.get("die"), listed("die"));
  },
  pareto(entries) {
    drawPareto($("pareto"), entries, query.get("label"), listed("label"));
    $("no-pareto").hidden = entries.length > 0;
  },
  drift({ times, charts, all }) {
    keyed($("drift"), charts, (entry) => `${entry.station} ${entry.die}`, (entry) => {
      const heading = make("h3", "", `${shortly(entry.station)} · ${entry.die}`, make("span", "tag"));
      const picture = document.createElementNS("http://www.w3.org/2000/svg", "svg");
      picture.setAttribute("class", "chart");
      picture.setAttribute("role", "img");
      return make("div", "", heading, picture, make("p", "next"));
    }, (element, entry) => {
      const [heading, picture, next] = element.children;
      heading.lastChild.hidden = !entry.now_out;
      say(heading.lastChild, "out of control");
      say(next, entry.next);
      next.hidden = !entry.next;
      picture.setAttribute("aria-label", `Drift of ${entry.station}, ${entry.die}`
        + (entry.now_out ? ", out of control" : ""));
      chart(picture, times, [{ values: entry.mean }], { ...entry, percent: true });
    });
    $("drift-card").hidden = charts.length === 0;
    say($("drift-more"), all > charts.length
      ? `${charts.length} of ${all} charts, those out of control first; choose a station for its own` : "");
  },
  trends(trends) {
    chart($("latency"), trends.times, [{ values: trends.p99 }]);
    const now = trends.p99.findLast((value) => value !== null);
    say($("latency-now"), now === undefined ? "" : `${count(now)} ms now`);
    chart($("queue"), trends.times,
      [{ values: trends.queue }, { values: trends.waiting, className: "second" }], { least: 4 });
  },
  verdicts(rows) {
    if (paused) return;
    drawVerdicts($("stream").tBodies[0], rows, latest.server?.pictures, open);
    $("no-verdicts").hidden = rows.length > 0;
  },
  events(events) {
    drawEvents($("events"), events);
    $("no-events").hidden = events.length > 0;
  },
  gaps(gaps) {
    drawGaps($("gaps"), gaps);
    $("no-gaps").hidden = gaps.length > 0;
  },
  choices(choices) {
    noteStations(choices.stations);
    for (const [name, values] of [["station", choices.stations], ["die", choices.dies],
      ["label", choices.labels]]) {
      const select = $("filters").elements[name];
      const chosen = query.get(name) ?? "";
      const wanted = chosen && !values.includes(chosen) ? [...values, chosen] : values;
      const options = wanted.map((value) => new Option(value, value, false, value === chosen));
      select.replaceChildren(select.options[0], ...options);
    }
    $("counting").hidden = !choices.parts;
  },
  server(server) {
    $("logout").hidden = !server.login;
    $("handover").hidden = !server.records;
    say($("who"), server.who ? `${server.who}, who may ${server.role}` : "");
    const select = $("filters").elements.window;
    for (const [value, words] of server.records ? PERIODS : []) {
      let option = [...select.options].find((one) => one.value === value);
      if (option === undefined) {
        option = new Option(words, value);
        select.append(option);
      }
      option.textContent = option.dataset.said = words;
    }
    select.value = query.get("window") ?? "3600";
  },
  broker(broker) {
    say($("where"), `broker ${broker.where}`);
    trouble();
  },
};

function trouble() {
  let text = "";
  if (Date.now() - heardMs > STALE_MS) {
    text = `The dashboard does not answer. These figures are from ${clock(heardMs)}.`;
  } else if (latest.broker?.trouble) {
    text = `These figures are from ${clock(latest.broker.since)}. ${latest.broker.trouble}`;
  } else if (latest.broker?.records) {
    text = `The records cannot be read: their figures are old, or those of the last eight hours. ${latest.broker.records}`;
  } else if (latest.broker?.listening === false) {
    text = "The dashboard no longer listens to the broker. Restart it.";
  }
  say($("trouble"), text);
  $("trouble").hidden = text === "";
  $("trouble").classList.toggle("quiet", Boolean(latest.broker?.trouble));
}

// ---- connection and controls ---------------------------------------------------------------

function connect() {
  source?.close();
  const asked = new URLSearchParams();
  for (const name of FILTERS) if (query.get(name)) asked.set(name, query.get(name));
  if (query.get("show") === "refused") asked.set("show", "refused");
  source = new EventSource(`live?${asked}`);
  source.onmessage = (event) => {
    heardMs = Date.now();
    const sections = JSON.parse(event.data);
    Object.assign(latest, sections);
    // Others are drawn by these.
    for (const name of ["choices", "server"]) if (sections[name]) draw[name](sections[name]);
    for (const [name, section] of Object.entries(sections)) draw[name]?.(section);
    document.body.dataset.ticks = String(Number(document.body.dataset.ticks ?? 0) + 1);
  };
  source.onerror = async () => {
    // A session that ended answers the stream with 401, which the browser does not tell.
    if (source.readyState !== EventSource.CLOSED) return;
    const answer = await fetch("live?window=0").catch(() => null);
    if (answer?.status === 401) location.assign("login.html");
    else if (answer && PERIODS.some(([value]) => value === query.get("window"))) choose("window", "");
    else setTimeout(connect, 2000);
  };
}

function choose(name, value) {
  if (value) query.set(name, value); else query.delete(name);
  const text = query.toString();
  history.replaceState(null, "", text ? `?${text}` : location.pathname);
  show();
  for (const section of ["dies", "pareto"]) if (latest[section]) draw[section](latest[section]);
  connect();
}

function show() {
  for (const name of FILTERS) {
    const select = $("filters").elements[name];
    const value = query.get(name) ?? (name === "window" ? "3600" : "");
    if (value && ![...select.options].some((option) => option.value === value)) {
      select.append(new Option(value, value));
    }
    select.value = value;
  }
  for (const name of LISTED) {
    const chip = $(`only-${name}`);
    chip.hidden = !query.get(name);
    say(chip, `${query.get(name) ?? ""} ✕`);
  }
  $("clear").hidden = !["station", "die", "label"].some((name) => query.get(name));
  const refused = query.get("show") === "refused";
  $("show-all").setAttribute("aria-pressed", String(!refused));
  $("show-refused").setAttribute("aria-pressed", String(refused));
  const wall = query.get("view") === "wall";
  document.documentElement.classList.toggle("wall", wall);
  $("wall").setAttribute("aria-pressed", String(wall));
}

function setTheme(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  say($("theme"), `Theme: ${theme}`);
}

function toggleWall() {
  choose("view", query.get("view") === "wall" ? "" : "wall");
}

$("filters").addEventListener("change", (event) => choose(event.target.name, event.target.value));
$("filters").addEventListener("submit", (event) => event.preventDefault());
$("clear").addEventListener("click", () => {
  for (const name of ["die", "label"]) query.delete(name);
  choose("station", "");
});
$("show-all").addEventListener("click", () => choose("show", ""));
$("show-refused").addEventListener("click", () => choose("show", "refused"));
for (const name of LISTED) $(`only-${name}`).addEventListener("click", () => choose(name, ""));
$("wall").addEventListener("click", toggleWall);
$("theme").addEventListener("click", () => {
  const themes = ["system", "light", "dark"];
  const theme = themes[(themes.indexOf(localStorage.getItem("theme") ?? "system") + 1) % 3];
  localStorage.setItem("theme", theme);
  setTheme(theme);
});
$("pause").addEventListener("click", () => {
  paused = !paused;
  $("pause").setAttribute("aria-pressed", String(paused));
  say($("pause"), paused ? "Paused" : "Pause");
  if (!paused && latest.verdicts) draw.verdicts(latest.verdicts);
});
document.addEventListener("keydown", (event) => {
  if (event.target.closest("input, select, textarea, dialog") || event.ctrlKey || event.metaKey) return;
  if (event.key === "w") toggleWall();
  if (event.key === "Escape" && query.get("view") === "wall") choose("view", "");
});
addEventListener("resize", () => {
  for (const section of ["totals", "pareto", "drift", "trends"]) {
    if (latest[section]) draw[section](latest[section]);
  }
});
setInterval(() => {
  say($("clock"), clock(Date.now()));
  trouble();
}, 1000);
setTheme(query.get("theme") ?? localStorage.getItem("theme") ?? "system");
show();
connect();
