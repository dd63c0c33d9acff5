//! The program: what is set once in a process, a command, and an exit code.

use std::error::Error;
use std::io;
use std::process::ExitCode;

use clap::Parser as _;
use vestibule::cli::Cli;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Nothing else in this process installs one, so it cannot be there already.
    drop(rustls::crypto::ring::default_provider().install_default());
    match Cli::parse().run(&mut io::stdout(), &mut io::stderr()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("vestibule: {failure}");
            let mut source = failure.source();
            while let Some(cause) = source {
                eprintln!("  because: {cause}");
                source = cause.source();
            }
            failure.exit_code()
        }
    }
}
