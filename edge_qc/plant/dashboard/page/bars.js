// Bars that count: why views did not pass, and the yield of each die. A bar filters the list.

import { count, cumulated, make, percent, say } from "./draw.js";
import { keyed } from "./keyed.js";

/** Yield by die. chosen: called with a die's name. */
export function drawDies(parent, dies, now, chosen) {
  bars(parent, dies.map((entry) => ({
    label: entry.die, segments: [entry.passed / entry.views], pressed: entry.die === now,
    figure: `${percent(entry.passed, entry.views)} %`, note: ` of ${count(entry.views)}`,
  })), [], chosen);
}

/** Why views did not pass: each label's count and share, and the shares added up as a line. */
export function drawPareto(parent, entries, now, chosen) {
  const all = entries.reduce((sum, entry) => sum + entry.count, 0);
  const most = entries[0]?.count ?? 1;
  const dies = [...new Set(entries.flatMap((entry) => Object.keys(entry.dies)))].sort();
  bars(parent, entries.map((entry) => ({
    label: entry.label, figure: count(entry.count), note: ` · ${percent(entry.count, all)} %`,
    segments: dies.map((die) => (entry.dies[die] ?? 0) / most), pressed: entry.label === now,
  })), dies.length > 1 || entries.length > 1 ? dies : [], chosen);
  let sum = 0;
  cumulated(parent, entries.map((entry) => { sum += entry.count; return sum / all; }));
}

function bars(parent, entries, legend, chosen) {
  const items = [...entries, ...(legend.length ? [{ legend }] : [])];
  keyed(rowsOf(parent), items, (entry) => (entry.legend ? "legend" : `of ${entry.label}`),
    (entry) => (entry.legend ? make("p", "legend") : makeBar(entry.label, chosen)),
    (row, entry) => (entry.legend ? drawLegend(row, entry.legend) : drawBar(row, entry)));
}

function rowsOf(parent) {
  if (!parent.firstElementChild) parent.append(make("div", "rows"));
  return parent.firstElementChild;
}

function makeBar(label, chosen) {
  const button = make("button", "label");
  const track = make("span", "track");
  button.type = "button";
  button.title = "Show only these in the list";
  for (const part of [button, track]) part.addEventListener("click", () => chosen(label));
  return make("div", "row", button, track, make("span", "figure"));
}

function drawBar(row, entry) {
  const [label, track, figure] = row.children;
  say(label, entry.label);
  label.setAttribute("aria-pressed", String(entry.pressed));
  keyed(track, entry.segments, null, () => make("i"), (segment, share) => {
    segment.style.width = `${(100 * share).toFixed(2)}%`;
    segment.hidden = share === 0;
  });
  if (figure.textContent !== entry.figure + entry.note) {
    figure.replaceChildren(entry.figure, make("small", "", entry.note));
  }
}

function drawLegend(row, dies) {
  const shown = [...(dies.length > 1 ? dies : []), null];
  keyed(row, shown, null, () => make("span", "", make("i"), make("span")), (item, die) => {
    item.className = die === null ? "line" : "";
    say(item.lastChild, die ?? "shares added up, to 100 % at the right");
  });
}
