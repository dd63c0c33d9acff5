// The whole app. All that it knows of signing in is the six functions that it imports from Vestibule.

import { look } from "./witness.js";
import { fetch as call, login, logout, onSessionChange, onSessionEvent, user } from "/bff/client.js";

const TOKEN_LIFETIME = 30;
const BURST = 20;
const STEADY_MS = 5_000;
const POLL_MS = 5_000;

const at = (id) => document.getElementById(id);

/** The answer of `/bff/session`, and when it came, by the clock of this page in milliseconds. */
let times = null;
let lastFingerprint = null;

at("sign-in").addEventListener("click", () => login({ returnTo: location.pathname }));
at("sign-out").addEventListener("click", () => logout());
at("call").addEventListener("click", () => callOnce());
at("burst").addEventListener("click", () => callAtOnce());
at("plant").addEventListener("click", () => plant());
onSessionChange(() => showUser());
onSessionEvent(({ type, reason, seconds }) => {
  if (type === "expiring") note(`The session ends in ${seconds} s${reason === "idle" ? " unless it is used" : ""}.`);
});

sessionStorage.removeItem("planted");
setInterval(() => at("steady").checked && callOnce(), STEADY_MS);
setInterval(() => times && !document.hidden && readTimes(), POLL_MS);
setInterval(showTimes, 250);
showUser();

// ---- who is signed in

async function showUser() {
  let person;
  try {
    person = await user();
  } catch {
    return showTrouble("Vestibule does not answer. The session is kept; this page asks again with the next click.");
  }
  showTrouble();
  at("who").textContent = person ? describe(person.claims) : "Nobody is signed in";
  at("sign-in").hidden = Boolean(person);
  at("sign-out").hidden = !person;
  if (person && !times) note(`Signed in as ${describe(person.claims)}.`);
  if (!person && times) note("Signed out.");
  if (person) {
    await readTimes();
  } else {
    times = null;
  }
  showTimes();
  await showSight();
}

function describe({ name, email, sub }) {
  return name ?? email ?? sub;
}

function showTrouble(text = "") {
  at("offline").textContent = text;
  at("offline").hidden = !text;
}

// ---- how long the session lasts

async function readTimes() {
  let response;
  try {
    response = await fetch("/bff/session", { headers: { "x-csrf": "1" } });
  } catch {
    return showTrouble("Vestibule does not answer. It will be asked again in a moment.");
  }
  showTrouble();
  if (response.status === 401) {
    if (times) await showUser();
    return;
  }
  if (!response.ok) return;
  const before = times;
  times = { ...(await response.json()), at: performance.now() };
  if (before && times.generation > before.generation) note("Vestibule has renewed the access token.");
  showTimes();
}

function showTimes() {
  at("times").hidden = !times;
  at("no-session").hidden = Boolean(times);
  if (!times) return;
  const passed = (performance.now() - times.at) / 1000;
  const left = (seconds) => Math.max(0, Math.round((seconds ?? 0) - passed));
  const token = left(times.token_expires_in);
  at("token-left").textContent = token > 0 ? `${token} s` : "over";
  at("token-bar").style.setProperty("--left", Math.min(1, token / TOKEN_LIFETIME));
  at("token-note").textContent = tokenNote(token);
  at("generation").textContent = ["not yet", "once"][times.generation - 1] ?? `${times.generation - 1} times`;
  at("idle-left").textContent = span(left(times.idle_ends_in));
  at("session-left").textContent = span(left(times.ends_in));
}

function tokenNote(seconds) {
  if (seconds === 0) return "The next call waits for a new one, for a moment.";
  if (seconds <= TOKEN_LIFETIME / 3) return "The next call goes ahead with this one while a new one is fetched.";
  return "Good. Calls go straight through.";
}

/** `1:02:03`, or `2:03` below an hour. */
function span(seconds) {
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
  const two = (number) => String(number).padStart(2, "0");
  return hours ? `${hours}:${two(minutes)}:${two(seconds % 60)}` : `${minutes}:${two(seconds % 60)}`;
}

// ---- calls

async function callOnce() {
  const { status, body } = await order("/api/orders");
  at("echo").textContent = typeof body === "string" ? body : JSON.stringify(body, null, 2);
  at("echo").hidden = !body;
  at("call-summary").textContent = summary(status, body?.token);
  await settle();
}

async function callAtOnce() {
  at("burst").disabled = true;
  at("burst-result").hidden = false;
  at("burst-summary").textContent = "Calling…";
  const squares = Array.from({ length: BURST }, () => document.createElement("li"));
  at("squares").replaceChildren(...squares);
  const started = performance.now();
  const results = await Promise.all(
    squares.map(async (square, index) => {
      const result = await order(`/api/orders/${index + 1}`);
      square.className = result.status === 200 ? "good" : "bad";
      return result;
    }),
  );
  const elapsed = Math.round(performance.now() - started);
  const statuses = count(results.map(({ status }) => status || "no answer"));
  const tokens = new Set(results.map(({ body }) => body?.token?.fingerprint).filter(Boolean)).size;
  at("burst-summary").textContent = `${statuses} in ${elapsed} ms. ${seen(tokens)}`;
  at("burst").disabled = false;
  await settle();
}

/** One call; status 0 if there was no answer at all. */
async function order(path) {
  try {
    const response = await call(path);
    const text = await response.text();
    try {
      return { status: response.status, body: JSON.parse(text) };
    } catch {
      return { status: response.status, body: text };
    }
  } catch {
    return { status: 0 };
  }
}

function summary(status, token) {
  if (status === 0) return "No answer.";
  if (status === 401) return "401: Vestibule refused the call. Without a session the API is not even asked.";
  if (!token?.fingerprint) return `Status ${status}.`;
  const changed = lastFingerprint && lastFingerprint !== token.fingerprint;
  lastFingerprint = token.fingerprint;
  const which = changed ? "a newer one than last time" : "its fingerprint";
  return `${status}: the API knows ${token.subject} by an access token (${which}: ${token.fingerprint}).`;
}

function seen(tokens) {
  if (tokens === 0) return "None of them reached the API.";
  return tokens === 1 ? "All with one token." : `With ${tokens} different tokens.`;
}

/** `200 × 19, 503 × 1` */
function count(values) {
  const counts = new Map();
  values.forEach((value) => counts.set(value, (counts.get(value) ?? 0) + 1));
  return [...counts].map(([value, number]) => `${value} × ${number}`).join(", ");
}

async function settle() {
  if (times) await readTimes();
  await showSight();
}

// ---- what a script can see

async function showSight() {
  const places = await look();
  at("places").replaceChildren(...places.map(row));
  const found = places.filter((place) => place.found);
  at("verdict").className = found.length ? "verdict bad" : "verdict good";
  at("verdict").textContent = found.length
    ? `Found ${found[0].found} in ${found[0].name}.`
    : "No token anywhere. There is nothing here to steal and use elsewhere.";
}

function row({ name, summary, found }) {
  const [group, term, detail] = ["div", "dt", "dd"].map((tag) => document.createElement(tag));
  group.className = found ? "bad" : "good";
  term.textContent = name;
  detail.textContent = summary;
  group.append(term, detail);
  return group;
}

function plant() {
  const planted = at("plant").getAttribute("aria-pressed") === "true";
  if (planted) {
    sessionStorage.removeItem("planted");
  } else {
    sessionStorage.setItem("planted", "at-this-one-is-not-real-0123456789");
  }
  at("plant").setAttribute("aria-pressed", String(!planted));
  at("plant").textContent = planted ? "Plant a fake token, to test the search" : "Take the fake token away";
  showSight();
}

// ---- the log

function note(text) {
  const [line, time] = [document.createElement("li"), document.createElement("time")];
  time.textContent = new Date().toLocaleTimeString("en-GB");
  line.append(time, text);
  at("log").prepend(line);
  while (at("log").children.length > 5) at("log").lastChild.remove();
}
