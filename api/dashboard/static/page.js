// What makes a page live: it asks anew for the parts that have changed, when the stream of events says so.
// Without it every page can be read, and every button works.
import { follow } from "./stream.js";
import { moveByKeys } from "./keys.js";
import { complete } from "./complete.js";
import { dragRanges } from "./chart.js";

const ROWS_EVERY = 250; // milliseconds between two looks at rows that have changed
const LIST_EVERY = 800; // at the list, for jobs that are new
const OVERVIEW_EVERY = 1500; // at the counts and the chart
const QUIET_EVERY = 15000; // at the counts, and at the bars of a job that waits or runs, while nothing happens
const BULK_EVERY = 1000; // at a bulk operation, until it is over
const WORKERS_EVERY = 5000; // at workers, schedules and webhooks: a sign of life, or a due time that is skipped, is no event
const NOTICE_FOR = 6000;
const KEYS_REST = 1000;

const body = document.body, live = document.getElementById("live");
const by = (id) => document.getElementById(id);
let paused = false, stream = "open"; // or "lost", "refused", "waiting", "again"

export function notice(text, grave = false) {
  const line = document.createElement("p");
  line.className = grave ? "notice grave" : "notice";
  line.textContent = text;
  by("notices").append(line);
  setTimeout(() => line.remove(), NOTICE_FOR);
}

// The page leads to the sign-in, and back. What somebody has typed or selected stays, and they are told.
let told = false;
function signedOut() {
  const changed = (field) => (["checkbox", "radio"].includes(field.type) ? field.checked !== field.defaultChecked
    : field.type !== "range" && field.value !== field.defaultValue);
  if (![...document.querySelectorAll("main input, main textarea")].some(changed)) location.reload();
  else if (!told) notice("You are signed out. Sign in in another tab: what you have typed stays here.", true);
  told = true;
}

const morphing = {
  morphStyle: "innerHTML",
  ignoreActiveValue: true,
  callbacks: { beforeAttributeUpdated: (name, node) => !(name === "open" && node.tagName === "DETAILS") && name !== "checked" },
};

async function part(address, parameters) {
  const asked = new URL(address, location.href);
  for (const [name, value] of Object.entries(parameters)) asked.searchParams.set(name, value);
  const answer = await fetch(asked, { headers: { Accept: "text/x-part" } });
  if (answer.status === 401) { signedOut(); return null; }
  if (!answer.ok) throw new Error(`${answer.status}`);
  return answer.text();
}

// Runs a look again and again when it is asked for, never twice at a time, and leaves the server four times the time
// that the last look took.
function throttled(look, every) {
  let wanted = false, running = false, next = 0;
  async function run() {
    running = true;
    const wait = next - performance.now();
    if (wait > 0) await new Promise((done) => setTimeout(done, wait));
    wanted = false;
    if (paused) { running = false; return; } // what has changed is looked at when it goes on
    const began = performance.now();
    try { await look(); } catch { wanted = false; }
    next = performance.now() + Math.max(every, 4 * (performance.now() - began));
    running = false;
    if (wanted && !paused) run();
  }
  return () => { wanted = true; if (!running && !paused) run(); };
}

const changed = new Set();

async function lookAtRows() {
  const ids = [...changed].filter((id) => by(`job-${id}`));
  changed.clear();
  if (!ids.length) return;
  const table = document.createElement("table");
  table.innerHTML = (await part(location.href, { part: "rows", ids: ids.join(",") })) ?? "";
  if (paused) return;
  for (const row of table.querySelectorAll("tr[id]")) {
    const old = by(row.id);
    if (old) Idiomorph.morph(old, row, { ...morphing, morphStyle: "outerHTML" });
  }
  afterwards();
}

async function lookAt(id, name) {
  const html = await part(location.href, { part: name });
  if (html !== null && !paused) Idiomorph.morph(by(id), html, morphing);
  afterwards();
}

const rows = throttled(lookAtRows, ROWS_EVERY);
const list = throttled(() => lookAt("list", "list"), LIST_EVERY);
const overview = throttled(() => lookAt("overview", "overview"), OVERVIEW_EVERY);
const whole = throttled(() => lookAt("body", "body"), ["job", "bulk"].includes(body.dataset.live) ? ROWS_EVERY : OVERVIEW_EVERY);

function heard(name, data) {
  if (body.dataset.live !== "jobs") { whole(); return; }
  overview();
  if (name === "resync" || !by(`job-${data.jobId}`)) { list(); return; }
  changed.add(data.jobId);
  rows();
  if (new URLSearchParams(location.search).get("q")) list(); // it may match no more
}

function everything() {
  if (body.dataset.live !== "jobs") whole(); else { list(); overview(); }
}

function show() {
  const lost = ["lost", "refused", "waiting"].includes(stream);
  live.textContent = paused ? "paused" : lost ? "not live" : "live";
  live.classList.toggle("paused", paused);
  live.classList.toggle("lost", lost);
  live.title = stream === "waiting" ? "Other windows are live. This one looks every 5 seconds, and is live when one of them is closed." : "";
}

function pause(on) {
  paused = on;
  live.setAttribute("aria-pressed", String(on));
  show();
  if (!on) everything();
}

// Times

const UNITS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
const span = (seconds) => {
  const [size, unit] = UNITS.find(([size]) => seconds >= size) ?? [1, "s"];
  return `${Math.max(0, Math.floor(seconds / size))} ${unit}`;
};

function tick() {
  if (paused) return;
  for (const time of document.querySelectorAll("time[data-ago]")) {
    const seconds = (Date.now() - Date.parse(time.dateTime)) / 1000;
    time.textContent = seconds < 1 ? "now" : `${span(seconds)} ago`;
  }
  for (const time of document.querySelectorAll("time[data-until]")) {
    const seconds = (Date.parse(time.dateTime) - Date.now()) / 1000;
    time.textContent = seconds > 1 ? `in ${span(seconds)}` : "now";
  }
  for (const time of document.querySelectorAll("time[data-since]")) {
    time.textContent = span((Date.now() - Date.parse(time.dataset.since)) / 1000);
  }
}

// Buttons

function afterwards() {
  tick();
  for (const button of document.querySelectorAll("[data-copy]")) button.hidden = !navigator.clipboard;
  recount();
}

document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (!form.dataset.act) return;
  event.preventDefault();
  const button = form.querySelector("button");
  button.disabled = true;
  try {
    const answer = await fetch(form.action, { method: "POST", headers: { Accept: "application/json" } });
    if (answer.status === 401) { signedOut(); return; }
    const said = await answer.json();
    notice(said.message ?? said.detail, !answer.ok);
  } catch {
    notice("The server cannot be reached. Nothing was changed, as far as is known here.", true);
  }
  button.disabled = false;
  everything();
});

// What can be done with many jobs is offered when some are selected.
function recount() {
  const bulk = by("bulk"), all = by("pick-all");
  if (!bulk) return;
  const picks = [...document.querySelectorAll(".pick")], count = picks.filter((pick) => pick.checked).length;
  bulk.classList.toggle("some", count > 0);
  bulk.querySelector("[data-selected]").textContent = count ? `the ${count} selected job${count === 1 ? "" : "s"}` : "the selected jobs";
  all.checked = count > 0 && count === picks.length;
  all.indeterminate = count > 0 && count < picks.length;
}

// With Shift all rows between two clicks are selected, or none of them.
let picked = null;
document.addEventListener("click", (event) => {
  if (!event.target.matches(".pick")) return;
  const picks = [...document.querySelectorAll(".pick")], from = picks.indexOf(picked), to = picks.indexOf(event.target);
  if (event.shiftKey && from >= 0) for (const pick of picks.slice(Math.min(from, to), Math.max(from, to) + 1)) pick.checked = event.target.checked;
  picked = event.target;
});

document.addEventListener("change", (event) => {
  if (event.target.id === "pick-all") for (const pick of document.querySelectorAll(".pick")) pick.checked = event.target.checked;
  if (event.target.matches(".pick, #pick-all")) recount();
});

document.addEventListener("click", async (event) => {
  const copied = event.target.closest("[data-copy]");
  if (!copied) return;
  await navigator.clipboard.writeText(by(copied.dataset.copy).textContent);
  notice("Copied.");
});

// The time that is looked at, dragged on a bar: minutes from now. Moved with keys, it is looked at when they rest; and then
// they move it on.
const bar = document.querySelector("[data-past]");
if (bar) {
  let keyed = false, resting;
  bar.parentElement.hidden = false;
  if (location.hash === `#${bar.id}`) bar.focus();
  bar.addEventListener("keydown", () => { keyed = true; });
  bar.addEventListener("pointerdown", () => { keyed = false; });
  bar.addEventListener("input", () => { bar.form.elements.asOf.value = Number(bar.value) ? new Date(Date.now() + bar.value * 60000).toISOString().slice(0, 16) : ""; });
  bar.addEventListener("change", () => {
    clearTimeout(resting);
    if (keyed) bar.form.action = `/#${bar.id}`;
    resting = setTimeout(() => bar.form.requestSubmit(), keyed ? KEYS_REST : 0);
  });
}

document.documentElement.dataset.scripted = "";
for (const each of document.querySelectorAll("[data-scripted][hidden]")) each.hidden = false;
afterwards();
complete(document.querySelector("input[type=search]"));
dragRanges();
document.querySelector(".bar nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
// The job of the page, in a drawing of which only a part is seen.
const drawing = by("graph"), here = drawing?.querySelector(".here");
if (here) {
  const frame = drawing.getBoundingClientRect(), place = here.getBoundingClientRect();
  drawing.scrollBy(place.left - frame.left - (frame.width - place.width) / 2, place.top - frame.top - (frame.height - place.height) / 2);
}
setInterval(tick, 1000);
moveByKeys(() => live && !live.hidden && pause(!paused));
if (body.dataset.live && live) {
  live.hidden = false;
  live.addEventListener("click", () => pause(!paused));
  const query = new URLSearchParams();
  if (body.dataset.job) query.set("jobId", body.dataset.job);
  if (body.dataset.last) query.set("lastEventId", body.dataset.last); // what has happened since the page was made
  follow(query, heard, (state) => {
    const before = stream;
    stream = state;
    show();
    if (state === "again") told = false;
    if (["again", "waiting"].includes(state) || (state === "refused" && before !== state)) everything(); // refused: it says if one is signed out
  });
  if (body.dataset.live === "jobs") setInterval(() => document.hidden || overview(), QUIET_EVERY);
  if (body.dataset.live === "job") setInterval(() => document.hidden || !document.querySelector(".spent [data-since]") || whole(), QUIET_EVERY);
  if (body.dataset.live === "bulk") setInterval(() => document.hidden || document.querySelector("[data-over]") || whole(), BULK_EVERY);
  if (["workers", "schedules", "webhooks"].includes(body.dataset.live)) setInterval(() => document.hidden || whole(), WORKERS_EVERY);
}
