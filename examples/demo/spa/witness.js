// Notes everything that this page receives, so that it can be searched for tokens. It has to be the first import: what
// is fetched before it runs is not seen.

const SHAPES = [
  ["a JSON Web Token", /eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*/],
  ["a token or code of this issuer", /\b(?:at|rt|code)-[\w-]{20,}/],
  ["a token field", /"?\b(?:access|refresh|id)_token"?\s*[:=]/],
];

const responses = [];
const untouched = globalThis.fetch;

globalThis.fetch = async (...call) => {
  const response = await untouched.apply(globalThis, call);
  // A stream of events never ends, so it cannot be read to its end.
  if (!response.headers.get("content-type")?.startsWith("text/event-stream")) {
    const copy = response.clone();
    const headers = [...copy.headers].map(([name, value]) => `${name}: ${value}`).join("\n");
    copy.text().then((body) => responses.push(`${copy.url}\n${headers}\n\n${body}`), () => {});
  }
  return response;
};

/** Every place that a script of this page can read: its name, what is in it in a few words, and the text itself. */
export async function look() {
  const databases = (await globalThis.indexedDB?.databases?.()) ?? [];
  const caches = (await globalThis.caches?.keys?.()) ?? [];
  const stored = [...databases.map((database) => database.name), ...caches];
  const addresses = [location.href, document.referrer, ...performance.getEntries().map((entry) => entry.name)];
  return [
    place("document.cookie", document.cookie, document.cookie || "empty"),
    storage("localStorage", localStorage),
    storage("sessionStorage", sessionStorage),
    place("IndexedDB and caches", stored.join("\n"), stored.join(", ") || "empty"),
    place("Addresses of this page", addresses.join("\n"), `${new Set(addresses).size} seen`),
    place("Answers to this page", responses.join("\n\n"), amount(responses)),
  ];
}

/** What a text holds that looks like a token; `undefined` if nothing does. */
export function tokenIn(text) {
  return SHAPES.find(([, shape]) => shape.test(text))?.[0];
}

function storage(name, area) {
  const entries = Object.entries(area).map(([key, value]) => `${key}: ${value}`);
  return place(name, entries.join("\n"), entries.join(", ") || "empty");
}

function place(name, text, summary) {
  return { name, text, summary, found: tokenIn(text) };
}

function amount(texts) {
  const bytes = texts.reduce((sum, text) => sum + text.length, 0);
  return texts.length === 0 ? "none yet" : `${texts.length}, with ${bytes.toLocaleString("en")} characters`;
}
