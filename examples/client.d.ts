// The types of the module that Vestibule serves at `/bff/client.js`. Copy this file into the app's sources, and change
// the path below if the site has another prefix:
//
//     import { user, login, logout, fetch, onSessionChange } from "/bff/client.js";

declare module "*/bff/client.js" {
  /** Who is signed in, and how long that lasts. */
  export interface User {
    /** The claims that `session.claims` chooses, and `sub`: always, but with a server of `protocol = "oauth"`. */
    claims: { sub: string; [name: string]: unknown };
    /** All times are in seconds from now. */
    session: {
      /** Until the session ends if nobody uses it. */
      idle_ends_in: number;
      /** Until the session ends in any case. */
      ends_in: number;
      /** Until the access token is replaced; null if the server does not say. */
      token_expires_in: number | null;
      /** How often the session was refreshed, counted from 1. */
      generation: number;
    };
  }

  /** Why a session ended; more may be added. */
  export type EndReason = "logout" | "replaced" | "idle" | "expired" | "refused" | "replayed" | (string & {});

  /** What a login may ask of the authorization server (OpenID Connect Core section 3.1.2.1). */
  export interface LoginOptions {
    /** The path to come back to, with query and fragment. Default: where the window is now. */
    returnTo?: string;
    /** Such as `login`, `consent`, `select_account`. */
    prompt?: string;
    /** The most seconds that may have passed since the person last gave proof. */
    maxAge?: number;
    /** Authentication context classes, separated by spaces, the preferred one first. */
    acrValues?: string;
    /** Who is expected to sign in. */
    loginHint?: string;
    /** Languages, separated by spaces, the preferred one first. */
    uiLocales?: string;
  }

  /**
   * Asks the server who is signed in; null for nobody.
   *
   * Rejects if the server cannot say, which does not mean that nobody is: with an `Error` whose `cause` is the
   * `Response`, or with what `fetch` rejects with.
   */
  export function user(): Promise<User | null>;

  /** Leaves the page for the login. */
  export function login(options?: LoginOptions): void;

  /**
   * Ends the session, here and at the authorization server, and leaves the page for where the server says.
   *
   * Rejects, with the session as it was, if the server cannot end it now.
   */
  export function logout(): Promise<void>;

  /**
   * The browser's `fetch`, with the header `X-CSRF` on calls to this origin.
   *
   * Tries once more if the cookie was replaced while the request was under way (unless its body is a stream), and, for
   * `GET` and `HEAD`, if Vestibule asks to wait for up to 10 seconds. A body in a `Request` counts as a stream.
   */
  export function fetch(input: RequestInfo | URL, init?: RequestInit): Promise<Response>;

  /**
   * Calls `callback` when somebody signs in or out, or a session ends, as far as this tab learns of it: from its own
   * calls, from other tabs, and when it becomes visible again. The first answer of `user()` is no change.
   *
   * The user is null if nobody is signed in any more; the reason is null unless the server knows one.
   *
   * @returns A function that stops the calls.
   */
  export function onSessionChange(callback: (user: User | null, reason: EndReason | null) => void): () => void;
}
