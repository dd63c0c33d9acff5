// A page without a framework: who is signed in, a warning before the end, and a way on that loses nothing.

import { login, logout, onSessionChange, onSessionEvent, user } from "/bff/client.js";

const at = (id) => document.getElementById(id);
const show = (person) => (at("who").textContent = person?.claims.name ?? "Nobody is signed in");

user().then(show);
onSessionChange(show);
onSessionEvent(({ type, seconds }) => {
  at("warning").textContent = type === "expiring" ? `You will be signed out in ${seconds} s.` : "";
});
at("sign-in").onclick = () => login({ popup: true }).catch(() => login());
at("sign-out").onclick = () => logout();
