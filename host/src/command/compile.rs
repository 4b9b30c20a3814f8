//! `aibos compile-component`: one component in, its machine code out. The kernel starts it; nobody types it.

use std::io;

use clap::Args;

use super::output::Failure;
use crate::cell::compiled::apart;

/// Compile one component from the standard input.
#[derive(Clone, Copy, Debug, Args)]
pub struct Compile {}

impl Compile {
    /// Runs to the end of the compilation.
    pub fn run(self) -> Result<(), Failure> {
        apart::run(io::stdin().lock(), io::stdout().lock()).map_err(|error| Failure(format!("{error:#}")))
    }
}
