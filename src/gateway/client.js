// The browser's side of a session. No token ever comes here.

const prefix = new URL(".", import.meta.url).href.slice(0, -1);
const listeners = new Set();
let key; // Of who is signed in: undefined before the first answer, null for nobody.
let channel;
let asked = 0;
let heard = 0;

/** Who is signed in: `{ claims, session }`, or null. */
export const user = () => ask();

/** Goes to the login, and then to `returnTo`, a path here. */
export function login({ returnTo = location.pathname + location.search + location.hash, ...more } = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries({ returnTo, ...more })) {
    if (value != null) query.set(name.replace(/[A-Z]/g, (it) => "_" + it.toLowerCase()), value);
  }
  location.assign(`${prefix}/login?${query}`);
}

/** Ends the session, tells all tabs, goes where the server says. */
export async function logout() {
  const { answer } = await call(`${prefix}/logout`, { method: "POST" });
  const { redirect } = await read(answer);
  key = undefined; // It is news, whatever was known.
  learn(++asked, null, "logout", true);
  location.assign(redirect);
}

/** The browser's `fetch`, proven to be of this site, and tried again where that helps. */
export async function fetch(input, init) {
  const turn = ++asked;
  const { answer, problem } = await call(input, init);
  if (problem?.status === 401) learn(turn, null, problem.reason, true);
  return answer;
}

/** Calls `callback(user, reason)` when a session begins or ends. Returns what stops it. */
export function onSessionChange(callback) {
  listeners.add(callback);
  tabs();
  return () => listeners.delete(callback);
}

async function ask(tell) {
  const turn = ++asked;
  const { answer, problem } = await call(`${prefix}/user`, { cache: "no-store" });
  const found = answer.status === 401 ? null : await read(answer);
  learn(turn, found, problem?.reason, tell);
  return found;
}

// Takes an answer, unless a later question's is known. The first one is no news.
function learn(turn, found, reason = null, tell = key !== undefined) {
  if (turn < heard) return;
  heard = turn;
  const next = found && JSON.stringify(found.claims);
  if (next === key) return;
  key = next;
  tabs().postMessage(key);
  if (tell) for (const it of listeners) queueMicrotask(() => it(found, reason));
}

function tabs() {
  if (channel) return channel;
  const look = (tell) => listeners.size && ask(tell).catch(() => {});
  document.addEventListener("visibilitychange", () => document.hidden || look());
  channel = new BroadcastChannel("vestibule");
  // Another tab's word is only a hint: the server is asked.
  channel.onmessage = ({ data }) => data !== key && look(true);
  return channel;
}

async function call(input, init, first = true) {
  const request = new Request(input, init);
  const own = request.url.startsWith(`${location.origin}/`);
  if (own) request.headers.set("X-CSRF", "1");
  const safe = /^(GET|HEAD)$/.test(request.method);
  const streams = init?.body instanceof ReadableStream || (input instanceof Request && !safe);

  const answer = await globalThis.fetch(request);
  const problem = own && (await problemOf(answer));
  const wait = parseFloat(answer.headers.get("Retry-After"));
  const busy = problem?.status === 503 && safe && wait <= 10;
  if (!first || !(busy || (problem?.reason === "replaced" && !streams))) return { answer, problem };
  if (busy) {
    await new Promise((go) => {
      setTimeout(go, wait * 1000);
      request.signal.onabort = go; // The next try then fails as it should.
    });
  }
  return call(input, init, false);
}

// A problem (RFC 9457) of Vestibule itself, not of the API.
async function problemOf(answer) {
  if (!/^application\/problem\+json/.test(answer.headers.get("Content-Type"))) return;
  const problem = await answer.clone().json().catch(() => {});
  if (/^urn:vestibule:/.test(problem?.type)) return problem;
}

function read(answer) {
  if (!answer.ok) throw new Error(`${answer.url}: ${answer.status}`, { cause: answer });
  return answer.json();
}
