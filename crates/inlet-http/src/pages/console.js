// The console: what a token may see, asked for from the API of this server and shown as text.
// Nothing is loaded from elsewhere, and nothing that was stored is ever taken for markup.
"use strict";

const TOKEN = "inlet-token";
const PAGE = 50;
const element = (id) => document.getElementById(id);

let view = "streams";
let cursor = null;

class Problem extends Error {}

async function ask(path, options = {}) {
  const headers = { "X-Auth-Token": sessionStorage.getItem(TOKEN) ?? "", Accept: "application/json" };
  if (options.body) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, { ...options, headers, cache: "no-store" });
  } catch {
    throw new Problem("The server can't be reached.");
  }
  if (answer.status === 204) return null;
  const text = await answer.text();
  let json = null;
  try {
    json = JSON.parse(text);
  } catch {
    throw new Problem(`The server answered ${answer.status} without JSON.`);
  }
  if (!answer.ok) throw new Problem(`${json.title ?? answer.status}: ${json.detail ?? ""}`);
  return json;
}

function make(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function say(text, wrong = false) {
  element("said").textContent = text;
  element("said").classList.toggle("wrong", wrong);
}

const count = (number) => Number(number ?? 0).toLocaleString("en-US").replaceAll(",", "\u202f");
const moment = (text) => (text ? text.replace("T", " ").replace(/\.\d+Z$/, "Z") : "–");

function size(bytes) {
  const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (bytes >= 1024 && unit < units.length - 1) {
    bytes /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? bytes : bytes.toFixed(1)} ${units[unit]}`;
}

function table(columns, rows) {
  const head = make("tr", {}, ...columns.map(([name, kind]) =>
    make("th", { textContent: name, className: kind ?? "", scope: "col" })));
  const body = make("tbody");
  for (const row of rows) {
    body.append(make("tr", {}, ...row.map((cell, index) =>
      make("td", { className: columns[index][1] ?? "" }, cell))));
  }
  return make("table", {}, make("thead", {}, head), body);
}

// Adds the rows of a further page to what is shown, or shows the first.
function show(columns, rows, further) {
  const made = table(columns, rows);
  const shown = element("view").querySelector("tbody");
  if (further && shown) shown.append(...made.tBodies[0].rows);
  else element("view").replaceChildren(made);
}

function link(text, action) {
  const made = make("button", { className: "plain", type: "button" }, make("code", { className: "id", textContent: text }));
  made.addEventListener("click", () => guard(action));
  return made;
}

function detail(title, facts, body, erasable) {
  element("detail-title").textContent = title;
  const list = make("dl");
  for (const [name, value] of Object.entries(facts)) {
    if (value === null || value === undefined || value === "") continue;
    list.append(make("dt", { textContent: name }), make("dd", { textContent: String(value) }));
  }
  const parts = [list];
  if (typeof body === "string") parts.push(make("pre", {}, make("code", { textContent: body })));
  element("detail-content").replaceChildren(...parts);
  const erase = element("erase");
  erase.hidden = !erasable;
  erase.onclick = () => guard(async () => {
    if (!confirm(`Erase document ${erasable} for good?`)) return;
    await ask(`/api/documents/${encodeURIComponent(erasable)}`, { method: "DELETE" });
    element("detail").close();
    await open(view);
  });
  if (!element("detail").open) element("detail").showModal();
}

async function document_(id) {
  const { body, ...facts } = await ask(`/api/documents/${encodeURIComponent(id)}?view=full`);
  detail("Document", facts, body, id);
}

async function receipt(id) {
  const facts = await ask(`/api/receipts/${encodeURIComponent(id)}`);
  detail(`Receipt: ${facts.state}`, facts, null, facts.state === "stored" ? id : null);
}

function field(label, name, placeholder = "", value = "") {
  return make("label", {}, label, make("input", { name, placeholder, value, autocomplete: "off", spellcheck: false }));
}

const filterOf = () => Object.fromEntries(
  [...new FormData(element("filter"))].map(([name, value]) => [name, value.trim()]).filter(([, value]) => value));

function query(parameters) {
  const given = new URLSearchParams(parameters);
  if (cursor) given.set("cursor", cursor);
  given.set("limit", PAGE);
  return given.toString();
}

const VIEWS = {
  streams: {
    filter: () => [],
    async load() {
      const { streams } = await ask("/api/streams");
      show([["Stream"], ["Documents", "n"], ["Size", "n"], ["First"], ["Last"]], streams.map((stream) => [
        link(stream.stream, () => open("documents", { stream: stream.stream })),
        count(stream.documents), size(stream.bytes), moment(stream.first), moment(stream.last)]));
      return streams.length ? `${count(streams.length)} streams` : "There is no stream yet: nothing was stored.";
    },
  },
  documents: {
    filter: (given) => [
      field("Stream", "stream", "all", given.stream), field("From", "from", "2026-11-21T00:00:00Z", given.from),
      field("To", "to", "", given.to), make("button", { className: "main" }, "Show")],
    async load(further) {
      const page = await ask(`/api/documents?${query(filterOf())}`);
      show([["Document"], ["Stream"], ["Received"], ["Size", "n"], ["Body", "body"]], page.documents.map((document) => [
        link(document.id, () => document_(document.id)), document.stream, moment(document.received),
        size(document.bytes), document.body.slice(0, 120)]), further);
      cursor = page.next;
      element("more").hidden = !page.more;
      return page.documents.length || further ? "" : "No document meets this.";
    },
  },
  "dead-letters": {
    filter: (given) => {
      const dry = make("button", { type: "button" }, "Count what would be redriven");
      dry.addEventListener("click", () => guard(() => redrive(true)));
      const real = make("button", { type: "button" }, "Redrive");
      real.addEventListener("click", () => guard(() => redrive(false)));
      return [field("Where", "where", "stream=orders,cause=refused", given.where),
        make("button", { className: "main" }, "Show"), dry, real];
    },
    async load(further) {
      const page = await ask(`/api/dead-letters?${query(filterOf())}`);
      show([["Document"], ["Stream"], ["Died"], ["Attempts", "n"], ["Cause"], ["Redriven"]], page.dead_letters.map((letter) => [
        link(letter.id, () => {
          const { body, body_base64, ...facts } = letter;
          detail("Dead letter", facts, body ?? `base64: ${body_base64}`, null);
        }),
        letter.stream, moment(letter.died), count(letter.attempts),
        letter.detail ? `${letter.cause}: ${letter.detail}` : letter.cause, moment(letter.redriven)]), further);
      cursor = page.next;
      element("more").hidden = !page.more;
      return page.dead_letters.length || further ? "" : "There are no dead letters.";
    },
  },
  summaries: {
    filter: () => [],
    async load() {
      const { summaries } = await ask("/api/summaries");
      show([["Week"]], summaries.map(({ week, json }) => [link(week, () => summary(json))]));
      return summaries.length ? "" : "No summary was written yet.";
    },
  },
  receipt: {
    filter: (given) => [field("Id", "id", "019aa2f0-1111-7222-8333-444455556666", given.id),
      make("button", { className: "main" }, "Look up")],
    async load() {
      const { id } = filterOf();
      element("view").replaceChildren();
      if (!id) return "The MessageId of an answer, or the end of its Location.";
      await receipt(id);
      return "";
    },
  },
};

async function redrive(dryRun) {
  const where = filterOf().where ?? "";
  if (!dryRun && !confirm(where ? `Redrive all dead letters where ${where}?` : "Redrive all dead letters?")) return;
  const done = await ask("/api/dead-letters/redrive", {
    method: "POST", body: JSON.stringify({ where, dry_run: dryRun }),
  });
  if (!dryRun) await open(view, filterOf());
  const word = dryRun ? "would go back" : "went back";
  say(`${count(done.redriven)} of ${count(done.matched)} ${word} to the queue.`);
}

async function summary(path) {
  const week = await ask(path);
  detail(`Week ${week.week}`, {
    documents: count(week.total.documents), size: size(week.total.bytes), zone: week.zone,
    from: moment(week.from), to: moment(week.to), made: moment(week.made),
    complete: week.complete ? "yes" : "not yet",
  }, week.streams.map((stream) =>
    `${stream.stream.padEnd(24)} ${count(stream.documents).padStart(12)}  ${size(stream.bytes)}`).join("\n"), null);
}

async function open(name, given = {}) {
  view = name;
  cursor = null;
  for (const tab of document.querySelectorAll("[role=tab]")) {
    tab.setAttribute("aria-selected", String(tab.dataset.view === name));
  }
  element("filter").replaceChildren(...VIEWS[name].filter(given));
  await load(false);
}

async function load(further) {
  element("more").hidden = true;
  say("…");
  if (!further) element("view").replaceChildren();
  say(await VIEWS[view].load(further));
}

// Runs what a person asked for, and tells what went wrong.
async function guard(action) {
  try {
    await action();
  } catch (error) {
    say(error instanceof Problem ? error.message : "Something went wrong in this page.", true);
    if (element("detail").open) element("detail").close();
    if (!(error instanceof Problem)) console.error(error);
  }
}

// Shows what an operator should mend though everything works.
async function warn() {
  const { warnings } = await ask("/");
  element("warnings").textContent = warnings.join(" ");
  element("warnings").hidden = warnings.length === 0;
}

function signedIn(yes) {
  element("sign-in").hidden = yes;
  element("opened").hidden = !yes;
  if (yes) guard(() => Promise.all([open(view), warn()]));
}

element("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(TOKEN, element("token").value.trim());
  element("token").value = "";
  signedIn(true);
});
element("sign-out").addEventListener("click", () => {
  sessionStorage.removeItem(TOKEN);
  signedIn(false);
});
element("filter").addEventListener("submit", (event) => {
  event.preventDefault();
  cursor = null;
  guard(() => load(false));
});
element("more").addEventListener("click", () => guard(() => load(true)));
for (const tab of document.querySelectorAll("[role=tab]")) {
  tab.addEventListener("click", () => guard(() => open(tab.dataset.view)));
}
signedIn(sessionStorage.getItem(TOKEN) !== null);
