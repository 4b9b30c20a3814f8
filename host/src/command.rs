//! The command line: one file for each verb. Everything here starts kernels or talks to one; no rule lives here.

pub mod audit;
pub mod backup;
pub mod cell;
pub mod chaos;
pub mod client;
pub mod dev;
pub mod lifecycle;
pub mod migrate;
pub mod output;
pub mod secret;
pub mod seed;
pub mod serve;
pub mod sign;
pub mod toolchain;
pub mod verify;

use clap::{Parser, Subcommand};

pub use output::Failure;

/// AI-BOS Kernel: runs finance cells as sandboxed WebAssembly components next to the books.
#[derive(Debug, Parser)]
#[command(name = "aibos", version, arg_required_else_help = true, after_help = "Example: aibos dev")]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build every cell under cells/, seed an embedded database, serve, and swap a cell when its source changes.
    Dev(dev::Dev),
    /// Serve in production, with settings from the environment and aibos.toml.
    Serve(serve::Serve),
    /// Bring the database to this version's schema, or back.
    #[command(subcommand)]
    Migrate(migrate::Migrate),
    /// Make the demo tenant, users, roles and cells; again and again without harm.
    Seed(seed::Seed),
    /// Build, check, upload and activate cells.
    #[command(subcommand)]
    Cell(cell::Cell),
    /// Inject faults into cells.
    #[command(subcommand)]
    Chaos(chaos::Chaos),
    /// Prove the audit log and keep what proves it.
    #[command(subcommand)]
    Audit(audit::Audit),
    /// Copy the embedded database to a file, also while a kernel serves.
    Backup(backup::Backup),
    /// Prove every invariant of the stored data, and name the first violation.
    Verify(verify::Verify),
}

/// Runs a command. The failure's text says what was wrong and what to do; the exit code is 1.
pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.command {
        Command::Dev(command) => Box::pin(command.run()).await,
        Command::Serve(command) => Box::pin(command.run()).await,
        Command::Migrate(command) => command.run().await,
        Command::Seed(command) => Box::pin(command.run()).await,
        Command::Cell(command) => command.run().await,
        Command::Chaos(command) => command.run().await,
        Command::Audit(command) => Box::pin(command.run()).await,
        Command::Backup(command) => command.run().await,
        Command::Verify(command) => Box::pin(command.run()).await,
    }
}
