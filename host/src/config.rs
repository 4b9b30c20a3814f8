//! Settings: the environment first, then `aibos.toml`. Each is read here and nowhere else; an unknown one is an error, and
//! production refuses unsafe ones, naming each.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::{HeaderMap, HeaderValue};
use serde::Deserialize;

use crate::auth::seal::MasterKey;
use crate::cell::outside::Outside;
use crate::cell::signature::TrustedKeys;
use crate::limit;

/// Every setting of the environment, as `.env.example` lists them.
pub const VARIABLES: [&str; 16] = [
    "AIBOS_LISTEN",
    "AIBOS_DATA_DIR",
    "AIBOS_BOOTSTRAP_KEY",
    "AIBOS_MASTER_KEY",
    "AIBOS_ISSUER",
    "AIBOS_AUDIENCE",
    "AIBOS_CHAOS",
    "AIBOS_CELL_KEYS",
    "AIBOS_CORS_ORIGINS",
    "AIBOS_TRUSTED_PROXIES",
    "AIBOS_LOG_FORMAT",
    "AIBOS_URL",
    "AIBOS_TOKEN",
    "DATABASE_URL",
    "RUST_LOG",
    "AIBOS_CONFIG",
];

/// All settings, parsed.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Where the embedded database and the like are kept.
    pub data_dir: PathBuf,
    /// `sqlite://…` or `postgres://…`.
    pub database_url: String,
    /// Whether a start brings the database up to date.
    pub migrations: Migrations,
    /// Opens `POST /api/v1/bootstrap`; closed without.
    pub bootstrap_key: Option<Secret>,
    /// Seals private keys and secrets.
    pub master_key: MasterKey,
    /// Keys that sign cells; without any, unsigned cells are taken.
    pub cell_keys: TrustedKeys,
    /// `iss` of access tokens.
    pub issuer: String,
    /// `aud` of access tokens.
    pub audience: String,
    /// Whether faults may be injected.
    pub chaos: Chaos,
    /// Origins that browsers may call from.
    pub cors_origins: Vec<String>,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpAddr>,
    /// How logs are written.
    pub log_format: LogFormat,
    /// Settings of cells: cell, name, value.
    pub cell_settings: Arc<HashMap<String, HashMap<String, String>>>,
    /// What cells reach outside. No setting changes it: only a test, which builds this value itself, names servers of its own.
    pub outside: Outside,
    /// Bytes that must be free on a disk of so many for the kernel to say that it is ready.
    pub disk_free_min: fn(u64) -> u64,
    /// Units in one commit. No setting changes it: only a benchmark, which shows what committing together is worth.
    pub commit_batch_max: usize,
    /// The program that compiles components, each in a process of its own; none compiles in this one.
    pub compiler: Option<PathBuf>,
}

/// What a start does about migrations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Migrations {
    /// Applies what is missing: `aibos dev` and tests.
    Apply,
    /// Leaves the database as it is: in production `aibos migrate up` is a step of its own.
    Leave,
}

/// This program, also when its file was replaced meanwhile.
fn own_program() -> Option<PathBuf> {
    if cfg!(target_os = "linux") { Some("/proc/self/exe".into()) } else { std::env::current_exe().ok() }
}

/// A setting that no log line may show.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Whether faults may be injected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chaos {
    /// By holders of `kernel.chaos.inject`.
    Enabled,
    /// By nobody.
    Disabled,
}

/// How logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Pretty,
}

/// What is wrong with the settings, one sentence each.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct ConfigError(pub Vec<String>);

/// `aibos.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    listen: Option<String>,
    data_dir: Option<PathBuf>,
    database_url: Option<String>,
    issuer: Option<String>,
    audience: Option<String>,
    chaos: Option<String>,
    cors_origins: Vec<String>,
    trusted_proxies: Vec<String>,
    log_format: Option<String>,
    /// `[cell.NAME]` with `SETTING = "value"`.
    cell: HashMap<String, HashMap<String, String>>,
}

/// Settings from the command line, which come before the environment.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--listen`
    pub listen: Option<String>,
    /// `--data-dir`
    pub data_dir: Option<PathBuf>,
}

/// Which defaults hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// `aibos dev`: everything has a default, chaos is on, keys are made and kept in the data directory.
    Development,
    /// `aibos serve`: refuses unsafe settings.
    Production,
    /// Commands that only touch the database: no key is needed.
    Tool,
}

impl Config {
    /// Where this process keeps its data.
    #[must_use]
    pub fn data_dir(overrides: &Overrides) -> PathBuf {
        let named = overrides.data_dir.clone().or_else(|| variable("AIBOS_DATA_DIR").map(PathBuf::from));
        named.unwrap_or_else(|| ".aibos".into())
    }

    /// Reads the settings of this process.
    pub fn load(profile: Profile, overrides: &Overrides) -> Result<Self, ConfigError> {
        let variable = |name: &str| match (name, overrides) {
            ("AIBOS_LISTEN", Overrides { listen: Some(listen), .. }) => Some(listen.clone()),
            ("AIBOS_DATA_DIR", Overrides { data_dir: Some(dir), .. }) => Some(dir.display().to_string()),
            _ => variable(name),
        };
        let mut faults = unknown_variables(std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()));
        let file = read_file(variable("AIBOS_CONFIG").as_deref(), &mut faults);
        let mut config = Self::build(profile, &variable, file, &mut faults);
        config.compiler = own_program();
        if faults.is_empty() { Ok(config) } else { Err(ConfigError(faults)) }
    }

    /// Settings for tests and development: everything in one directory.
    #[must_use]
    pub fn development(data_dir: PathBuf, master_key: MasterKey) -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            database_url: format!("sqlite://{}", data_dir.join("kernel.db").display()),
            data_dir,
            migrations: Migrations::Apply,
            bootstrap_key: None,
            master_key,
            cell_keys: TrustedKeys::default(),
            issuer: "aibos".into(),
            audience: "aibos".into(),
            chaos: Chaos::Enabled,
            cors_origins: Vec::new(),
            trusted_proxies: Vec::new(),
            log_format: LogFormat::Pretty,
            cell_settings: Arc::default(),
            outside: Outside::default(),
            // Of a small disk a twentieth is enough.
            disk_free_min: |size| limit::DISK_FREE_BYTES_MIN.min(size / 20),
            commit_batch_max: limit::COMMIT_BATCH_MAX,
            compiler: None,
        }
    }

    fn build(
        profile: Profile,
        variable: &impl Fn(&str) -> Option<String>,
        file: File,
        faults: &mut Vec<String>,
    ) -> Self {
        let data_dir = variable("AIBOS_DATA_DIR").map(PathBuf::from).or(file.data_dir).unwrap_or(".aibos".into());
        let mut config = Self::development(data_dir, MasterKey::new([0; 32]));
        if profile == Profile::Production {
            config.migrations = Migrations::Leave;
        }
        if let Some(text) = variable("AIBOS_LISTEN").or(file.listen) {
            config.listen =
                parse(&text, "AIBOS_LISTEN", "an address like 127.0.0.1:8080", faults).unwrap_or(config.listen);
        }
        config.database_url = variable("DATABASE_URL").or(file.database_url).unwrap_or(config.database_url);
        config.issuer = variable("AIBOS_ISSUER").or(file.issuer).unwrap_or(config.issuer);
        config.audience = variable("AIBOS_AUDIENCE").or(file.audience).unwrap_or(config.audience);
        config.cors_origins = list(variable("AIBOS_CORS_ORIGINS")).unwrap_or(file.cors_origins);
        let proxies = list(variable("AIBOS_TRUSTED_PROXIES")).unwrap_or(file.trusted_proxies);
        config.trusted_proxies = proxies
            .iter()
            .filter_map(|proxy| parse(proxy, "AIBOS_TRUSTED_PROXIES", "IP addresses, separated by commas", faults))
            .collect();
        config.cell_settings = Arc::new(file.cell);
        config.chaos = match (variable("AIBOS_CHAOS").or(file.chaos).as_deref(), profile) {
            (Some("enabled"), _) | (None, Profile::Development) => Chaos::Enabled,
            (Some("disabled"), _) | (None, Profile::Production | Profile::Tool) => Chaos::Disabled,
            (Some(other), _) => {
                faults.push(format!("AIBOS_CHAOS={other}: must be enabled or disabled"));
                Chaos::Disabled
            }
        };
        config.log_format = match (variable("AIBOS_LOG_FORMAT").or(file.log_format).as_deref(), profile) {
            (Some("json"), _) | (None, Profile::Production | Profile::Tool) => LogFormat::Json,
            (Some("pretty"), _) | (None, Profile::Development) => LogFormat::Pretty,
            (Some(other), _) => {
                faults.push(format!("AIBOS_LOG_FORMAT={other}: must be json or pretty"));
                LogFormat::Json
            }
        };
        config.read_keys(profile, variable, faults);
        config
    }

    fn read_keys(&mut self, profile: Profile, variable: &impl Fn(&str) -> Option<String>, faults: &mut Vec<String>) {
        match variable("AIBOS_MASTER_KEY") {
            Some(text) => match text.parse::<MasterKey>() {
                Ok(key) => self.master_key = key,
                Err(cause) => faults.push(format!("AIBOS_MASTER_KEY {cause}")),
            },
            None if profile == Profile::Development => match development_key(&self.data_dir) {
                Ok(key) => self.master_key = key,
                Err(fault) => faults.push(fault),
            },
            None if profile == Profile::Production => {
                faults.push("AIBOS_MASTER_KEY is not set: 64 hex digits that seal private keys; make them with `openssl rand -hex 32` and keep them".into());
            }
            None => {}
        }
        match variable("AIBOS_CELL_KEYS").map(|text| text.parse::<TrustedKeys>()) {
            Some(Ok(keys)) => self.cell_keys = keys,
            Some(Err(fault)) => faults.push(format!("AIBOS_CELL_KEYS: {fault}")),
            None => {}
        }
        self.bootstrap_key = variable("AIBOS_BOOTSTRAP_KEY").map(Secret::new);
        if profile == Profile::Production && self.bootstrap_key.as_ref().is_some_and(|key| key.expose().len() < 16) {
            faults
                .push("AIBOS_BOOTSTRAP_KEY has fewer than 16 characters; make one with `openssl rand -hex 32`".into());
        }
    }

    /// The client's address: the peer, or what a trusted proxy says of it.
    #[must_use]
    pub fn client_address(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        if !self.trusted_proxies.contains(&peer) {
            return peer;
        }
        // The nearest hop stands last; the first that is no proxy of ours is the client. What cannot be read ends the
        // search: everything before it is only what somebody wrote.
        let forwarded = headers.get_all("x-forwarded-for");
        let mut hops: Vec<Option<IpAddr>> = forwarded
            .iter()
            .flat_map(|value| value.to_str().unwrap_or_default().split(','))
            .map(|hop| hop.trim().parse().ok().or_else(|| hop.trim().parse().ok().map(|hop: SocketAddr| hop.ip())))
            .collect();
        let mut client = peer;
        while let Some(Some(hop)) = hops.pop() {
            client = hop;
            if !self.trusted_proxies.contains(&hop) {
                break;
            }
        }
        client
    }

    /// Whether a browser's origin is listed.
    #[must_use]
    pub fn allows_origin(&self, origin: &HeaderValue) -> bool {
        origin.to_str().is_ok_and(|origin| self.cors_origins.iter().any(|listed| listed == origin))
    }
}

fn variable(name: &str) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The key of a development database: made at the first start and kept beside it.
fn development_key(data_dir: &Path) -> Result<MasterKey, String> {
    let file = data_dir.join("master.key");
    let told = |cause: &dyn fmt::Display| format!("{}: {cause}", file.display());
    match std::fs::read_to_string(&file) {
        Ok(text) => text.trim().parse::<MasterKey>().map_err(|cause| told(&cause)),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
            let mut bytes = [0; 32];
            aws_lc_rs::rand::fill(&mut bytes).map_err(|_| "the system has no randomness".to_owned())?;
            let text = bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
            write_private(&file, text.as_bytes()).map_err(|cause| told(&cause))?;
            Ok(MasterKey::new(bytes))
        }
        Err(cause) => Err(told(&cause)),
    }
}

/// Writes a file that only its owner may read, making its directory when it is missing. Who looks finds all of it or, also
/// after a crash, what was there before.
pub fn write_private(file: &Path, content: &[u8]) -> io::Result<()> {
    let directory = file.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(directory)?;
    let mut unfinished = file.as_os_str().to_owned();
    unfinished.push(format!(".{}.part", std::process::id()));
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut open = options.open(&unfinished)?;
    open.write_all(content)?;
    open.sync_all()?;
    std::fs::rename(&unfinished, file)?;
    // The name, too, is on the disk.
    #[cfg(unix)]
    std::fs::File::open(directory)?.sync_all()?;
    Ok(())
}

fn unknown_variables(names: impl Iterator<Item = String>) -> Vec<String> {
    names
        .filter(|name| {
            name.starts_with("AIBOS_") && !name.starts_with("AIBOS_TEST_") && !VARIABLES.contains(&name.as_str())
        })
        .map(|name| format!("{name} is no setting of this version; .env.example lists all"))
        .collect()
}

fn read_file(named: Option<&str>, faults: &mut Vec<String>) -> File {
    let path = PathBuf::from(named.unwrap_or("aibos.toml"));
    match std::fs::read_to_string(&path) {
        Ok(text) => toml::from_str(&text).unwrap_or_else(|cause| {
            faults.push(format!("{}: {}", path.display(), cause.to_string().trim()));
            File::default()
        }),
        Err(cause) => {
            if named.is_some() || cause.kind() != io::ErrorKind::NotFound {
                faults.push(format!("{}: {cause}", path.display()));
            }
            File::default()
        }
    }
}

fn list(text: Option<String>) -> Option<Vec<String>> {
    text.map(|text| text.split(',').map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect())
}

fn parse<T: std::str::FromStr>(text: &str, name: &str, wanted: &str, faults: &mut Vec<String>) -> Option<T> {
    let parsed = text.trim().parse().ok();
    if parsed.is_none() {
        faults.push(format!("{name}={text}: must be {wanted}"));
    }
    parsed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_file_is_never_half_written() {
        let directory = std::env::temp_dir().join(format!("aibos_private_{}", std::process::id()));
        let file = directory.join("master.key");
        let contents = ["a".repeat(100_000), "b".repeat(100_000)];
        write_private(&file, contents[0].as_bytes()).unwrap();
        std::thread::scope(|scope| {
            let writing = scope.spawn(|| {
                for content in contents.iter().cycle().take(100) {
                    write_private(&file, content.as_bytes()).unwrap();
                }
            });
            while !writing.is_finished() {
                let read = std::fs::read_to_string(&file).unwrap();
                assert!(contents.contains(&read), "{} bytes", read.len());
            }
        });
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1, "nothing else is left");
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn keys_of_cells_are_read_or_the_start_is_refused() {
        let faults = |keys: Option<&str>| {
            let mut faults = Vec::new();
            let variable = |name: &str| keys.filter(|_| name == "AIBOS_CELL_KEYS").map(str::to_owned);
            Config::build(Profile::Tool, &variable, File::default(), &mut faults);
            faults
        };
        assert_eq!(faults(None), Vec::<String>::new());
        assert_eq!(faults(Some(&format!("ci={}", "0a".repeat(32)))), Vec::<String>::new());
        let told = faults(Some("ci=0a0b")).join("\n");
        assert!(told.starts_with("AIBOS_CELL_KEYS: ci=0a0b: must be the 64 hexadecimal digits"), "{told}");
    }
}
