//! Compiling in a process of its own: this program, started once more for one component. Serving shares no memory with it, so
//! neither the locks of a memory map nor a crash or an endless loop of the compiler reach the kernel. It steps back behind
//! whoever serves, inherits no environment, and is stopped past its processor time and memory; when the system is short of
//! memory, it is the first to go.
//!
//! Only what the compiler itself says or dies of speaks against a component. One that is ended by somebody else is started
//! once more. In place a component is compiled only where no such process can be had: what was too much for one must not
//! become the kernel's own burden.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{ExitCode, ExitStatus, Stdio};

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::cell::engine::{self, Threads};
use crate::{background, limit};

/// The word on the command line, which is not among those that people use.
pub const COMMAND: &str = "compile-component";

/// Status of a compiler that refuses its component (`EX_DATAERR` of sysexits.h); a panic is 101, a wrong command line 2.
pub const REFUSED: u8 = 65;

/// How a compilation elsewhere went wrong.
#[derive(Debug)]
pub(super) enum Failure {
    /// There is no such process here; nothing is known of the component.
    NotStarted(String),
    /// It was ended by somebody else, or did not end; nothing is known of the component.
    Interrupted(String),
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
        // A signal to the kernel's group is not for it: requests in flight are finished first.
        .process_group(0)
        .spawn()
        .map_err(|cause| Failure::NotStarted(cause.to_string()))?;
    let input = child.stdin.take();
    let feed = async {
        if let Some(mut input) = input {
            // Who ended before it has read everything says why by its status.
            let _broken = input.write_all(wasm).await;
        }
    };
    let ended = async { tokio::join!(feed, child.wait_with_output()).1 };
    let Ok(ended) = tokio::time::timeout(limit::COMPILE_TIMEOUT, ended).await else {
        return Err(Failure::Interrupted(format!("no answer after {} s", limit::COMPILE_TIMEOUT.as_secs())));
    };
    let output = ended.map_err(|cause| Failure::Interrupted(cause.to_string()))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    if output.status.code() == Some(i32::from(REFUSED)) {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Failure::Refused(wasmtime::Error::msg(said.trim().to_owned())));
    }
    Err(if died_of_its_component(output.status) {
        Failure::Refused(wasmtime::Error::msg(format!(
            "the compiler was stopped ({}): a component may take {} s of processor time and {} MiB of memory to compile",
            output.status,
            limit::COMPILE_CPU_SECONDS_MAX,
            limit::COMPILE_BYTES_MAX / 1024 / 1024
        )))
    } else if output.status.code().is_some() {
        // Another program: this one ends as above.
        Failure::NotStarted(output.status.to_string())
    } else {
        Failure::Interrupted(output.status.to_string())
    })
}

/// Whether a compiler ended by a crash of its own, by a panic, or past what it may take. SIGKILL, SIGTERM and the like are
/// somebody else's doing.
fn died_of_its_component(status: ExitStatus) -> bool {
    // Illegal instruction, abort (no memory), bus error, segmentation fault (stack), processor time: signal(7).
    const OWN: [i32; 5] = [4, 6, 7, 11, 24];
    status.code() == Some(101)
        || std::os::unix::process::ExitStatusExt::signal(&status).is_some_and(|it| OWN.contains(&it))
}

/// The other side: compiles what comes in and writes out the code.
pub fn run(mut input: impl Read, mut output: impl Write, mut complain: impl Write) -> ExitCode {
    confine();
    let mut wasm = Vec::new();
    if input.read_to_end(&mut wasm).is_err() {
        return ExitCode::FAILURE;
    }
    match engine::compile(&wasm, Threads::One) {
        Ok(code) if output.write_all(&code).and_then(|()| output.flush()).is_ok() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            let said = write!(complain, "{error:#}").and_then(|()| complain.flush());
            if said.is_ok() { ExitCode::from(REFUSED) } else { ExitCode::FAILURE }
        }
    }
}

/// Bounds this process. What the system does not grant is done without: the component is then compiled as before.
fn confine() {
    background::step_back();
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Resource, Rlimit, setrlimit};
        let most = |most: u64| Rlimit { current: Some(most), maximum: Some(most) };
        // SIGXCPU at the first and SIGKILL at the second: where both are the same, Linux sends only the latter.
        let seconds = limit::COMPILE_CPU_SECONDS_MAX;
        let _as_it_is = setrlimit(Resource::Cpu, Rlimit { current: Some(seconds), maximum: Some(seconds + 5) });
        let _as_it_is = setrlimit(Resource::Data, most(limit::COMPILE_BYTES_MAX));
        let _as_it_is = setrlimit(Resource::Core, most(0));
        let _as_it_is = std::fs::write("/proc/self/oom_score_adj", "1000");
    }
}
