//! The one integration binary: Pingora is linked once, not once per file.

#![expect(clippy::string_slice, reason = "the offsets were found in the same text, and a test may panic")]

#[cfg(test)]
mod admin;
#[cfg(test)]
#[expect(dead_code, reason = "the demo uses the rest")]
#[path = "../../examples/demo/api.rs"]
mod api;
#[cfg(test)]
mod attacks;
#[cfg(test)]
mod authorization_requests;
#[cfg(test)]
mod backchannel;
#[cfg(test)]
mod client_auth;
#[cfg(test)]
mod clock_steps;
#[cfg(test)]
mod config;
#[cfg(test)]
mod conformance;
#[cfg(test)]
mod dpop;
#[cfg(test)]
mod events;
#[cfg(test)]
mod frontchannel;
#[cfg(test)]
mod health;
#[cfg(test)]
mod input;
#[cfg(test)]
#[expect(dead_code, reason = "the demo uses the rest")]
#[path = "../../examples/demo/issuer.rs"]
mod issuer;
#[cfg(test)]
mod issuer_logout;
#[cfg(test)]
mod layering;
#[cfg(test)]
mod ledger_file;
#[cfg(test)]
mod ledger_redis;
#[cfg(test)]
mod login;
#[cfg(test)]
mod logout;
#[cfg(test)]
mod placement;
#[cfg(test)]
mod providers;
#[cfg(test)]
mod real;
#[cfg(test)]
mod refresh;
#[cfg(test)]
mod route_tokens;
#[cfg(test)]
mod step_up;
#[cfg(test)]
mod streams;
#[cfg(test)]
mod support;
#[cfg(test)]
mod transport_security;
#[cfg(test)]
mod upstream_tls;
