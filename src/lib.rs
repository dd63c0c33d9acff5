//! Vestibule: a reverse proxy that is a backend for frontend (BFF).
//!
//! It stands in front of a single-page app, runs the OAuth 2.0 / OpenID Connect authorization code flow with PKCE,
//! keeps every token away from the browser, and puts a fresh access token on each API call that it forwards.
//!
//! # Rings
//!
//! ```text
//!  browser ──> proxy ──> gateway ──> session ──> oauth        arrows: "knows about"; nothing points back
//!              (Pingora)  (decides)   (seals)    (protocol, no I/O)
//!                            ├──────> ledger     (what the proxy itself must remember; only sealed bytes)
//!                            └ trait AuthorizationServer, implemented by `issuer` (reqwest)
//!  main ─> cli ─> server (composition root) ─> all of the above, once, at start-up
//!                   ├────> config (TOML, env, files) ─> produces the rings' own settings types
//!                   └────> admin (own listener: health, sessions) ─> gateway's roster
//! ```
//!
//! # Rules
//!
//! `tests/it/layering.rs` and `.clippy.toml` enforce them.
//!
//! 1. `oauth` names no tokio, reqwest, pingora, tracing, async; it builds `http::Request` values and reads
//!    `http::Response` values.
//! 2. `session` does no I/O; `ledger/protocol.rs` is a pure state machine; only the ledger's back ends do I/O.
//! 3. `gateway` names no pingora and no reqwest; its interface with the shell is five calls in plain `http` types.
//! 4. reqwest is named in `issuer` only; pingora in `proxy` and `server` only; toml and `std::env` in `config` and `cli`
//!    only.
//! 5. `config` is imported by `server` and `cli` only.
//! 6. The clock is read in `clock.rs`, randomness is made in `server.rs`; elsewhere both are arguments.
//! 7. No static of ours has interior mutability; the tracing subscriber, the log bridge, the TLS provider and the
//!    allocator are set once, in `main`.
//! 8. Status codes and `Set-Cookie` text are written in `gateway/reply.rs` and `session/cookies.rs` only.
//!
//! # Four walks
//!
//! A request with a good token: `proxy/mod.rs` (`request_filter`) → [`gateway::Gateway::decide`] → `gateway/admission.rs`
//! (cookie, what the ledger's view knows of its session, limits, freshness) → [`gateway::Forwarding`] → `proxy/mod.rs`
//! (`upstream_request_filter`, `response_filter`). It takes no lock across an await and asks no network.
//!
//! A refresh: `gateway/admission.rs` (`freshen`) → `gateway/broker.rs` (`depart`) → `gateway/broker/flight.rs`: claim, ask,
//! judge, commit. Claim and commit are [`ledger::Ledger::apply`] over `ledger/protocol/refresh.rs`; other replicas hear of
//! it in [`ledger::Ledger::follow`].
//!
//! A login: `gateway/login.rs` seals a [`oauth::LoginTransaction`] into a cookie of its own → the authorization server →
//! `gateway/callback.rs` opens it and consumes it step by step: [`oauth::CodeRedemption`], [`oauth::PendingLogin`],
//! [`oauth::VerifiedLogin`], [`session::Session::establish`].
//!
//! The end of a stream: a [`gateway::Vigil`] sees that its session is over → `proxy/follow.rs` (`serve`), which
//! `proxy/guard.rs` puts around a connection and `proxy/streams.rs` around one stream of HTTP/2, lets go of the request →
//! `proxy/wire.rs` (`say`) writes a Close frame to a WebSocket, where `proxy/frames.rs` says that none is open.

pub mod admin;
pub mod cli;
pub mod clock;
pub mod config;
pub mod gateway;
pub mod identity;
pub mod issuer;
pub mod ledger;
pub mod oauth;
pub mod proxy;
pub mod roots;
pub mod secret;
pub mod server;
pub mod session;
pub mod tasks;
pub mod telemetry;
