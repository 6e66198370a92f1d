// The headline and a tile for each station: its state, what is wrong, and what to do next.

import { clock, count, make, mark, percent, say, span } from "./draw.js";
import { keyed } from "./keyed.js";

const SYMBOLS = {
  RUNNING: "RUN", READY: "WAIT", STARTING: "WAIT", BUILDING: "WAIT", DEGRADED: "REVIEW",
  FAULT: "REJECT", STOPPING: "NONE", STOPPED: "NONE", DEAD: "REJECT", SILENT: "REJECT",
  UNKNOWN: "ASK",
};
const TONES = { good: "PASS", care: "REVIEW", bad: "REJECT", none: "NONE" };
const MANY = 12;
const LONG = 36;

/** The sentence over the page, and the title of its tab. */
export function drawHeadline(element, { tone, text, since }) {
  const words = text.replace("{since}", since ? clock(since) : "");
  if (element.dataset.said === words + tone) return;
  element.dataset.said = words + tone;
  element.className = words.length > LONG ? `${tone} long` : tone;
  const parts = words.split(" · ").map((part, index) => make("span", "", index ? "· " : mark(TONES[tone]), part));
  element.replaceChildren(...parts.flatMap((part) => [part, " "]));
  document.title = `${tone === "bad" || tone === "care" ? "⚠ " : ""}${words} · edge-qc`;
}

/** All tiles. chosen: called with a station's name when its tile is clicked. */
export function drawStations(parent, stations, chosen) {
  const many = stations.length > MANY;
  document.documentElement.classList.toggle("many", many);
  // Among many, those that need somebody come first (bad, care, good); few keep their places.
  if (many) stations.sort((a, b) => a.tone.localeCompare(b.tone) || (a.name < b.name ? -1 : 1));
  keyed(parent, stations, (station) => station.name, (station) => makeStation(station, chosen),
    drawStation);
}

function makeStation(station, chosen) {
  const tile = make("button", "station", make("p", "title"), make("p", "state"), make("p", "age"),
    make("p", "why"), make("ul", "wrong"), make("p", "figures"));
  tile.type = "button";
  tile.title = "Show only this station";
  tile.addEventListener("click", () => chosen(station.name));
  return tile;
}

function drawStation(tile, station) {
  const [title, state, age, why, wrong, figures] = tile.children;
  say(title, station.name);
  tile.dataset.tone = station.tone;
  if (tile.dataset.state !== station.state) {
    tile.dataset.state = station.state;
    state.replaceChildren(mark(SYMBOLS[station.state] ?? "ASK"), station.state);
  }
  const last = station.age_s === null ? "no verdict yet" : `last verdict ${span(station.age_s)} ago`;
  say(age, station.state === "SILENT" ? `nothing heard for ${span(station.silent_s)}` : last);
  say(why, station.why);
  keyed(wrong, wrongs(station), null, () => make("li", "", make("b"), make("span")),
    (item, [tone, words, next]) => {
      item.dataset.tone = tone;
      say(item.firstChild, words);
      say(item.lastChild, next ? ` ${next}` : "");
    });
  const figure = [[`yield, ${station.of}`, share(station)],
    ["rate", station.rate === null ? "–" : `${count(station.rate)}/s`],
    ["p99", station.p99 === null ? "–" : `${count(station.p99)} ms`], ["queue", count(station.queue)]];
  if (figures.children.length === 0) {
    figures.append(...figure.map(() => make("span", "", make("span"), make("b"))));
  }
  figure.forEach(([name, text], index) => {
    say(figures.children[index].firstChild, name);
    say(figures.children[index].lastChild, text);
  });
}

const share = (station) =>
  (station.all ? `${percent(station.passed, station.all).slice(0, 4)} %` : "–");

/** What is wrong, as tone, words and what to do next. */
function wrongs(station) {
  const found = station.next ? [["", "", station.next]] : [];
  for (const { tone, words, next } of station.troubles) found.push([tone, words, next]);
  if (station.missing) found.push(["care", `${count(station.missing)} messages missing`, ""]);
  if (station.waiting > 0 && !station.outbox_grows) {
    found.push(["none", `${count(station.waiting)} in its outbox`, ""]);
  } else if (station.outbox_grows) {
    found.push(["bad", `${count(station.waiting)} in its outbox`, ""]);
  }
  if (station.space && station.space !== "ok") {
    found.push(["bad", `disk ${station.space}`, "Make room on the station's disk."]);
  }
  const lost = station.cameras.filter((camera) => ["lost", "failed"].includes(camera.state));
  if (lost.length) {
    found.push(["bad", `no picture from ${lost.map((camera) => camera.name).join(", ")}`,
      "Check the camera's cable and power."]);
  }
  if (station.skew_s !== null) {
    found.push(["bad",
      `clock ${span(Math.abs(station.skew_s))} ${station.skew_s > 0 ? "ahead" : "behind"}`,
      "Give the station a time server."]);
  }
  return found;
}
