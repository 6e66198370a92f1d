// One verdict in full, as a card: a sentence, the pictures, three labels, the cost in words, the
// part's other views; the message as it came is folded.

import { clock, make, mark, percent, say } from "./draw.js";
import { meaning, thumb } from "./lists.js";

const $ = (id) => document.getElementById(id);

/** Opens the card of a verdict. role: what this account may do. */
export async function openCard(station, id, role) {
  const answer = await fetch(`verdict?${new URLSearchParams({ station, id })}`);
  const title = $("full-title"), body = $("full-body");
  if (!answer.ok) {
    say(title, "This verdict is no longer in the list");
    body.replaceChildren(make("p", "", "Without records, the dashboard keeps the newest two thousand."));
  } else {
    const { verdict, card, pictures, views, truth } = await answer.json();
    const symbol = meaning(verdict);
    title.replaceChildren(make("span", symbol, mark(symbol), ` ${verdict.label}`),
      make("span", "note", [verdict.part_id, verdict.die].filter(Boolean).join(" · ")));
    body.replaceChildren(...[
      make("p", "sentence", card.sentence),
      make("p", "note", `${station}, ${clock(verdict.time, true)}, camera ${verdict.camera}`
        + (verdict.bundle?.version ? `, bundle version ${verdict.bundle.version}` : "")),
      pictures ? photographs(id) : null, card.labels.length ? labels(card.labels) : null,
      card.cost ? make("p", "cost", card.cost) : null,
      truth ? make("p", "truth", `${truth.who} labelled it ${truth.label}.`) : null,
      role === "look" ? null : labelling(verdict, card.labels, () => openCard(station, id, role)),
      views.length ? others(station, views, role) : null, raw(verdict),
    ].filter((part) => part !== null));
  }
  if (!$("full").open) $("full").showModal();
  $("full").scrollTop = 0;
}

/** What the station kept of this view; one that it does not have is left out. */
function photographs(id) {
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

function labels(shares) {
  const rows = shares.map(({ label, share }) => {
    const bar = make("i");
    bar.style.width = `${(100 * share).toFixed(1)}%`;
    return make("div", "row", make("span", "label", label), make("span", "track", bar),
      make("span", "figure", `${percent(share, 1)} %`));
  });
  return make("div", "bars", make("div", "rows", ...rows));
}

function others(station, views, role) {
  const list = make("ul", "views", ...views.map((view) => {
    const symbol = meaning(view);
    const button = make("button", "", view.pictures ? thumb(view.id) : null, mark(symbol),
      ` ${view.die}: ${view.label}`);
    button.type = "button";
    button.classList.add(symbol);
    button.addEventListener("click", () => openCard(station, view.id, role));
    return make("li", "", button);
  }));
  return make("section", "", make("h3", "", "The part's other views"), list);
}

/** What a person says it truly is. done: called when it is stored. */
function labelling(verdict, likeliest, done) {
  const names = [...new Set(["GOOD", ...likeliest.map(({ label }) => label),
    ...Object.keys(verdict.probabilities), "DRIFT", "UNUSABLE"])];
  const select = make("select", "", ...names.map((name) => new Option(name, name)));
  select.name = "label";
  const note = make("input");
  note.name = "note";
  note.maxLength = 200;
  note.placeholder = "how it was found";
  const error = make("p", "REJECT");
  error.setAttribute("role", "alert");
  const button = make("button", "", "Label");
  const form = make("form", "labelling", make("label", "", "It truly is ", select), note, button, error);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    const answer = await fetch("label", { method: "POST",
      headers: { "Content-Type": "application/json", "X-Edge-QC": "1" },
      body: JSON.stringify({ id: verdict.verdict_id, label: select.value, note: note.value }) });
    if (answer.ok) { done(); return; }
    button.disabled = false;
    say(error, await answer.text());
  });
  return form;
}

function raw(verdict) {
  const details = make("details", "raw", make("summary", "", "The message as it came"));
  details.append(fields(verdict));
  return details;
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
