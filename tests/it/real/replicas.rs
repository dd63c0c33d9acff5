//! Several processes with one ledger, and one process that is killed: as in production, in real time.

mod administrators;
mod endings;
mod faults;
mod file;
mod kills;
mod rounds;
