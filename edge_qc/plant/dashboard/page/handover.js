// The handover of a shift, to read on a screen or to print.

import { clock, count, make, noteStations, percent, say, shortly, span } from "./draw.js";
import { keyed } from "./keyed.js";
import { drawEvents } from "./lists.js";
import { drawHeadline } from "./stations.js";

const $ = (id) => document.getElementById(id);
const last = new URLSearchParams(location.search).get("shift") === "last";

const allOf = (counts) => counts.passed + counts.rejected + counts.review + counts.unjudged;
const share = (counts) => (allOf(counts) ? `${percent(counts.passed, allOf(counts))} %` : "–");
const day = (stamp) => new Date(stamp).toLocaleDateString("en-GB",
  { weekday: "long", day: "numeric", month: "long" });
const minute = (stamp) => new Date(stamp).toLocaleTimeString("en-GB",
  { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

function row(counts, name) {
  const numbers = [count(allOf(counts)), share(counts), share(counts.before), count(counts.rejected),
    count(counts.review), count(counts.unjudged)];
  return make("tr", "", make("td", "", name), make("td", "", counts.of),
    ...numbers.map((text) => make("td", "number", text)));
}

function draw(told) {
  noteStations(told.stations.map(({ name }) => name));
  say($("title"), `Shift of ${day(told.since)}, ${minute(told.since)} to ${minute(told.until)}`);
  say($("against"), `"Before" is the shift from ${minute(told.before.since)} to ${minute(told.before.until)}`);
  drawHeadline($("sentence"), told.headline);
  document.title = `Handover ${minute(told.since)} · edge-qc`;
  const states = told.states.filter(({ next }) => next).map(({ station, state, why, next }) =>
    [station, `${state} ${why}`, next]);
  const open = [...states, ...told.open.map(({ station, words, next }) => [station, words, next]),
    ...told.missing.map((gap) => [gap.station, `${count(gap.count)} ${gap.kind}s missing`, ""])];
  keyed($("open"), open, null, () => make("li", "", make("b"), make("span"), make("p", "next")),
    (item, [station, words, next]) => {
      say(item.children[0], shortly(station));
      say(item.children[1], ` ${words}`);
      say(item.children[2], next);
      item.children[2].hidden = !next;
    });
  $("made").tBodies[0].replaceChildren(...told.stations.map((one) => row(one, shortly(one.name))),
    ...(told.stations.length > 1 ? [row(told.all, "all stations")] : []));
  $("reasons").tBodies[0].replaceChildren(...told.reasons.map((one) => make("tr", "",
    make("td", "", one.label), make("td", "number", count(one.count)),
    make("td", "number note", `before ${count(one.before)}`))));
  $("no-reasons").hidden = told.reasons.length > 0;
  keyed($("downtime"), told.downtime, null, () => make("li"), (item, one) => say(item,
    `${shortly(one.station)}: ${clock(one.since)} to ${one.until ? clock(one.until) : "now"}, ${
      span(one.seconds)}, ${one.planned ? "stopped by an operator" : one.why}`));
  $("no-downtime").hidden = told.downtime.length > 0;
  drawEvents($("events"), told.events);
  $("no-events").hidden = told.events.length > 0;
  say($("more"), told.more_events ? `and ${count(told.more_events)} older ones: edge-qc query` : "");
}

async function load() {
  const answer = await fetch(`handover.json${last ? "?shift=last" : ""}`).catch(() => null);
  if (answer?.status === 401) location.assign("login.html");
  $("trouble").hidden = Boolean(answer?.ok);
  if (answer?.ok) draw(await answer.json());
  else say($("trouble"), answer ? await answer.text() : "The dashboard does not answer.");
  document.body.dataset.ticks = String(Number(document.body.dataset.ticks ?? 0) + 1);
}

const theme = new URLSearchParams(location.search).get("theme") ?? localStorage.getItem("theme") ?? "system";
if (theme !== "system") document.documentElement.dataset.theme = theme;
$(last ? "last" : "this").setAttribute("aria-current", "page");
$("print").addEventListener("click", () => print());
load();
setInterval(load, 30000);
