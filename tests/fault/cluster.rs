//! A `PostgreSQL` server of the harness's own, because it is stopped, paused and killed. Made with `initdb` below a
//! temporary directory and removed with it.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::process::{free_port, signal};
use super::random::Random;

/// A server; stopped and removed when it is dropped.
#[derive(Debug)]
pub(super) struct Cluster {
    directory: PathBuf,
    programs: PathBuf,
    port: u16,
}

impl Cluster {
    /// Makes and starts one.
    pub(super) fn make(random: &mut Random) -> Self {
        let name = format!("aibos-fault-{:016x}", random.next() ^ u64::from(std::process::id()));
        let cluster =
            Self { directory: std::env::temp_dir().join(name), programs: programs(), port: free_port(random) };
        fs::create_dir_all(&cluster.directory).expect("a directory can be made");
        if is_root() {
            succeed(Command::new("chown").arg("postgres").arg(&cluster.directory));
        }
        let options = ["-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "-D"];
        succeed(cluster.program("initdb").args(options).arg(cluster.data()));
        cluster.start();
        cluster
    }

    /// The server's own database.
    pub(super) fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Starts it; after an immediate stop it recovers from its write-ahead log first.
    pub(super) fn start(&self) {
        let settings = format!(
            "-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories={} -c fsync=on -c synchronous_commit=on",
            self.port,
            self.directory.display()
        );
        let log = self.directory.join("log");
        succeed(self.control().args(["-w", "-t", "60", "-l"]).arg(log).arg("-o").arg(settings).arg("start"));
    }

    /// Stops it as a crash of its machine would: no checkpoint, no farewell.
    pub(super) fn stop_at_once(&self) {
        succeed(self.control().args(["-m", "immediate", "-w", "stop"]));
    }

    /// SIGSTOP to all its processes.
    pub(super) async fn pause(&self) {
        let postmaster = self.postmaster();
        // The parent first, so that no child is born meanwhile.
        signal("STOP", &[postmaster]).await;
        let children = children(postmaster);
        if !children.is_empty() {
            signal("STOP", &children).await;
        }
    }

    /// SIGCONT to all its processes.
    pub(super) async fn resume(&self) {
        let postmaster = self.postmaster();
        let mut all = children(postmaster);
        all.push(postmaster);
        signal("CONT", &all).await;
    }

    fn postmaster(&self) -> u32 {
        let file = self.data().join("postmaster.pid");
        let text = fs::read_to_string(file).expect("a running server has a pid file");
        text.lines().next().and_then(|line| line.trim().parse().ok()).expect("it begins with the process")
    }

    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    fn control(&self) -> Command {
        let mut command = self.program("pg_ctl");
        command.arg("-D").arg(self.data());
        command
    }

    /// The server refuses to run as root.
    fn program(&self, name: &str) -> Command {
        let program = self.programs.join(name);
        let mut command = if is_root() { Command::new("runuser") } else { Command::new(&program) };
        if is_root() {
            command.args(["-u", "postgres", "--"]).arg(&program);
        }
        command.current_dir("/");
        command
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.data().join("postmaster.pid").exists() {
            // It may have been left standing still, and then it would not hear of its end.
            let postmaster = self.postmaster();
            for process in children(postmaster).into_iter().chain([postmaster]) {
                let mut shell = Command::new("sh");
                let _gone = shell.args(["-c", "kill -CONT \"$0\""]).arg(process.to_string()).status();
            }
            let _stopped = self.control().args(["-m", "immediate", "-w", "stop"]).output();
        }
        let _removed = fs::remove_dir_all(&self.directory);
    }
}

fn children(parent: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").expect("Linux").flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.filter(|id| parent_of(*id) == Some(parent)).collect()
}

fn parent_of(process: u32) -> Option<u32> {
    // `ID (NAME) STATE PARENT …`, and a name may hold anything.
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    text.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// The folder of the newest server's programs.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").map(|found| found.flatten().map(|entry| entry.path()).collect());
    let mut versions: Vec<PathBuf> = versions.unwrap_or_default();
    versions.sort_by_key(|path| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok()));
    let debian = versions.pop().map(|version| version.join("bin"));
    let found = debian.filter(|folder| folder.join("initdb").is_file()).or_else(|| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).find(|folder| folder.join("initdb").is_file())
    });
    found.expect("PostgreSQL's initdb is missing: tests/run installs it")
}

fn succeed(command: &mut Command) {
    // Its output goes to files of the cluster: a server that kept a pipe of ours open would never let us read to the end.
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(status.is_ok_and(|status| status.success()), "{command:?} failed");
}
