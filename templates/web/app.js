// Starts the page: shows the state of gpufan in the header, opens the three views, and passes the snapshots to them.

import { get, listen } from "./api.js";
import { setAttribute, setText } from "./dom.js";
import { Now } from "./now.js";
import { Recent } from "./recent.js";
import { shortName } from "./text.js";

const VIEWS = ["now", "then", "shape"];
const element = (id) => document.getElementById(id);

const recent = new Recent();
const now = new Now(element("cards"), element("empty"), element("case-fans"));
const views = { then: null, shape: null };
let box = null;
let latest = { time_s: Date.now() / 1000, interval_s: 1, cards: [], quiet: "" };
let lost = false;
let loading = null;

function setState(state, text, remedy) {
  setAttribute(element("state"), "data-state", state);
  setText(element("state-text"), text);
  setText(element("state-remedy"), remedy);
}

function load() {
  loading = loadBox();
  return loading;
}

async function loadBox() {
  box = await get("box");
  now.setCards(box.cards);
  now.setEmpty(box.cards.length ? "" : "gpufan has seen no card yet. `gpufan list` says which cards there are.");
  setText(
    element("about"),
    `gpufan ${box.version}${box.simulated ? " · simulated cards" : ""} · times are local to this browser`,
  );
  recent.seed((await get("recent")).cards);
  for (const view of Object.values(views)) view?.setBox(box);
  views[viewOfAddress()]?.open(); // it may not have loaded its data before
}

async function heard(snapshot) {
  latest = snapshot;
  await loading;
  if (lost || snapshot.cards.some((card) => !now.has(card))) await load();
  lost = false;
  recent.add(snapshot);
  const { state, text, remedy } = snapshot.daemon;
  const runs = state === "running";
  const troubled = runs ? snapshot.cards.filter((card) => card.severity === "problem") : [];
  const count = snapshot.cards.length;
  const cards = runs ? `${count} ${count === 1 ? "card" : "cards"}, read every ${snapshot.interval_s} s` : "";
  const help = troubled.length ? `Needs help: ${troubled.map((card) => shortName(card.label)).join(", ")}` : remedy || cards;
  setState(troubled.length ? "problem" : state, text, help);
  const hottest = Math.max(...snapshot.cards.map((card) => card.temperature_c ?? 0));
  document.title = runs && hottest > 0 ? `${Math.round(hottest)} °C · gpufan` : "gpufan";
  show();
  views.shape?.show(snapshot);
}

function silent(failure) {
  lost = true;
  loading = null;
  document.title = "gpufan";
  const refused = failure.status === 401 || failure.status === 403;
  const remedy = refused
    ? "Open the link that the terminal of gpufan web shows, or sudo gpufan web --url prints."
    : "Check that it still runs, and that the SSH tunnel is open. This page tries again every second.";
  setState("silent", refused ? "This link is not valid any more" : failure.message, remedy);
  latest = { ...latest, daemon: { state: "silent" } };
  show();
}

function show() {
  if (element("now").hidden) return;
  const trusted = latest.daemon && (latest.daemon.state === "running" || latest.daemon.state === "starting");
  now.show(latest, recent, trusted);
}

async function open(name) {
  for (const view of VIEWS) {
    element(view).hidden = view !== name;
    setAttribute(element(`tab-${view}`), "aria-selected", view === name);
    setAttribute(element(`tab-${view}`), "tabindex", view === name ? 0 : -1);
  }
  if (name === "then" && !views.then) views.then = new (await import("./then.js")).Then(element("then"), box);
  if (name === "shape" && !views.shape) views.shape = new (await import("./shape.js")).Shape(element("shape"), box);
  views[name]?.open();
  show();
}

function viewOfAddress() {
  const name = location.hash.slice(1);
  return VIEWS.includes(name) ? name : "now";
}

document.querySelector("[role=tablist]").addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step && event.key !== "Home" && event.key !== "End" && event.key !== " ") return;
  event.preventDefault();
  const at = VIEWS.indexOf(event.target.id.replace("tab-", ""));
  const next = { Home: 0, End: VIEWS.length - 1, " ": at }[event.key] ?? (at + step + VIEWS.length) % VIEWS.length;
  location.hash = VIEWS[next];
  element(`tab-${VIEWS[next]}`).focus();
});
addEventListener("hashchange", () => open(viewOfAddress()));

open(viewOfAddress());
load().catch(silent);
listen((snapshot) => heard(snapshot).catch(silent), silent);
