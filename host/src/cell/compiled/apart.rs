//! Compiling in a process of its own: this program, started once more for one component. Serving shares no memory with it, so
//! neither the locks of a memory map nor a crash, an endless loop or the memory of the compiler reach the kernel. It steps
//! back behind whoever serves, inherits no environment, and is stopped past its processor time and memory.

use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::cell::engine::{self, Threads};
use crate::limit;

/// The word on the command line, which is not among those that people use.
pub const COMMAND: &str = "compile-component";

/// Weight beside whoever serves: 110 to 1024 (Linux, `sched_prio_to_weight`).
#[cfg(target_os = "linux")]
const NICE: i32 = 10;

/// How a compilation elsewhere went wrong.
#[derive(Debug)]
pub(super) enum Failure {
    /// The process did not start; nothing is known of the component.
    NotStarted(io::Error),
    /// The component is not valid, or too much for the compiler.
    Refused(wasmtime::Error),
}

/// Compiles a component by another process of `program`. Dropped, it ends that process.
pub(super) async fn compile(program: &Path, wasm: &[u8]) -> Result<Vec<u8>, Failure> {
    let mut child = Command::new(program)
        .arg(COMMAND)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(Failure::NotStarted)?;
    let input = child.stdin.take();
    let feed = async {
        if let Some(mut input) = input {
            // Who ended before it has read everything says why by its status.
            let _broken = input.write_all(wasm).await;
        }
    };
    let ((), output) = tokio::join!(feed, child.wait_with_output());
    let output = output.map_err(Failure::NotStarted)?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim().trim_start_matches("aibos: ");
    let why =
        if output.status.code() == Some(1) && !said.is_empty() { said.to_owned() } else { stopped(output.status) };
    Err(Failure::Refused(wasmtime::Error::msg(why)))
}

/// What became of a compiler that did not end by itself.
fn stopped(status: ExitStatus) -> String {
    format!(
        "the compiler was stopped ({status}): a component may take {} s of processor time and {} MiB of memory to compile",
        limit::COMPILE_CPU_SECONDS_MAX,
        limit::COMPILE_BYTES_MAX / 1024 / 1024
    )
}

/// The other side: compiles what comes in and writes out the code.
pub fn run(mut input: impl Read, mut output: impl Write) -> wasmtime::Result<()> {
    confine();
    let mut wasm = Vec::new();
    input.read_to_end(&mut wasm)?;
    let code = engine::compile(&wasm, Threads::One)?;
    output.write_all(&code)?;
    output.flush()?;
    Ok(())
}

/// Bounds this process. What the system does not grant is done without: the component is then compiled as before.
fn confine() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Resource, Rlimit, setpriority_process, setrlimit};
        let most = |most: u64| Rlimit { current: Some(most), maximum: Some(most) };
        let _as_it_is = setpriority_process(None, NICE);
        let _as_it_is = setrlimit(Resource::Cpu, most(limit::COMPILE_CPU_SECONDS_MAX));
        let _as_it_is = setrlimit(Resource::Data, most(limit::COMPILE_BYTES_MAX));
        let _as_it_is = setrlimit(Resource::Core, most(0));
    }
}
