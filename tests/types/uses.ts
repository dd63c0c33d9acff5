// What an app writes has to compile, and what the declaration promises has to be in the module.

import * as declared from "/bff/client.js";
import type { SessionEvent, User } from "/bff/client.js";
import * as source from "../../src/gateway/client.js";

type Same<A, B> = [A, B] extends [B, A] ? true : never;
export const names: Same<keyof typeof declared, keyof typeof source> = true;

export async function app(): Promise<string> {
  const { user, login, logout, fetch, onSessionChange, onSessionEvent } = declared;
  const person: User | null = await user();
  await login({ returnTo: "/a", prompt: "login", maxAge: 0 });
  const back: User | null = await login({ popup: true, acrValues: "urn:x" });
  const answer: Response = await fetch("/api/orders", { method: "POST" });
  const stop: () => void = onSessionChange((now, reason) => console.log(now?.claims.sub, reason ?? "begun"));
  stop();
  onSessionEvent((event) => told(event));
  await logout();
  return `${person?.session.ends_in} ${back?.claims["email"]} ${answer.status}`;
}

function told(event: SessionEvent): string {
  switch (event.type) {
    case "begun":
      return event.user.claims.sub;
    case "expiring":
      return `${event.reason} in ${event.seconds.toFixed()}`;
    case "session":
    case "extended":
      return event.idle_ends_in.toFixed();
    case "ended":
      return event.reason ?? "somehow";
  }
}

// @ts-expect-error: a login has no such option
declared.login({ returnTO: "/" });
// @ts-expect-error: only a pop-up comes back with somebody
export const nobody: Promise<User | null> = declared.login();
