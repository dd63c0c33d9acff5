//! Vestibule among real programs, in real time: an authorization server that others have written, and a real browser.

mod listening;
mod oidc_provider;
mod page;
mod replicas;
