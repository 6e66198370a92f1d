// Takes what the server says has changed and puts it on the page. Nothing is asked of a station.

import { brief, chart, clock, count, make, mark, percent, say, span, spark } from "./draw.js";

const $ = (id) => document.getElementById(id);
const query = new URLSearchParams(location.search);
const FILTERS = ["station", "die", "label", "window"];
const STALE_MS = 5000;
const MANY = 12;
const latest = {};
let source = null;
let heardMs = Date.now();
let paused = false;

// ---- states and verdicts -------------------------------------------------------------------

const STATES = {
  RUNNING: ["good", "RUN"], READY: ["good", "WAIT"], STARTING: ["care", "WAIT"],
  BUILDING: ["care", "WAIT"], DEGRADED: ["care", "REVIEW"], FAULT: ["bad", "REJECT"],
  STOPPING: ["care", "NONE"], DEAD: ["bad", "REJECT"], SILENT: ["bad", "REJECT"],
  UNKNOWN: ["care", "REVIEW"],
};
const stateOf = (station) => (station.silent_s === null ? station.state : "SILENT");
const toneOf = (station) => (STATES[stateOf(station)] ?? STATES.UNKNOWN)[0];
const meaning = (row) => (row.label === "NOT_JUDGED" ? "NONE" : row.disposition);

// ---- sections ------------------------------------------------------------------------------

const draw = {
  stations(stations) {
    sentence();
    const many = stations.length > MANY;
    document.documentElement.classList.toggle("many", many);
    // Among many, those that need somebody come first (bad, care, good); few keep their places.
    if (many) stations.sort((a, b) => toneOf(a).localeCompare(toneOf(b)) || (a.name < b.name ? -1 : 1));
    keyed($("stations"), stations, (station) => station.name, makeStation, drawStation);
  },
  totals(totals) {
    const parts = totals.parts > 0;
    const [some, all] = parts ? [totals.parts_passed, totals.parts] : [totals.passed, totals.views];
    say($("yield-name"), parts ? "Yield of parts" : "Yield of views");
    const yielded = percent(some, all);
    $("yield").replaceChildren(yielded, yielded === "–" ? "" : make("span", "unit", "%"));
    say($("yield-note"), `${count(some)} of ${count(all)} ${parts ? "parts" : "views"} passed, `
      + `last ${$("filters").elements.window.selectedOptions[0].textContent}`);
    spark($("passing"), totals.passing, totals.late);
    const counts = [
      ["REJECT", "Rejected", totals.rejected], ["REVIEW", "For review", totals.review],
      ["NONE", "Not judged", totals.not_judged], ["PASS", "Views passed", totals.passed],
    ];
    if (totals.historical) counts.push(["NONE", "Came late", totals.historical]);
    if (totals.unreadable) counts.push(["REJECT", "Unreadable", totals.unreadable]);
    if (totals.unknown) counts.push(["REJECT", "Ignored: station limit reached", totals.unknown]);
    keyed($("counts"), counts, (entry) => entry[1], ([symbol, name]) =>
      make("div", "", make("dt", symbol, mark(symbol), name), make("dd")),
    (element, [, , value]) => say(element.lastChild, brief(value)));
  },
  dies(dies) {
    bars($("dies"), dies.map((entry) => ({
      label: entry.die, share: entry.passed / entry.views, segments: [entry.passed / entry.views],
      figure: `${percent(entry.passed, entry.views)} %`, note: ` of ${count(entry.views)}`,
    })), []);
  },
  pareto(entries) {
    const all = entries.reduce((sum, entry) => sum + entry.count, 0);
    const most = entries[0]?.count ?? 1;
    const dies = [...new Set(entries.flatMap((entry) => Object.keys(entry.dies)))].sort();
    let sum = 0;
    bars($("pareto"), entries.map((entry) => {
      sum += entry.count;
      return { label: entry.label, figure: count(entry.count), note: ` · ${percent(sum, all)} %`,
        segments: dies.map((die) => (entry.dies[die] ?? 0) / most) };
    }), dies);
  },
  drift({ times, charts }) {
    keyed($("drift"), charts, (entry) => entry.die, (entry) => {
      const heading = make("h3", "", entry.die, make("span", "tag"));
      const picture = document.createElementNS("http://www.w3.org/2000/svg", "svg");
      picture.setAttribute("class", "chart");
      picture.setAttribute("role", "img");
      return make("div", "", heading, picture);
    }, (element, entry) => {
      const tag = element.querySelector(".tag");
      tag.hidden = !entry.now_out;
      say(tag, "out of control");
      const picture = element.lastChild;
      picture.setAttribute("aria-label", `Drift of ${entry.die}`
        + (entry.now_out ? ", out of control" : ""));
      chart(picture, times, [{ values: entry.mean }], { ...entry, percent: true });
    });
    $("drift-card").hidden = charts.length === 0;
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
    keyed($("stream").tBodies[0], rows, null, makeRow, drawRow);
    $("no-verdicts").hidden = rows.length > 0;
  },
  events(events) {
    keyed($("events"), events, null, () => make("li", "", make("span", "when"), make("b"), make("span")),
      (item, event) => {
        const [when, what, detail] = item.children;
        item.className = { alarm: "REJECT", warning: "REVIEW" }[event.severity] ?? "";
        say(when, clock(event.time) + (event.historical ? " (late)" : ""));
        say(what, `${event.severity === "info" ? "" : `${event.severity}: `}${event.event} `);
        say(detail, `${event.station} ${event.detail}`);
      });
    $("no-events").hidden = events.length > 0;
  },
  gaps(gaps) {
    keyed($("gaps"), gaps, null, () => make("li", "REJECT", mark("REJECT"), make("span")),
      (item, gap) => say(item.lastChild, ` ${gap.station}: ${count(gap.count)} ${gap.kind}`
        + `${gap.count === 1 ? "" : "s"}, numbers ${gap.first}`
        + `${gap.count === 1 ? "" : ` to ${gap.last}`} of epoch ${gap.epoch.slice(0, 12)}; `
        + (gap.final ? "the station no longer has them" : "they may still come")));
    $("no-gaps").hidden = gaps.length > 0;
  },
  choices(choices) {
    for (const [name, values] of [["station", choices.stations], ["die", choices.dies],
      ["label", choices.labels]]) {
      const select = $("filters").elements[name];
      const chosen = query.get(name) ?? "";
      const wanted = chosen && !values.includes(chosen) ? [...values, chosen] : values;
      const options = wanted.map((value) => new Option(value, value, false, value === chosen));
      select.replaceChildren(select.options[0], ...options);
    }
  },
  login(login) {
    $("logout").hidden = !login;
  },
  broker(broker) {
    say($("where"), `broker ${broker.where}`);
    trouble();
  },
};

/** One element for each item, in order; elements are kept and told what is new. */
function keyed(parent, items, keyOf, create, update) {
  const kept = new Map([...parent.children].map((child, index) => [child.dataset.key ?? index, child]));
  items.forEach((item, index) => {
    const key = keyOf ? keyOf(item) : index;
    let element = kept.get(key);
    if (element === undefined) {
      element = create(item);
      if (keyOf) element.dataset.key = key;
    }
    kept.delete(key);
    if (parent.children[index] !== element) parent.insertBefore(element, parent.children[index] ?? null);
    update(element, item);
  });
  for (const old of kept.values()) old.remove();
}

function makeStation(station) {
  const tile = make("button", "station", make("p", "title"), make("p", "state"), make("p", "age"),
    make("p", "why"), make("p", "warn"), make("p", "figures"));
  tile.type = "button";
  tile.title = "Show only this station";
  tile.addEventListener("click", () =>
    choose("station", query.get("station") === station.name ? "" : station.name));
  return tile;
}

function drawStation(tile, station) {
  const [title, state, age, why, warn, figures] = tile.children;
  const name = stateOf(station);
  const [tone, symbol] = STATES[name] ?? STATES.UNKNOWN;
  say(title, station.name);
  if (tile.dataset.state !== name) {
    tile.dataset.state = name;
    tile.dataset.tone = tone;
    state.replaceChildren(mark(symbol), name);
  }
  const last = station.age_s === null ? "no verdict yet" : `last verdict ${span(station.age_s)} ago`;
  say(age, station.silent_s === null ? last : `nothing heard for ${span(station.silent_s)}`);
  say(why, station.why);
  const warnings = [];
  if (station.missing) warnings.push(`${count(station.missing)} messages missing`);
  if (station.waiting > 0) warnings.push(`${count(station.waiting)} in its outbox`);
  if (station.space && station.space !== "ok") warnings.push(`disk ${station.space}`);
  const lost = station.cameras.filter((camera) => ["lost", "failed"].includes(camera.state));
  if (lost.length) warnings.push(`no picture from ${lost.map((camera) => camera.name).join(", ")}`);
  if (station.skew_s !== null) {
    warnings.push(`clock ${span(Math.abs(station.skew_s))} ${station.skew_s > 0 ? "ahead" : "behind"}`);
  }
  say(warn, warnings.join(" · "));
  warn.hidden = warnings.length === 0;
  const figure = [["yield", `${percent(station.passed, station.views).slice(0, 4)} %`],
    ["rate", `${count(station.rate)}/s`], ["p99", `${count(station.p99)} ms`],
    ["queue", count(station.queue)]];
  if (figures.children.length === 0) {
    figures.append(...figure.map(([name]) => make("span", "", name, make("b"))));
  }
  figure.forEach(([, text], index) => say(figures.children[index].lastChild, text));
}

function bars(parent, entries, legend) {
  keyed(parent, [...entries, ...(legend.length > 1 ? [{ legend }] : [])],
    (entry) => (entry.legend ? "legend" : `of ${entry.label}`),
    (entry) => (entry.legend ? make("p", "legend")
      : make("div", "row", make("span", "label"), make("span", "track"), make("span", "figure"))),
    (row, entry) => {
      if (entry.legend) {
        keyed(row, entry.legend, null, () => make("span", "", make("i"), make("span")),
          (item, die) => say(item.lastChild, die));
        return;
      }
      const [label, track, figure] = row.children;
      say(label, entry.label);
      keyed(track, entry.segments, null, () => make("i"), (segment, share) => {
        segment.style.width = `${(100 * share).toFixed(2)}%`;
        segment.hidden = share === 0;
      });
      if (figure.textContent !== entry.figure + entry.note) {
        figure.replaceChildren(entry.figure, make("small", "", entry.note));
      }
    });
}

function makeRow() {
  const row = make("tr");
  for (const name of ["", "", "", "far", "", "", "far number", "far number"]) row.append(make("td", name));
  row.tabIndex = 0;
  const open = () => showFull(row.dataset.station, row.dataset.id);
  row.addEventListener("click", open);
  row.addEventListener("keydown", (event) => { if (event.key === "Enter") open(); });
  return row;
}

function drawRow(row, verdict) {
  if (row.dataset.id === verdict.id) return;
  row.dataset.id = verdict.id;
  row.dataset.station = verdict.station;
  row.className = verdict.historical ? "late" : "";
  const [label, ...others] = row.children;
  const symbol = meaning(verdict);
  label.className = symbol;
  label.replaceChildren(mark(symbol), ` ${verdict.label}`,
    verdict.reason === "decided" ? "" : `: ${verdict.reason}`,
    ...(verdict.disposition === "REVIEW" && symbol !== "NONE" ? [make("span", "tag", "review")] : []),
    ...(verdict.late ? [make("span", "tag", "too late for its part")] : []),
    ...(verdict.historical ? [make("span", "tag", "sent late")] : []));
  [verdict.part, verdict.die, verdict.camera, verdict.station, clock(verdict.time, true),
    verdict.p === null ? "–" : String(verdict.p), count(verdict.ms),
  ].forEach((text, index) => say(others[index], text));
}

async function showFull(station, id) {
  const answer = await fetch(`verdict?${new URLSearchParams({ station, id })}`);
  const title = $("full-title"), body = $("full-body");
  if (!answer.ok) {
    say(title, "This verdict is no longer in the list");
    body.replaceChildren();
  } else {
    const { kept_pictures: kept, ...verdict } = await answer.json();
    const symbol = meaning(verdict);
    title.replaceChildren(make("span", symbol, mark(symbol), ` ${verdict.label}`), ` ${verdict.part_id ?? ""}`);
    body.replaceChildren(...(kept ? [pictures(id)] : []), fields(verdict));
  }
  $("full").showModal();
  // The button at the end takes the focus; what was asked for is at the top.
  $("full").scrollTop = 0;
}

/** What the station kept of this part; one that it does not have is left out. */
function pictures(id) {
  const shown = [["view.png", "what the network saw"], ["heat.png", "unusual areas"]];
  return make("div", "pictures", ...shown.map(([name, what]) => {
    const figure = make("figure", "", make("figcaption", "", what));
    const image = make("img");
    image.alt = what;
    image.addEventListener("error", () => figure.remove());
    image.src = `picture/${name}?${new URLSearchParams({ id })}`;
    figure.prepend(image);
    return figure;
  }));
}

function fields(object) {
  const list = make("dl");
  for (const [name, value] of Object.entries(object)) {
    if (value === null || value === "" || (typeof value === "object" && !Object.keys(value).length)) continue;
    const shown = typeof value === "object" ? fields(value) : String(value);
    list.append(make("dt", "", name), make("dd", "", shown));
  }
  return list;
}

// ---- what is wrong with the plant, and with this page --------------------------------------

function sentence() {
  const stations = latest.stations ?? [];
  const numbers = new Map();
  for (const station of stations) {
    const name = stateOf(station);
    numbers.set(name, (numbers.get(name) ?? 0) + 1);
  }
  const tones = stations.map(toneOf);
  const tone = tones.includes("bad") ? "bad" : tones.includes("care") ? "care" : "good";
  const words = [...numbers].filter(([name]) => (STATES[name] ?? STATES.UNKNOWN)[0] !== "good")
    .sort(([a], [b]) => (STATES[a] ?? STATES.UNKNOWN)[0].localeCompare((STATES[b] ?? STATES.UNKNOWN)[0]))
    .map(([name, some]) => `${some} ${name.toLowerCase()}`);
  const well = tones.filter((one) => one === "good").length;
  let text = "No station has reported yet";
  if (stations.length) {
    text = words.length ? `${words.join(", ")} of ${stations.length} stations`
      : stations.length === 1 ? `${stations[0].name} is ${stateOf(stations[0]).toLowerCase()}`
        : `All ${well} stations are well`;
  }
  const element = $("sentence");
  if (element.dataset.said !== text + tone) {
    element.dataset.said = text + tone;
    element.className = tone;
    const symbol = mark({ good: "PASS", care: "REVIEW", bad: "REJECT" }[tone]);
    element.replaceChildren(...(stations.length ? [symbol] : []), text);
    document.title = `${tone === "good" ? "" : "⚠ "}${text} · edge-qc`;
  }
}

function trouble() {
  let text = "";
  if (Date.now() - heardMs > STALE_MS) {
    text = `The dashboard does not answer. These figures are from ${clock(heardMs)}.`;
  } else if (latest.broker?.trouble) {
    text = `No connection to the broker since ${clock(latest.broker.since)}: `
      + `these figures are from then. ${latest.broker.trouble}`;
  } else if (latest.broker?.listening === false) {
    text = "The dashboard no longer listens to the broker. Restart it.";
  }
  say($("trouble"), text);
  $("trouble").hidden = text === "";
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
    for (const [name, section] of Object.entries(sections)) draw[name]?.(section);
    document.body.dataset.ticks = String(Number(document.body.dataset.ticks ?? 0) + 1);
  };
  source.onerror = async () => {
    // A session that ended answers the stream with 401, which the browser does not tell.
    if (source.readyState !== EventSource.CLOSED) return;
    const answer = await fetch("live?window=0").catch(() => null);
    if (answer?.status === 401) location.assign("login.html");
    else setTimeout(connect, 2000);
  };
}

function choose(name, value) {
  if (value) query.set(name, value); else query.delete(name);
  const text = query.toString();
  history.replaceState(null, "", text ? `?${text}` : location.pathname);
  show();
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
  if (event.target.closest("input, select, dialog") || event.ctrlKey || event.metaKey) return;
  if (event.key === "w") toggleWall();
  if (event.key === "Escape" && query.get("view") === "wall") choose("view", "");
});
setInterval(() => {
  say($("clock"), clock(Date.now()));
  trouble();
}, 1000);
setTheme(query.get("theme") ?? localStorage.getItem("theme") ?? "system");
show();
connect();
