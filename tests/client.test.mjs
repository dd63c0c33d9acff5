// The client module, run as one browser's tabs would run it. `node --test tests/client.test.mjs`
//
// CLIENT_JS names another copy of it: what Vestibule serves is the same without comments and spaces.

import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, beforeEach, mock, test } from "node:test";
import { pathToFileURL } from "node:url";

const source = readFileSync(process.env.CLIENT_JS ?? new URL("../src/gateway/client.js", import.meta.url), "utf8");
const folder = mkdtempSync(join(tmpdir(), "client-"));
after(() => rmSync(folder, { recursive: true }));

const realFetch = globalThis.fetch;
const realTimeout = globalThis.setTimeout;

/** What the stubs saw, and what they answer. */
class Browser {
  visited = [];
  sent = [];
  waits = [];
  channels = new Set();
  listeners = [];
  /** Windows that were opened. Whoever forbids them sets `blocked`. */
  opened = [];
  blocked = false;
  /** Event streams, in the order in which they were opened. */
  sources = [];
  /** Who waits for the lock; the first has it. Null if the browser has no locks. */
  queue = [];
  /** One for each request that is to come. */
  answers = [];
  /** Answers a request that none of them is left for. */
  server = (request) => assert.fail(`an unexpected request for ${request.url}`);
}

let browser;

class Channel {
  heard = [];

  constructor(name) {
    this.name = name;
    browser.channels.add(this);
  }

  addEventListener(name, listener) {
    if (name === "message") this.heard.push(listener);
  }

  postMessage(data) {
    for (const other of browser.channels) {
      if (other !== this && other.name === this.name) queueMicrotask(() => other.receive(data));
    }
  }

  receive(data) {
    this.onmessage?.({ data });
    for (const it of this.heard) it({ data });
  }
}

class Source {
  readyState = 1;
  on = {};

  constructor(url) {
    this.url = String(url);
    browser.sources.push(this);
  }

  addEventListener(name, listener) {
    this.on[name] = listener;
  }

  close() {
    this.readyState = 2;
  }

  /** The server sends an event. */
  send(name, data) {
    if (this.readyState === 1) this.on[name]?.({ data: JSON.stringify(data) });
  }

  /** The server refuses. */
  refuse() {
    this.readyState = 2;
    this.onerror?.();
  }
}

/** Web Locks: one at a time, the others wait their turn. */
const locks = {
  request(name, { signal }, work) {
    assert.equal(name, "vestibule");
    const { promise, resolve, reject } = Promise.withResolvers?.() ?? deferred();
    const entry = { work, resolve, running: false };
    browser.queue.push(entry);
    signal.addEventListener("abort", () => {
      if (entry.running) return;
      browser.queue.splice(browser.queue.indexOf(entry), 1);
      reject(signal.reason);
    });
    grant();
    return promise;
  },
};

function deferred() {
  const it = {};
  it.promise = new Promise((resolve, reject) => Object.assign(it, { resolve, reject }));
  return it;
}

function grant() {
  const [first] = browser.queue;
  if (!first || first.running) return;
  first.running = true;
  queueMicrotask(async () => {
    first.resolve(await first.work());
    browser.queue.shift();
    grant();
  });
}

/** The streams that are open. */
const streams = () => browser.sources.filter((it) => it.readyState === 1);

beforeEach(() => {
  browser = new Browser();
  globalThis.location = {
    origin: "https://app.test",
    pathname: "/orders",
    search: "?page=2",
    hash: "#last",
    assign: (url) => browser.visited.push(String(url)),
  };
  globalThis.document = {
    hidden: false,
    addEventListener: (name, listener) => name === "visibilitychange" && browser.listeners.push(listener),
  };
  globalThis.BroadcastChannel = Channel;
  globalThis.EventSource = Source;
  Object.defineProperty(globalThis, "navigator", { value: { locks }, configurable: true });
  globalThis.open = (url, name, features) => {
    browser.opened.push({ url: new URL(url), name, features });
    return browser.blocked ? null : {};
  };
  globalThis.fetch = async (request) => {
    assert(request instanceof Request);
    if (request.signal.aborted) throw request.signal.reason;
    const body = await request.text();
    browser.sent.push({ request, body });
    const next = browser.answers.shift() ?? browser.server;
    return typeof next === "function" ? next(request) : next;
  };
  globalThis.setTimeout = (go, milliseconds, ...more) => {
    browser.waits.push({ go: () => go(...more), milliseconds });
  };
});

afterEach(() => {
  globalThis.fetch = realFetch;
  globalThis.setTimeout = realTimeout;
  assert.equal(browser.answers.length, 0, "answers that nobody asked for");
});

let tabs = 0;

/** The module as another tab loads it. */
function load(url = "https://app.test/bff/client.js") {
  const file = join(folder, `tab-${++tabs}.mjs`);
  writeFileSync(file, source.replaceAll("import.meta.url", JSON.stringify(url)));
  return import(pathToFileURL(file));
}

/** A tab whose app listens; what it heard is collected. */
async function listening() {
  const tab = await load();
  const heard = [];
  const stop = tab.onSessionChange((user, reason) => heard.push([user?.claims.sub ?? null, reason]));
  return { tab, heard, stop };
}

/** Lets everything that needs no timer come to rest. */
async function settle() {
  for (let turn = 0; turn < 20; turn++) await new Promise(setImmediate);
}

const json = (status, value, headers) => new Response(JSON.stringify(value), { status, headers });
const known = (sub, session = { generation: 1 }) =>
  json(200, { claims: { sub }, session }, { "Content-Type": "application/json" });
const problem = (status, members, headers) =>
  json(status, { type: "urn:vestibule:problem:x", status, ...members }, {
    "Content-Type": "application/problem+json",
    ...headers,
  });
const ended = (reason) => problem(401, { reason });
const busy = (seconds) => problem(503, {}, seconds === undefined ? {} : { "Retry-After": String(seconds) });
const paths = () => browser.sent.map(({ request }) => new URL(request.url).pathname);

test("the module stands alone, and keeps nothing where others can look", () => {
  assert.doesNotMatch(source, /^\s*import\s|import\(|setInterval|localStorage|sessionStorage|document\.cookie/m);
});

test("loading the module does nothing yet", async () => {
  await load();
  assert.deepEqual([browser.sent, browser.channels.size, browser.listeners.length], [[], 0, 0]);
});

test("user() tells who is signed in, asked afresh and with proof of the origin", async () => {
  // BBA-6.1-04, BBA-6.1-26
  const tab = await load();
  browser.answers = [known("ada")];
  assert.deepEqual(await tab.user(), { claims: { sub: "ada" }, session: { generation: 1 } });
  const { request } = browser.sent[0];
  assert.equal(request.url, "https://app.test/bff/user");
  assert.equal(request.method, "GET");
  assert.equal(request.headers.get("X-CSRF"), "1");
  assert.equal(request.credentials, "same-origin");
  assert.equal(request.cache, "no-store");
});

test("user() is null without a session, and rejects if the server cannot say", async () => {
  const tab = await load();
  browser.answers = [ended(null)];
  assert.equal(await tab.user(), null);
  browser.answers = [problem(403, {})];
  await assert.rejects(tab.user(), (error) => error.cause.status === 403);
  browser.answers = [
    () => {
      throw new TypeError("offline");
    },
  ];
  await assert.rejects(tab.user(), TypeError);
});

test("the prefix is where the module was loaded from, whatever the page's base is", async () => {
  const tab = await load("https://app.test/deep/auth/client.js?v=1");
  browser.answers = [known("ada")];
  await tab.user();
  assert.equal(browser.sent[0].request.url, "https://app.test/deep/auth/user");
});

test("login() leaves for the login and comes back to where it was", async () => {
  const { login } = await load();
  login();
  login({ returnTo: "/a?b=c&d#e", prompt: "login", maxAge: 0, acrValues: "x y", loginHint: undefined, uiLocales: null });
  const [plain, full] = browser.visited.map((it) => new URL(it));
  assert.equal(plain.origin + plain.pathname, "https://app.test/bff/login");
  assert.deepEqual([...plain.searchParams], [["return_to", "/orders?page=2#last"]]);
  assert.deepEqual(Object.fromEntries(full.searchParams), {
    return_to: "/a?b=c&d#e",
    prompt: "login",
    max_age: "0",
    acr_values: "x y",
  });
});

test("logout() ends the session first, then tells, then leaves", async () => {
  const { tab, heard } = await listening();
  const order = [];
  globalThis.location.assign = (url) => order.push(["visited", url]);
  browser.channels.add({ name: "vestibule", receive: (data) => order.push(["told", data]) });
  browser.answers = [
    (request) => {
      order.push([request.method, request.url, request.headers.get("X-CSRF")]);
      return json(200, { redirect: "https://login.test/end?x" });
    },
  ];
  await tab.logout();
  await settle();
  assert.deepEqual(order[0], ["POST", "https://app.test/bff/logout", "1"]);
  assert.deepEqual(order.slice(1).sort(), [["told", [null, "logout"]], ["visited", "https://login.test/end?x"]]);
  assert.deepEqual(heard, [[null, "logout"]]);
});

test("logout() that fails leaves everything as it was", async () => {
  const { tab, heard } = await listening();
  browser.answers = [known("ada"), busy(1)];
  await tab.user();
  await assert.rejects(tab.logout(), (error) => error.cause.status === 503);
  await settle();
  assert.deepEqual([browser.visited, heard, browser.waits], [[], [], []]);
});

test("logout() is told even by a tab that believed nobody to be signed in", async () => {
  const one = await load();
  const two = await listening();
  browser.answers = [ended(null), ended(null)];
  await one.user();
  await settle();
  browser.answers = [known("ada")];
  await two.tab.user();
  await settle();
  two.heard.length = 0;
  browser.answers = [json(200, { redirect: "/" }), ended("logout")];
  await one.logout();
  await settle();
  assert.deepEqual(two.heard, [[null, "logout"]]);
});

test("fetch() proves itself to this origin only", async () => {
  const { fetch } = await load();
  const ok = () => new Response("{}");
  browser.answers = [ok, ok, ok, ok, ok];
  await fetch("https://app.test/api/a", { headers: { Accept: "x/y" } });
  await fetch(new URL("https://app.test/api/b"));
  await fetch(new Request("https://app.test/api/c", { method: "PUT", body: "c" }));
  await fetch("https://elsewhere.test/api");
  await fetch("https://app.test.elsewhere.test/api");
  const headers = browser.sent.map(({ request }) => request.headers.get("X-CSRF"));
  assert.deepEqual(headers, ["1", "1", "1", null, null]);
  assert.equal(browser.sent[0].request.headers.get("Accept"), "x/y");
  assert.deepEqual([browser.sent[2].request.method, browser.sent[2].body], ["PUT", "c"]);
});

test("fetch() hands out answers whole, problems included", async () => {
  const { fetch } = await load();
  browser.answers = [ended("idle"), new Response("broken", { status: 401, headers: { "Content-Type": "text/html" } })];
  const first = await fetch("https://app.test/api/a");
  assert.deepEqual([first.status, (await first.json()).reason], [401, "idle"]);
  assert.equal(await (await fetch("https://app.test/api/a")).text(), "broken");
});

test("a request whose session was replaced is repeated once, with its body", async () => {
  const { tab, heard } = await listening();
  browser.answers = [ended("replaced"), new Response("done")];
  const answer = await tab.fetch("https://app.test/api/a", { method: "POST", body: "order" });
  assert.equal(await answer.text(), "done");
  assert.deepEqual(browser.sent.map(({ body }) => body), ["order", "order"]);

  browser.answers = [ended("replaced"), ended("replaced")];
  assert.equal((await tab.fetch("https://app.test/api/a")).status, 401);
  await settle();
  assert.deepEqual(heard, [[null, "replaced"]]);
});

test("a stream is not sent twice", async () => {
  const { fetch } = await load();
  const stream = () => new Blob(["order"]).stream();
  browser.answers = [ended("replaced")];
  const streamed = await fetch("https://app.test/api/a", { method: "POST", body: stream(), duplex: "half" });
  assert.equal(streamed.status, 401);
  browser.answers = [ended("replaced")];
  const requested = await fetch(new Request("https://app.test/api/a", { method: "POST", body: "order" }));
  assert.equal(requested.status, 401);
  browser.answers = [ended("replaced"), new Response("done")];
  assert.equal((await fetch(new Request("https://app.test/api/a"))).status, 200);
});

test("a busy server is asked again after the time that it states", async () => {
  const { fetch } = await load();
  browser.answers = [busy(10), new Response("done")];
  const answer = fetch("https://app.test/api/a");
  await settle();
  assert.deepEqual([browser.sent.length, browser.waits.map((it) => it.milliseconds)], [1, [10_000]]);
  browser.waits[0].go();
  assert.equal((await answer).status, 200);

  browser.answers = [busy(0), busy(0)];
  const twice = fetch("https://app.test/api/a", { method: "HEAD" });
  await settle();
  browser.waits[1].go();
  assert.equal((await twice).status, 503);
});

test("a busy server is not pressed", async () => {
  const { fetch } = await load();
  const upstream = new Response("", { status: 503, headers: { "Retry-After": "1" } });
  for (const answer of [busy(11), busy(), busy("Fri, 31 Dec 1999 23:59:59 GMT"), upstream]) {
    browser.answers = [answer];
    assert.equal((await fetch("https://app.test/api/a")).status, 503);
  }
  browser.answers = [busy(1)];
  assert.equal((await fetch("https://app.test/api/a", { method: "POST" })).status, 503);
  browser.answers = [busy(1)];
  assert.equal((await fetch("https://elsewhere.test/api/a")).status, 503);
  assert.deepEqual(browser.waits, []);
});

test("an aborted request stops waiting at once", async () => {
  const { fetch } = await load();
  const abort = new AbortController();
  browser.answers = [busy(10)];
  const answer = fetch("https://app.test/api/a", { signal: abort.signal });
  await settle();
  abort.abort();
  await assert.rejects(answer, { name: "AbortError" });
  assert.equal(browser.sent.length, 1);
});

test("the end of a session is told once, with its reason, in every tab", async () => {
  const all = [await listening(), await listening(), await listening()];
  browser.server = () => known("ada");
  for (const { tab } of all) await tab.user();
  await settle();
  for (const { heard } of all) heard.length = 0;

  browser.server = () => ended("idle");
  await all[0].tab.fetch("https://app.test/api/a");
  await all[0].tab.fetch("https://app.test/api/b");
  await settle();
  for (const { heard } of all) assert.deepEqual(heard, [[null, "idle"]]);
});

test("the end is told to an app that never asked who is signed in", async () => {
  const { tab, heard } = await listening();
  browser.answers = [ended(null)];
  await tab.fetch("https://app.test/api/a");
  await settle();
  assert.deepEqual(heard, [[null, null]]);
});

test("a 401 that is not Vestibule's says nothing about the session", async () => {
  const { tab, heard } = await listening();
  browser.answers = [
    new Response("{}", { status: 401 }),
    json(401, { type: "about:blank", status: 401, reason: "replaced" }, { "Content-Type": "application/problem+json" }),
    new Response("no JSON", { status: 401, headers: { "Content-Type": "application/problem+json" } }),
  ];
  for (const path of ["a", "b", "c"]) await tab.fetch(`https://app.test/api/${path}`);
  browser.answers = [ended("idle")];
  await tab.fetch("https://elsewhere.test/api");
  await settle();
  assert.deepEqual(heard, []);
});

test("an API that demands a stronger login has ended no session", async () => {
  const { tab, heard } = await listening();
  browser.answers = [problem(401, { login: "/bff/login?acr_values=gold", acr_values: "gold" })];
  const answer = await tab.fetch("https://app.test/api/a");
  assert.equal((await answer.json()).acr_values, "gold");
  await settle();
  assert.deepEqual(heard, []);
});

test("another tab's word is checked with the server", async () => {
  const { tab, heard } = await listening();
  browser.answers = [known("ada")];
  await tab.user();
  const [channel] = browser.channels;
  browser.answers = [known("ada")];
  channel.receive([null, "logout"]);
  await settle();
  assert.deepEqual(heard, []);
  browser.answers = [known("bob")];
  channel.receive(["whatever", null]);
  await settle();
  assert.deepEqual(heard, [["bob", null]]);
});

test("a login in another tab is heard, and tabs do not talk in circles", async () => {
  const all = [await listening(), await listening()];
  browser.server = () => ended(null);
  for (const { tab } of all) await tab.user();
  await settle();
  for (const { heard } of all) heard.length = 0;

  browser.server = () => known("ada");
  browser.sent.length = 0;
  const back = await load();
  await back.user();
  await settle();
  for (const { heard } of all) assert.deepEqual(heard, [["ada", null]]);
  assert.deepEqual(paths(), ["/bff/user", "/bff/user", "/bff/user"]);
});

test("a tab that becomes visible again asks whether anything has changed", async () => {
  const { tab, heard } = await listening();
  browser.answers = [known("ada")];
  await tab.user();
  const [look] = browser.listeners;
  globalThis.document.hidden = true;
  look();
  await settle();
  assert.equal(browser.sent.length, 1);
  globalThis.document.hidden = false;
  // The session's times move; who is signed in does not.
  browser.answers = [known("ada", { generation: 2 })];
  look();
  await settle();
  assert.deepEqual(heard, []);
  browser.answers = [ended("expired")];
  look();
  await settle();
  assert.deepEqual(heard, [[null, "expired"]]);
});

test("a server that does not answer ends nothing", async () => {
  const { tab, heard } = await listening();
  browser.answers = [known("ada")];
  await tab.user();
  browser.answers = [problem(500, {})];
  browser.listeners[0]();
  await settle();
  assert.deepEqual(heard, []);
});

test("an answer that is overtaken by a later one changes nothing", async () => {
  const { tab, heard } = await listening();
  browser.answers = [known("ada")];
  await tab.user();
  let arrive;
  const late = new Promise((resolve) => (arrive = resolve));
  browser.answers = [() => late, ended("logout")];
  const early = tab.user();
  await settle();
  await tab.fetch("https://app.test/api/a");
  arrive(known("ada"));
  await early;
  await settle();
  assert.deepEqual(heard, [[null, "logout"]]);
});

test("who has stopped listening hears nothing, and causes no request", async () => {
  const { tab, heard, stop } = await listening();
  browser.answers = [known("ada"), ended("idle")];
  await tab.user();
  stop();
  stop();
  await tab.fetch("https://app.test/api/a");
  browser.listeners[0]();
  [...browser.channels][0].receive(["bob", null]);
  await settle();
  assert.deepEqual([heard, browser.sent.length], [[], 2]);
});

test("a listener that throws harms neither the caller nor the other listeners", async (context) => {
  const { tab, heard } = await listening();
  // What nobody catches goes to the console of a browser, but would fail this run.
  const reported = [];
  const real = queueMicrotask;
  const report = (task) => {
    try {
      task();
    } catch (error) {
      reported.push(error.message);
    }
  };
  context.mock.method(globalThis, "queueMicrotask", (task) => real(() => report(task)));
  tab.onSessionChange(() => {
    throw new Error("the app's own");
  });
  const other = mock.fn();
  tab.onSessionChange(other);
  browser.answers = [ended("idle")];
  assert.equal((await tab.fetch("https://app.test/api/a")).status, 401);
  await settle();
  assert.deepEqual([heard, other.mock.callCount(), reported], [[[null, "idle"]], 1, ["the app's own"]]);
});

// ---- events

const times = { idle_ends_in: 3600, ends_in: 40_000, token_expires_in: 300, generation: 2 };

/** A tab of somebody who is signed in, whose app listens to events. */
async function attentive() {
  const tab = await load();
  const heard = [];
  const stop = tab.onSessionEvent((event) => heard.push(event));
  browser.answers.unshift(known("ada"));
  await tab.user();
  await settle();
  heard.length = 0;
  return { tab, heard, stop };
}

/** Lets the first of the timers that were set for so long go off. */
function elapse(milliseconds) {
  const at = browser.waits.findIndex((it) => it.milliseconds === milliseconds);
  assert(at >= 0, `nobody waits for ${milliseconds} ms, but ${browser.waits.map((it) => it.milliseconds)}`);
  browser.waits.splice(at, 1)[0].go();
}

test("an app that does not listen opens no stream, nor does one for nobody", async () => {
  const quiet = await load();
  browser.answers = [known("ada")];
  await quiet.user();
  const { tab } = await listening();
  browser.answers = [ended(null)];
  await tab.user();
  await settle();
  assert.deepEqual(browser.sources, []);
});

test("of several tabs one listens to the server, and all hear", async () => {
  const tabs = [await attentive(), await attentive(), await attentive()];
  assert.deepEqual(streams().map((it) => it.url), ["https://app.test/bff/session"]);
  streams()[0].send("session", times);
  streams()[0].send("expiring", { reason: "idle", seconds: 60 });
  streams()[0].send("extended", times);
  await settle();
  for (const { heard } of tabs) {
    assert.deepEqual(heard, [
      { type: "session", ...times },
      { type: "expiring", reason: "idle", seconds: 60 },
      { type: "extended", ...times },
    ]);
  }
  // A change of who is signed in is an event too; of these it was none.
  assert.deepEqual(paths(), ["/bff/user", "/bff/user", "/bff/user"]);
});

test("when the tab that listens goes, another takes over", async () => {
  const [first, second] = [await attentive(), await attentive()];
  first.stop();
  await settle();
  assert.deepEqual(browser.sources.map((it) => it.readyState), [2, 1]);
  streams()[0].send("expiring", { reason: "absolute", seconds: 30 });
  await settle();
  assert.deepEqual([first.heard, second.heard.length], [[], 1]);
  second.stop();
  await settle();
  assert.deepEqual([streams(), browser.queue], [[], []]);
});

test("the end is told with its reason in every tab, and nobody listens any more", async () => {
  const tabs = [await attentive(), await attentive()];
  const changes = [];
  tabs[1].tab.onSessionChange((...change) => changes.push(change));
  const [source] = streams();
  source.send("ended", { reason: "issuer_logout" });
  assert.equal(source.readyState, 2, "it must not connect again by itself");
  // Another tab's cookie may be gone already: then the server has no reason to tell.
  browser.server = () => ended(null);
  elapse(500);
  await settle();
  for (const { heard } of tabs) {
    assert.deepEqual(heard, [{ type: "ended", user: null, reason: "issuer_logout" }]);
  }
  assert.deepEqual(changes, [[null, "issuer_logout"]]);
  assert.deepEqual([streams(), browser.queue], [[], []]);
});

test("a session that another login has replaced goes on without a word, with a stream of its own", async () => {
  const { heard } = await attentive();
  browser.answers = [known("ada")];
  streams()[0].send("ended", { reason: "replaced" });
  elapse(500);
  await settle();
  assert.deepEqual([heard, browser.sources.map((it) => it.readyState)], [[], [2, 1]]);
});

test("if somebody else has signed in meanwhile, that is told", async () => {
  const { tab, heard } = await attentive();
  const changes = [];
  tab.onSessionChange((user, reason) => changes.push([user.claims.sub, reason]));
  browser.answers = [known("bob")];
  streams()[0].send("ended", { reason: "replaced" });
  elapse(500);
  await settle();
  assert.deepEqual(changes, [["bob", null]]);
  assert.deepEqual(heard.map((it) => [it.type, it.user.claims.sub]), [["begun", "bob"]]);
});

test("a stream that is refused is asked about, slowly, and opened again if there is a session", async () => {
  const { heard } = await attentive();
  streams()[0].refuse();
  await settle();
  assert.equal(browser.sources.length, 1);
  browser.answers = [busy(60)];
  elapse(5000);
  await settle();
  // The server could not say: it is tried again.
  assert.deepEqual([heard, streams().length], [[], 1]);
  streams()[0].refuse();
  browser.answers = [ended("expired")];
  elapse(5000);
  await settle();
  assert.deepEqual(heard, [{ type: "ended", user: null, reason: "expired" }]);
  assert.deepEqual([streams().length, browser.sources.length], [0, 2]);
});

test("a hidden tab lets another listen, and asks when it is seen again", async () => {
  const { heard } = await attentive();
  const [look] = browser.listeners;
  globalThis.document.hidden = true;
  look();
  await settle();
  assert.deepEqual([streams(), browser.queue], [[], []]);
  globalThis.document.hidden = false;
  browser.answers = [known("ada")];
  look();
  await settle();
  assert.deepEqual([heard, streams().length], [[], 1]);
});

test("without locks each tab listens itself", async () => {
  Object.defineProperty(globalThis, "navigator", { value: {}, configurable: true });
  const tabs = [await attentive(), await attentive()];
  assert.equal(streams().length, 2);
  globalThis.document.hidden = true;
  for (const look of browser.listeners) look();
  await settle();
  assert.equal(streams().length, 0);
  assert.equal(tabs.length, 2);
});

// ---- the pop-up

test("login() in a pop-up stays where it is, and resolves when it is done there", async () => {
  const { login } = await load();
  let signedIn;
  const done = login({ popup: true, returnTo: "/ignored", prompt: "login" }).then((user) => (signedIn = user));
  await settle();
  const [{ url, name }] = browser.opened;
  assert.deepEqual([url.pathname, name], ["/bff/login", "vestibule"]);
  assert.deepEqual(Object.fromEntries(url.searchParams), { return_to: "/bff/popup", prompt: "login" });
  assert.deepEqual([browser.visited, signedIn, browser.sent], [[], undefined, []]);
  // Some other tab's news are not it.
  const [channel] = browser.channels;
  channel.receive([null, null]);
  await settle();
  assert.equal(signedIn, undefined);
  browser.answers = [known("ada")];
  channel.receive(["popup"]);
  await done;
  assert.equal(signedIn.claims.sub, "ada");
});

test("a login in a pop-up is no news if it is the same person, and is if it is not", async () => {
  const { tab, heard } = await listening();
  browser.answers = [known("ada")];
  await tab.user();
  for (const sub of ["ada", "bob"]) {
    const done = tab.login({ popup: true });
    await settle();
    browser.server = () => known(sub);
    [...browser.channels][0].receive(["popup"]);
    assert.equal((await done).claims.sub, sub);
    await settle();
  }
  assert.deepEqual(heard, [["bob", null]]);
});

test("a pop-up that the browser blocks is an error", async () => {
  const { login } = await load();
  browser.blocked = true;
  await assert.rejects(login({ popup: true }), /pop-up blocked/);
});
