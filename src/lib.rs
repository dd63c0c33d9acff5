//! Vestibule: a reverse proxy that is a backend for frontend (BFF).

pub mod clock;
pub mod ledger;
pub mod secret;
pub mod session;
pub mod tasks;
