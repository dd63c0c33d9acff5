// The examples for pages, run against stand-ins of what they import. `node --test tests/examples.test.mjs`

import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, beforeEach, test } from "node:test";
import { pathToFileURL } from "node:url";

const folder = mkdtempSync(join(tmpdir(), "examples-"));
after(() => rmSync(folder, { recursive: true }));

const ada = { claims: { sub: "ada", name: "Ada" } };
const expiring = { type: "expiring", reason: "idle", seconds: 60 };
let page;

// The stand-ins find the page that is tested here.
const standIns = {
  "/bff/client.js": ["login", "logout", "onSessionChange", "onSessionEvent", "user"],
  react: ["useEffect", "useState"],
  vue: ["onScopeDispose", "ref"],
};

beforeEach(() => {
  page = globalThis.page = {
    changes: new Set(),
    events: new Set(),
    calls: [],
    user: async () => ada,
    login: async (options) => {
      page.calls.push(["login", options]);
      if (options?.popup) throw new Error("pop-up blocked");
    },
    logout: async () => page.calls.push(["logout"]),
    onSessionChange: (callback) => (page.changes.add(callback), () => page.changes.delete(callback)),
    onSessionEvent: (callback) => (page.events.add(callback), () => page.events.delete(callback)),
  };
});

/** Loads an example with stand-ins for its imports. */
function load(name) {
  let text = readFileSync(new URL(`../examples/clients/${name}`, import.meta.url), "utf8");
  for (const [module, names] of Object.entries(standIns)) {
    const file = join(folder, `${module.replace(/\W/g, "-")}.mjs`);
    writeFileSync(file, names.map((it) => `export const ${it} = (...all) => page.${it}(...all);`).join("\n"));
    text = text.replaceAll(`"${module}"`, JSON.stringify(pathToFileURL(file).href));
  }
  const file = join(folder, name.replace(/\W/g, "-") + ".mjs");
  writeFileSync(file, text);
  return import(pathToFileURL(file));
}

const tell = (listeners, ...news) => listeners.forEach((it) => it(...news));
const settle = () => new Promise(setImmediate);

test("a page without a framework shows who is there, warns, and signs in in a pop-up or where it is", async () => {
  const elements = {};
  globalThis.document = { getElementById: (id) => (elements[id] ??= {}) };
  await load("plain/session.js");
  await settle();
  assert.equal(elements.who.textContent, "Ada");
  tell(page.events, expiring);
  assert.match(elements.warning.textContent, /60 s/);
  tell(page.events, { type: "ended", user: null, reason: "idle" });
  tell(page.changes, null, "idle");
  assert.deepEqual([elements.who.textContent, elements.warning.textContent], ["Nobody is signed in", ""]);
  await elements["sign-in"].onclick();
  elements["sign-out"].onclick();
  assert.deepEqual(page.calls, [["login", { popup: true }], ["login", undefined], ["logout"]]);
});

test("the React hook knows who is there and what is to come, and stops listening with its component", async () => {
  const states = [];
  let unmount;
  page.useState = (first) => {
    const at = states.push(first) - 1;
    return [first, (value) => (states[at] = value)];
  };
  page.useEffect = (effect) => (unmount = effect());
  const { useSession } = await load("react/useSession.js");
  assert.deepEqual(useSession(), { person: undefined, warning: null });
  await settle();
  tell(page.events, expiring);
  assert.deepEqual(states, [ada, expiring]);
  tell(page.events, { type: "extended" });
  tell(page.changes, null, "logout");
  assert.deepEqual(states, [null, null]);
  unmount();
  assert.deepEqual([page.changes.size, page.events.size], [0, 0]);
});

test("the Vue composable knows who is there and what is to come, and stops listening with its scope", async () => {
  let dispose;
  page.ref = (value) => ({ value });
  page.onScopeDispose = (callback) => (dispose = callback);
  const { useSession } = await load("vue/useSession.js");
  const { person, warning } = useSession();
  assert.deepEqual([person.value, warning.value], [undefined, null]);
  await settle();
  tell(page.events, expiring);
  assert.deepEqual([person.value, warning.value], [ada, expiring]);
  tell(page.events, { type: "extended" });
  tell(page.changes, null, "logout");
  assert.deepEqual([person.value, warning.value], [null, null]);
  dispose();
  assert.deepEqual([page.changes.size, page.events.size], [0, 0]);
});
