// Elements, symbols, words and charts. Whatever comes from the network is put in as text, never as
// HTML. What is shown where is page.js's.

const SVG = "http://www.w3.org/2000/svg";

/** An HTML element with a class, text and children. */
export function make(name, className = "", ...children) {
  const element = document.createElement(name);
  if (className) element.className = className;
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Sets an element's text where it differs, so that nothing is laid out again for nothing. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function svg(name, attributes, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

// A shape for each meaning, so that colour is never alone.
const SHAPES = {
  PASS: ["M4 13l5 5L20 6", null],
  REJECT: ["M5 5l14 14M19 5L5 19", null],
  REVIEW: ["M12 3L2 21h20z M12 10v5 M12 17.6v.8", null],
  NONE: ["M4 12h16", null],
  RUN: [null, "M12 3a9 9 0 100 18 9 9 0 000-18z"],
  ASK: ["M8 8a4 4 0 118 0c0 3-4 3-4 6 M12 18.6v.8", null],
  WAIT: ["M12 4a8 8 0 100 16 8 8 0 000-16z M12 8v4l3 2", null],
};

/** A symbol of the given meaning; it takes the colour of the text around it. */
export function mark(meaning) {
  const [stroke, fill] = SHAPES[meaning] ?? SHAPES.NONE;
  const path = stroke
    ? svg("path", { d: stroke, fill: "none", stroke: "currentColor", "stroke-width": 3,
        "stroke-linecap": "round", "stroke-linejoin": "round" })
    : svg("path", { d: fill, fill: "currentColor" });
  return svg("svg", { viewBox: "0 0 24 24", class: "mark", "aria-hidden": "true" }, path);
}

const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 4 });
/** A number in a few letters: 12,345, 1.235M. */
export const brief = (value) => (value < 1e5 ? count(value) : short.format(value));

const number = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
/** A number for people: 12,345. A dash where there is none. */
export const count = (value) => (value === null || value === undefined ? "–" : number.format(value));

/** A share in percent, never rounded up to 100 nor down to 0. */
export function percent(some, all) {
  if (!all) return "–";
  const share = (100 * some) / all;
  const digits = share > 99 && share < 100 ? 2 : 1;
  const cut = Math.floor(share * 10 ** digits) / 10 ** digits;
  return cut.toFixed(share === 100 ? 0 : digits);
}

let sites = 0;
/** Notes all stations' names, to know whether they are of one site. */
export function noteStations(names) {
  sites = new Set(names.map((name) => name.split("/")[0])).size;
}
/** A station's name, without its site where there is but one. */
export const shortly = (station) => (sites === 1 ? station.slice(station.indexOf("/") + 1) : station);

/** A stretch of time in one unit. */
export function span(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 100) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} days`;
}

/** A time of day, with the date where it is not today's. */
export function clock(stamp, fraction = false) {
  if (!stamp) return "–";
  const time = new Date(stamp);
  const today = time.toDateString() === new Date().toDateString();
  const options = { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" };
  if (fraction) options.fractionalSecondDigits = 1;
  const text = time.toLocaleTimeString("en-GB", options);
  return today ? text : `${time.toLocaleDateString("en-CA")} ${text}`;
}

const hour = (seconds) => new Date(seconds * 1000)
  .toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

function path(values, x, y) {
  let d = "";
  let pen = false;
  values.forEach((value, index) => {
    if (value === null) { pen = false; return; }
    d += `${pen ? "L" : "M"}${x(index).toFixed(1)} ${y(value).toFixed(1)}`;
    // A value alone between two that are missing is drawn too.
    if (!pen && (values[index + 1] ?? null) === null) d += "h.1";
    pen = true;
  });
  return d;
}

function nice(most) {
  if (!(most > 0)) return 1;
  const unit = 10 ** Math.floor(Math.log10(most));
  return [1, 1.5, 2, 3, 4, 5, 8, 10].map((step) => step * unit).find((step) => step >= most);
}

/** Lines over time. lines: [{values, className}]; options: limits, marked points, the least top of
 * the scale, and a band of bars above for the worst of each interval. */
export function chart(target, times, lines, options = {}) {
  const width = target.clientWidth || 480;
  const height = target.clientHeight || 176;
  const left = 46, right = 8, bottom = 20, top = options.worst ? 40 : 8;
  const known = lines.flatMap((line) => line.values).filter((value) => value !== null);
  const most = nice(1.05 * Math.max(options.least ?? 0, options.upper ?? 0, ...known, 0));
  const x = (index) => left + ((index + 0.5) * (width - left - right)) / times.length;
  const y = (value) => height - bottom - (value / most) * (height - bottom - top);
  const parts = [];
  for (const share of [0, 0.5, 1]) {
    const at = y(share * most);
    parts.push(svg("line", { class: "grid", x1: left, x2: width - right, y1: at, y2: at }));
    const text = svg("text", { x: left - 6, y: at + 4, "text-anchor": "end" });
    text.textContent = options.percent ? `${Math.round(100 * share * most)} %` : count(share * most);
    parts.push(text);
  }
  for (const share of [0, 0.5, 1]) {
    const index = Math.min(times.length - 1, Math.floor(share * times.length));
    const text = svg("text", { x: Math.min(x(index), width - right), y: height - 5,
      "text-anchor": ["start", "middle", "end"][share * 2] });
    text.textContent = hour(times[index]);
    parts.push(text);
  }
  for (const [name, at] of [["limit", options.upper], ["centre", options.centre]]) {
    if (at === null || at === undefined) continue;
    parts.push(svg("line", { class: name, x1: left, x2: width - right, y1: y(at), y2: y(at) }));
  }
  if (options.worst) parts.push(...worstBars(options.worst, x, (width - left - right) / times.length, left));
  for (const line of lines) {
    parts.push(svg("path", { class: `line ${line.className ?? ""}`, d: path(line.values, x, y) }));
  }
  for (const index of options.out ?? []) {
    const value = lines[0].values[index];
    if (value !== null) parts.push(svg("circle", { class: "out", cx: x(index), cy: y(value), r: 4 }));
  }
  target.setAttribute("viewBox", `0 0 ${width} ${height}`);
  target.replaceChildren(...parts);
}

// Bars in the band above a chart: the threshold is its middle; what is over it is taller and red.
function worstBars(values, x, step, left) {
  const bars = values.map((value, index) => {
    if (value === null) return null;
    const tall = Math.max(1, Math.min(2, value) * 14);
    return svg("rect", { class: value >= 1 ? "worst over" : "worst", x: x(index) - step * 0.4,
      y: 30 - tall, width: Math.max(1, step * 0.8), height: tall });
  });
  const words = svg("text", { x: left - 6, y: 20, "text-anchor": "end" });
  words.textContent = "worst";
  const limit = svg("line", { class: "limit", x1: left, x2: x(values.length - 0.5), y1: 16, y2: 16 });
  return [words, limit, ...bars.filter((bar) => bar !== null)];
}

/** A small line without a scale from 0 to 1, and grey where verdicts came late. */
export function spark(target, values, late) {
  const width = target.clientWidth || 240, height = target.clientHeight || 60;
  const known = values.filter((value) => value !== null);
  const floor = Math.min(0.9, ...known) - 0.02;
  const x = (index) => ((index + 0.5) * width) / values.length;
  const y = (value) => 3 + (1 - (value - floor) / (1 - floor)) * (height - 6);
  const parts = late.map((some, index) => some
    ? svg("rect", { class: "late", x: (index * width) / values.length, y: 0,
        width: width / values.length + 0.5, height })
    : null).filter((part) => part !== null);
  parts.push(svg("path", { class: "line", d: path(values, x, y) }));
  target.setAttribute("viewBox", `0 0 ${width} ${height}`);
  target.replaceChildren(...parts);
}

/** Shares added up, as a line over the bars' tracks: each point at its bar, 1 at the right end. */
export function cumulated(parent, shares) {
  let picture = parent.querySelector("svg.cumulated");
  if (picture === null) {
    picture = svg("svg", { class: "cumulated", role: "img" });
    parent.append(picture);
  }
  const tracks = [...parent.querySelectorAll(".track")];
  const points = shares.map((share, index) => [share, tracks[index]])
    .filter(([, track]) => track?.offsetWidth)
    .map(([share, track]) => [track.offsetLeft + share * track.offsetWidth,
      track.offsetTop + track.offsetHeight / 2]);
  picture.setAttribute("viewBox", `0 0 ${parent.clientWidth} ${parent.clientHeight}`);
  picture.setAttribute("aria-label",
    `Shares added up: ${shares.map((share) => `${percent(share, 1)} %`).join(", ")}`);
  const d = points.map(([x, y], index) => `${index ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
  picture.replaceChildren(...(points.length > 1 ? [svg("path", { class: "halo", d }),
    svg("path", { class: "sum", d })] : []),
  ...points.map(([cx, cy]) => svg("circle", { class: "sum", cx, cy, r: 4 })));
}
