//! Vestibule: a reverse proxy that is a backend for frontend (BFF).

pub mod clock;
pub mod gateway;
pub mod issuer;
pub mod ledger;
pub mod oauth;
pub mod proxy;
pub mod secret;
pub mod session;
pub mod tasks;
