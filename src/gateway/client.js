// The browser's side of a session. No token ever comes here. It is served without comments and indentation.

const base = new URL(".", import.meta.url);
const listeners = new Set();
// Of who is signed in: undefined before the first answer, null for nobody.
let key;
// `stop` ends the listening to the server.
let channel, stop, asked = 0, heard = 0;

/** Who is signed in: `{ claims, session }`, or null. */
export const user = () => ask();

/** Goes to the login, and then to `returnTo`, a path here; or, with `popup`, resolves to who has signed in there. */
export async function login({ popup, returnTo = location.pathname + location.search + location.hash, ...more } = {}) {
  if (popup) returnTo = base.pathname + "popup";
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries({ returnTo, ...more })) {
    if (value != null) query.set(name.replace(/[A-Z]/g, (it) => "_" + it.toLowerCase()), value);
  }
  const url = `${base}login?${query}`;
  if (!popup) return location.assign(url);
  if (!open(url, "vestibule", "width=500,height=700")) throw new Error("pop-up blocked");
  // The pages in it may cut it off from this one. The channel they cannot cut.
  await new Promise((go) => tabs().addEventListener("message", ({ data }) => data[0] === "popup" && go()));
  return ask(true);
}

/** Ends the session, tells all tabs, goes where the server says. */
export async function logout() {
  const { redirect } = await read((await call(`${base}logout`, { method: "POST" })).answer);
  // It is news, whatever was known.
  key = undefined;
  learn(++asked, null, "logout", true);
  location.assign(redirect);
}

/** The browser's `fetch`, proven to be of this site, and tried again where that helps. */
export async function fetch(input, init) {
  const turn = ++asked;
  const { answer, problem } = await call(input, init);
  if (problem?.reason !== undefined) learn(turn, null, problem.reason, true);
  return answer;
}

/** Calls `callback(user, reason)` when a session begins or ends. Returns what stops it. */
export const onSessionChange = (callback) =>
  onSessionEvent(({ user, reason }) => user !== undefined && callback(user, reason));

/** Calls `callback({ type, … })` when a session has begun, is expiring, was extended or has ended. As above. */
export function onSessionEvent(callback) {
  listeners.add(callback);
  tabs();
  listen();
  return () => {
    listeners.delete(callback);
    listen();
  };
}

async function ask(loud, hint) {
  const turn = ++asked;
  const { answer, problem } = await call(`${base}user`, { cache: "no-store" });
  const found = answer.status === 401 ? null : await read(answer);
  learn(turn, found, found ? null : (problem?.reason ?? hint), loud);
  return found;
}

// Takes an answer, unless a later question's is known. The first one is no news.
function learn(turn, user, reason = null, loud = key !== undefined) {
  if (turn < heard) return;
  heard = turn;
  const known = key;
  key = user && JSON.stringify(user.claims);
  listen();
  if (key === known) return;
  tabs().postMessage([key, reason]);
  if (loud) tell({ type: user ? "begun" : "ended", user, reason });
}

function tell(event) {
  for (const it of listeners) queueMicrotask(() => it(event));
}

const look = async (hint) => {
  if (listeners.size) await ask(true, hint).catch(() => {});
  listen();
};

function tabs() {
  if (channel) return channel;
  document.addEventListener("visibilitychange", () => (document.hidden ? listen() : look()));
  channel = new BroadcastChannel("vestibule");
  // Another tab's word on who is signed in is only a hint: the server is asked.
  channel.onmessage = ({ data }) => (data.type ? tell(data) : data[0] !== key && look(data[1]));
  return channel;
}

// Of the tabs that can be seen one listens to the server, and passes on what it hears. Without locks each listens.
function listen(wanted = key && listeners.size && !document.hidden) {
  if (!wanted) {
    stop = stop?.abort();
  } else if (!stop) {
    const { signal } = (stop = new AbortController());
    const work = () => follow(signal);
    navigator.locks?.request("vestibule", { signal }, work).catch(() => {}) ?? work();
  }
}

function follow(signal) {
  const source = new EventSource(`${base}session`);
  const again = (reason) => {
    listen(false);
    look(reason);
  };
  // Refused, which may mean that nobody is signed in. After all else it tries again by itself.
  source.onerror = () => source.readyState > 1 && setTimeout(again, 5000);
  for (const type of ["session", "expiring", "extended", "ended"]) {
    source.addEventListener(type, ({ data }) => {
      const event = { type, ...JSON.parse(data) };
      if (type === "ended") {
        source.close();
        // The cookie of a newer login may still be on its way.
        setTimeout(again, 500, event.reason);
      } else {
        tell(event);
        channel.postMessage(event);
      }
    });
  }
  return new Promise((done) => (signal.onabort = () => done(source.close())));
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
      // The next try then fails as it should.
      request.signal.onabort = go;
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
