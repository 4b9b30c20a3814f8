//! The command line of the kernel; see `aibos --help`.

use std::io;
use std::process::ExitCode;

use aibos::cell::compiled::apart;
use aibos::command::{Arguments, Failure, run};
use clap::Parser;

fn main() -> ExitCode {
    // What the kernel starts for each component: no command for people, and no runtime is needed.
    if std::env::args_os().nth(1).is_some_and(|word| word == apart::COMMAND) {
        return apart::run(io::stdin().lock(), io::stdout().lock(), io::stderr().lock());
    }
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(cause) => return fail(&Failure(format!("the asynchronous runtime cannot start: {cause}"))),
    };
    match runtime.block_on(run(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => fail(&failure),
    }
}

fn fail(failure: &Failure) -> ExitCode {
    eprintln!("aibos: {}", failure.0);
    ExitCode::from(1)
}
