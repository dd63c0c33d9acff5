//! Vestibule: a reverse proxy that is a backend for frontend (BFF).

pub mod clock;
pub mod secret;
pub mod tasks;
