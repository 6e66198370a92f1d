// The lists: verdicts as they arrive, events with what to do next, missing messages.

import { clock, count, make, mark, say, shortly } from "./draw.js";
import { keyed } from "./keyed.js";

/** The symbol of a verdict. */
export const meaning = (row) => (row.label === "NOT_JUDGED" ? "NONE" : row.disposition);

const COLUMNS = ["", "part", "", "far", "", "", "far number", "far number"];
const RETRY_MS = 3000;

const small = (p) => (p > 0 && p < 0.001 ? p.toExponential(0) : String(p));

/** The verdicts. pictures: whether any station shares its images. open: called with a station and
 * a verdict's id. */
export function drawVerdicts(body, rows, pictures, open) {
  keyed(body, rows, (row) => `${row.station} ${row.id}`, (row) => makeRow(row, pictures, open),
    () => {});
}

function makeRow(verdict, pictures, open) {
  const row = make("tr", verdict.historical ? "late" : "");
  row.tabIndex = 0;
  row.dataset.id = verdict.id;
  row.dataset.station = verdict.station;
  const show = () => open(verdict.station, verdict.id);
  row.addEventListener("click", show);
  row.addEventListener("keydown", (event) => { if (event.key === "Enter") show(); });
  const symbol = meaning(verdict);
  const cells = COLUMNS.map((name) => make("td", name));
  cells[0].className = symbol;
  cells[0].append(mark(symbol), ` ${verdict.label}`,
    verdict.reason === "decided" ? "" : `: ${verdict.reason}`,
    ...(verdict.disposition === "REVIEW" && symbol !== "NONE" ? [make("span", "tag", "review")] : []),
    ...(verdict.late ? [make("span", "tag", "too late for its part")] : []),
    ...(verdict.historical ? [make("span", "tag", "sent late")] : []));
  [verdict.part, verdict.die, verdict.camera, shortly(verdict.station), clock(verdict.time, true),
    verdict.p === null ? "–" : small(verdict.p), count(verdict.ms),
  ].forEach((text, index) => cells[index + 1].append(text));
  cells[4].title = verdict.station;
  if (pictures && verdict.disposition !== "PASS") cells[1].prepend(thumb(verdict.id));
  row.append(...cells);
  return row;
}

/** A small picture of a view. The station writes it just after the verdict: it is asked for twice,
 * and where there is none, nothing is shown. */
export function thumb(id) {
  const image = make("img", "thumb");
  const address = `picture/view.png?${new URLSearchParams({ id })}`;
  image.alt = "";
  image.addEventListener("error", () => {
    if (image.dataset.again) { image.remove(); return; }
    image.dataset.again = "yes";
    image.classList.add("awaited");
    setTimeout(() => { image.src = `${address}&again=1`; }, RETRY_MS);
  });
  image.addEventListener("load", () => image.classList.remove("awaited"));
  image.src = address;
  return image;
}

/** Events and changes of state. */
export function drawEvents(list, events) {
  keyed(list, events, null,
    () => make("li", "", make("span", "when"), make("b"), make("span"), make("p", "next")),
    (item, event) => {
      const [when, what, detail, next] = item.children;
      item.className = { alarm: "REJECT", warning: "REVIEW" }[event.severity] ?? "";
      say(when, clock(event.time) + (event.historical ? " (late)" : ""));
      const severity = event.severity === "info" || event.state ? "" : `${event.severity}: `;
      const station = shortly(event.station);
      say(what, event.state ? `${station} ${event.event} ` : `${severity}${event.event} `);
      say(detail, event.state ? event.detail : `${station} ${event.detail}`);
      say(next, event.next);
      next.hidden = !event.next;
    });
}

/** Missing messages. */
export function drawGaps(list, gaps) {
  keyed(list, gaps, null, () => make("li", "REJECT", mark("REJECT"), make("span")),
    (item, gap) => say(item.lastChild, ` ${shortly(gap.station)}: ${count(gap.count)} ${gap.kind}`
      + `${gap.count === 1 ? "" : "s"}, numbers ${gap.first}`
      + `${gap.count === 1 ? "" : ` to ${gap.last}`} of epoch ${gap.epoch.slice(0, 12)}; `
      + (gap.final ? "the station no longer has them" : "they may still come")));
}
