//! The real `aibos` as a child process, on a directory of its own: started, asked to end, killed.

use std::fs::{self, OpenOptions};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use reqwest::Client;
use suite::cell::Guest;
use suite::kernel::program;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use super::random::Random;

/// A kernel that takes longer to be ready than this did not come back.
const READY_WITHIN: Duration = Duration::from_mins(1);
/// A kernel that was asked to end and has not by then hangs.
const ENDS_WITHIN: Duration = Duration::from_secs(40);

/// What a kernel needs to be started, again and again.
#[derive(Debug)]
pub(super) struct Site {
    /// Holds the data directory, the cells, the log and the journals.
    pub(super) directory: PathBuf,
    /// `DATABASE_URL`.
    pub(super) database: String,
    port: u16,
    aibos: PathBuf,
    client: Client,
}

/// A running kernel; killed when it is dropped.
#[derive(Debug)]
pub(super) struct Kernel(Child);

impl Site {
    /// A migrated, seeded database with the finance cells active.
    pub(super) async fn prepare(directory: PathBuf, database: String, random: &mut Random) -> Self {
        let site = Self { aibos: program(), port: free_port(random), client: Client::new(), directory, database };
        fs::create_dir_all(site.directory.join("data")).expect("a directory can be made");
        for name in ["ledger", "processor", "payment-hub"] {
            let (guest, folder) = (Guest::finance(name), site.directory.join("cells").join(name));
            fs::create_dir_all(&folder).expect("a directory can be made");
            fs::write(folder.join("cell.toml"), guest.manifest).expect("a file can be written");
            fs::write(folder.join(format!("{name}.wasm")), guest.component).expect("a file can be written");
        }
        for (words, takes_ms) in [(&["migrate", "up"][..], 60), (&["seed", "--cells", "cells"], 600)] {
            // Killed half way, each begins again where it was, or from the start.
            for _ in 0..2 {
                let mut command = Command::new(&site.aibos);
                let mut child = site.command(&mut command).args(words).spawn().expect("aibos runs");
                sleep(Duration::from_millis(random.below(takes_ms))).await;
                child.kill().await.expect("a child can be killed");
            }
            site.run(words).await;
        }
        site
    }

    /// Another kernel on the same database, on a port of its own.
    pub(super) fn beside(&self, random: &mut Random) -> Self {
        let (directory, database, aibos) = (self.directory.clone(), self.database.clone(), self.aibos.clone());
        Self { directory, database, port: free_port(random), aibos, client: Client::new() }
    }

    /// Runs a command to its end; answers its exit code, and what it wrote to both outputs.
    pub(super) async fn answer(&self, words: &[&str]) -> (Option<i32>, String) {
        let mut command = Command::new(&self.aibos);
        let command = self.command(&mut command).args(words).stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = command.output().await.expect("aibos runs");
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&text).into_owned())
    }

    /// Where the kernel listens.
    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The passwords that `aibos seed` made.
    pub(super) fn password(&self, of: &str) -> String {
        let text = fs::read_to_string(self.directory.join("data/demo-credentials.json")).expect("seed leaves them");
        let passwords: serde_json::Value = serde_json::from_str(&text).expect("they are JSON");
        passwords[of].as_str().expect("a password").to_owned()
    }

    async fn run(&self, words: &[&str]) {
        let ended = self.command(&mut Command::new(&self.aibos)).args(words).status().await.expect("aibos runs");
        assert!(ended.success(), "aibos {words:?} failed, see {}", self.log().display());
    }

    /// Starts the kernel and waits until it serves; answers how long that took.
    pub(super) async fn start(&self) -> (Kernel, Duration) {
        self.start_as(Command::new(&self.aibos)).await
    }

    /// The same where a write past the limit on a file's size is an error and not a signal.
    pub(super) async fn start_limited(&self) -> Kernel {
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(&self.aibos);
        self.start_as(command).await.0
    }

    async fn start_as(&self, mut command: Command) -> (Kernel, Duration) {
        let begun = Instant::now();
        let child = self.command(&mut command).arg("serve").kill_on_drop(true).spawn().expect("aibos runs");
        let mut kernel = Kernel(child);
        while !self.is_ready().await {
            let ended = kernel.0.try_wait().expect("a child can be asked");
            assert!(ended.is_none(), "the kernel did not start ({ended:?}), see {}", self.log().display());
            if begun.elapsed() > READY_WITHIN {
                let doing = ["status", "wchan", "stat", "io"].map(|what| kernel.says(what));
                panic!("the kernel is not ready, see {}: {doing:#?}", self.log().display());
            }
            sleep(Duration::from_millis(10)).await;
        }
        (kernel, begun.elapsed())
    }

    /// Whether `GET /readyz` says so.
    pub(super) async fn is_ready(&self) -> bool {
        let asked = self.client.get(format!("{}/readyz", self.url())).timeout(Duration::from_secs(1)).send().await;
        asked.is_ok_and(|reply| reply.status().is_success())
    }

    fn log(&self) -> PathBuf {
        // Beside the database, so that a full disk is full for it, too.
        self.directory.join("data/log")
    }

    fn command<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let log = OpenOptions::new().create(true).append(true).open(self.log()).expect("a log can be written");
        let again = log.try_clone().expect("a file can be shared");
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("AIBOS_LISTEN", format!("127.0.0.1:{}", self.port))
            .env("AIBOS_DATA_DIR", "data")
            .env("AIBOS_MASTER_KEY", "2a".repeat(32))
            .env("DATABASE_URL", &self.database)
            .env("RUST_LOG", "warn,aibos::kernel=info,aibos::command=info")
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(Stdio::from(log))
            .stderr(Stdio::from(again))
    }
}

impl Kernel {
    /// SIGKILL, and waits until it is gone.
    pub(super) async fn kill(mut self) {
        self.0.kill().await.expect("a child can be killed");
    }

    /// SIGTERM; answers whether it ended well, and how long that took.
    pub(super) async fn terminate(mut self) -> (bool, Duration) {
        let begun = Instant::now();
        signal("TERM", &[self.id()]).await;
        let ended = timeout(ENDS_WITHIN, self.0.wait()).await.expect("a kernel ends when it is asked to");
        (ended.is_ok_and(|status| status.success()), begun.elapsed())
    }

    /// Whether it still runs.
    pub(super) fn runs(&mut self) -> bool {
        self.0.try_wait().is_ok_and(|ended| ended.is_none())
    }

    /// What the system knows of the process.
    fn says(&self, what: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{what}", self.id())).unwrap_or_default()
    }

    pub(super) fn id(&self) -> u32 {
        self.0.id().expect("it was not waited for yet")
    }
}

/// Sends a signal to processes of ours.
pub(super) async fn signal(name: &str, processes: &[u32]) {
    let ids = processes.iter().map(ToString::to_string);
    // The shell has a kill of its own; the program is not everywhere.
    let mut shell = Command::new("sh");
    let sent =
        shell.args(["-c", "kill \"$@\"", "kill"]).arg(format!("-{name}")).args(ids).status().await.expect("sh runs");
    assert!(sent.success(), "{processes:?} did not take SIG{name}");
}

/// Below the ports that systems give to clients: between a kill and the restart none of them can take it.
pub(super) fn free_port(random: &mut Random) -> u16 {
    loop {
        let port = u16::try_from(12_000 + random.below(8000)).expect("it fits");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
