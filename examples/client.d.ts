// The types of the module that Vestibule serves at `/bff/client.js`. Copy this file into the app's sources, and change
// the path below if the site has another prefix:
//
//     import { user, login, logout, fetch, onSessionChange, onSessionEvent } from "/bff/client.js";

declare module "*/bff/client.js" {
  /** Who is signed in, and how long that lasts. */
  export interface User {
    /** The claims that `session.claims` chooses, and `sub`: always, but with a server of `protocol = "oauth"`. */
    claims: { sub: string; [name: string]: unknown };
    /** How the person has authenticated, the last time at the end: with which class, if the server says, and when. */
    levels: { acr: string | null; age: number }[];
    session: Times;
  }

  /** How long a session lasts. All times are in seconds from now. */
  export interface Times {
    /** Until the session ends if nobody uses it. */
    idle_ends_in: number;
    /** Until the session ends in any case. */
    ends_in: number;
    /** Until the access token is replaced; null if the server does not say. */
    token_expires_in: number | null;
    /** How often the session was refreshed, counted from 1. */
    generation: number;
  }

  /** Why a session ended; more may be added. */
  export type EndReason =
    | "logout"
    | "replaced"
    | "idle"
    | "expired"
    | "refused"
    | "issuer_logout"
    | "replayed"
    | (string & {});

  /** What has happened to the session. */
  export type SessionEvent =
    /** Somebody has signed in; or somebody else than before. */
    | { type: "begun"; user: User; reason: null }
    /** This is how it stands: a connection was made. Whatever warning there was is off, unless another follows. */
    | ({ type: "session" } & Times)
    /** It ends in so many seconds: because nobody uses it, or in any case. */
    | { type: "expiring"; reason: "idle" | "absolute"; seconds: number }
    /** It was used or refreshed, so its ends may have moved. */
    | ({ type: "extended" } & Times)
    /** It is over. The reason is null if nobody knows one. */
    | { type: "ended"; user: null; reason: EndReason | null };

  /** What a login may ask of the authorization server (OpenID Connect Core section 3.1.2.1). */
  export interface LoginOptions {
    /** The path to come back to, with query and fragment. Default: where the window is now. Not for a pop-up. */
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
  export function login(options?: LoginOptions & { popup?: false }): Promise<void>;

  /**
   * Opens the login in a window of its own, and resolves to who has signed in there. The page stays as it is. Call it
   * where the person has clicked: browsers block pop-ups that come out of nowhere, and then it rejects.
   *
   * If the person gives up, it stays pending: where the server's pages cut the window off from this one, nobody can tell.
   */
  export function login(options: LoginOptions & { popup: true }): Promise<User | null>;

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
   * Calls `callback` when somebody signs in or out, or a session ends: as the server tells it, or another tab, or when the
   * page becomes visible again. The first answer of `user()` is no change, and starts the listening.
   *
   * The user is null if nobody is signed in any more; the reason is null unless the server knows one. Whether it is the
   * same person as before is for `claims.sub` to say.
   *
   * @returns A function that stops the calls.
   */
  export function onSessionChange(callback: (user: User | null, reason: EndReason | null) => void): () => void;

  /**
   * Calls `callback` with everything that happens to the session. Of all tabs one is connected to the server; it listens
   * only, which is no use of the session.
   *
   * @returns A function that stops the calls.
   */
  export function onSessionEvent(callback: (event: SessionEvent) => void): () => void;
}
