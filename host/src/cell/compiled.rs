//! Machine code of components, and the directory that keeps it between starts. Compiling takes seconds; reading takes
//! milliseconds.
//!
//! Invariant: no code runs that this kernel, or one with its master key, did not compile itself with these settings. An entry
//! carries a keyed hash (HMAC-SHA256) over the component's digest, the engine's settings and version, and the code; one that
//! does not bear it out (cut short, changed, put in the place of another, of an older kernel or of another master key) is
//! removed and made anew. A directory that cannot be read or written costs time, never a cell.

pub mod apart;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::{digest, hmac};
use tokio::sync::Semaphore;
use wasmtime::component::Component;

use super::engine::{self, Threads};
use crate::limit;

/// First bytes of every entry; the last one is the format.
const MAGIC: &[u8; 16] = b"aibos-compiled\0\x01";
/// Length of the keyed hash that follows.
const TAG_BYTES: usize = 32;
/// End of the name of an entry, and of one that is being written.
const ENTRY: &str = "code";
const UNFINISHED: &str = "unfinished";

/// Machine code that may be run. Made in two places only: by the compiler, here or in a process of its own, and by
/// [`CompiledCache::find`] once the hash holds.
#[derive(Debug)]
pub struct Code(Vec<u8>);

impl Code {
    /// Compiles a component.
    pub fn compile(wasm: &[u8], threads: Threads) -> wasmtime::Result<Self> {
        engine::compile(wasm, threads).map(Self)
    }

    /// Loads it into the serving engine.
    pub fn load(&self) -> wasmtime::Result<Component> {
        let engine = engine::engine().map_err(wasmtime::Error::msg)?;
        #[expect(unsafe_code, reason = "a `Code` is only made from the compiler's output")]
        // SAFETY: the bytes are the unchanged output of `precompile_component` of the same wasmtime and settings: just made,
        // or read back in one piece, and then checked against a keyed hash over both.
        unsafe {
            Component::deserialize(engine, &self.0)
        }
    }
}

/// How requests to the cache went since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Read.
    pub hits: u64,
    /// Not there.
    pub misses: u64,
    /// There, and not what this kernel wrote.
    pub rejected: u64,
}

/// The directory.
#[derive(Debug)]
pub struct CompiledCache {
    directory: PathBuf,
    bytes_max: u64,
    key: hmac::Key,
    engine: Vec<u8>,
    hits: AtomicU64,
    misses: AtomicU64,
    rejected: AtomicU64,
    written: AtomicU64,
}

impl CompiledCache {
    /// Opens the directory, making it if it is missing. `secret` is the key of the hashes.
    pub fn open(directory: PathBuf, secret: &[u8; 32], bytes_max: u64) -> io::Result<Self> {
        let mut builder = DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&directory)?;
        let engine = engine::engine().map_err(io::Error::other)?;
        let cache = Self {
            directory,
            bytes_max,
            key: hmac::Key::new(hmac::HMAC_SHA256, secret),
            engine: fingerprint(&engine.precompile_compatibility_hash()),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            written: AtomicU64::new(0),
        };
        // What a kernel was writing when it was killed.
        for (path, ..) in
            cache.files()?.iter().filter(|(path, ..)| path.extension().is_some_and(|end| end == UNFINISHED))
        {
            fs::remove_file(path)?;
        }
        Ok(cache)
    }

    /// The code of the component with this digest (`sha256:` and hex), if the directory has it.
    pub fn find(&self, digest: &str) -> Option<Code> {
        let path = self.path(digest, ENTRY)?;
        let entry = fs::read(&path).map_err(|cause| {
            if cause.kind() != io::ErrorKind::NotFound {
                tracing::warn!(path = %path.display(), %cause, "compiled code cannot be read");
            }
        });
        let is_there = entry.is_ok();
        let found = entry.ok().and_then(|entry| self.open_entry(digest, entry));
        let (counter, result) = match (is_there, &found) {
            (_, Some(_)) => (&self.hits, "hit"),
            (false, None) => (&self.misses, "miss"),
            (true, None) => {
                remove(&path, digest);
                (&self.rejected, "rejected")
            }
        };
        counter.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("cache_requests_total", "cache" => "compiled", "result" => result).increment(1);
        found
    }

    /// Keeps the code of a component, and makes room for it by removing the oldest.
    pub fn keep(&self, digest: &str, code: &Code) {
        let size = (MAGIC.len() + TAG_BYTES + code.0.len()) as u64;
        if size > self.bytes_max {
            return;
        }
        if let Err(cause) = self.write(digest, code).and_then(|()| self.make_room()) {
            tracing::warn!(directory = %self.directory.display(), %cause, "compiled code cannot be kept");
        }
    }

    /// How requests went so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            rejected: self.rejected.load(Ordering::Relaxed),
        }
    }

    /// The code in an entry, if the entry is this kernel's and of this component.
    fn open_entry(&self, digest: &str, mut entry: Vec<u8>) -> Option<Code> {
        let head = MAGIC.len() + TAG_BYTES;
        let (tag, code) = entry.strip_prefix(MAGIC)?.split_at_checked(TAG_BYTES)?;
        let expected = self.tag(digest, code);
        // Compares in constant time.
        aws_lc_rs::constant_time::verify_slices_are_equal(expected.as_ref(), tag).ok()?;
        entry.drain(..head);
        Some(Code(entry))
    }

    fn tag(&self, digest: &str, code: &[u8]) -> hmac::Tag {
        let mut hash = hmac::Context::with_key(&self.key);
        hash.update(MAGIC);
        hash.update(&(digest.len() as u64).to_le_bytes());
        hash.update(digest.as_bytes());
        hash.update(&(self.engine.len() as u64).to_le_bytes());
        hash.update(&self.engine);
        hash.update(code);
        hash.sign()
    }

    fn write(&self, digest: &str, code: &Code) -> io::Result<()> {
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        let unfinished = format!("{}-{number}.{UNFINISHED}", std::process::id());
        let paths = self.path(digest, &unfinished).zip(self.path(digest, ENTRY));
        let Some((unfinished, path)) = paths else { return Ok(()) };
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let write = |mut file: File| {
            file.write_all(MAGIC)?;
            file.write_all(self.tag(digest, &code.0).as_ref())?;
            file.write_all(&code.0)
        };
        // Not flushed to the disk: what a crash leaves half written does not bear out its hash.
        let written = options.open(&unfinished).and_then(write).and_then(|()| fs::rename(&unfinished, path));
        if written.is_err() {
            fs::remove_file(&unfinished)?;
        }
        written
    }

    fn make_room(&self) -> io::Result<()> {
        let mut files = self.files()?;
        let mut total: u64 = files.iter().map(|(_, _, bytes)| bytes).sum();
        files.sort_by_key(|(_, written_at, _)| *written_at);
        for (path, _, bytes) in files {
            if total <= self.bytes_max {
                break;
            }
            fs::remove_file(&path)?;
            total -= bytes;
        }
        Ok(())
    }

    /// Path, time and size of every file.
    fn files(&self) -> io::Result<Vec<(PathBuf, std::time::SystemTime, u64)>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            match entry.metadata() {
                Ok(metadata) if metadata.is_file() => {
                    files.push((entry.path(), metadata.modified()?, metadata.len()));
                }
                Ok(_) => {}
                // Another kernel removed it meanwhile.
                Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
                Err(cause) => return Err(cause),
            }
        }
        Ok(files)
    }

    /// Where an entry lies; none for a text that is no digest and could lead elsewhere.
    fn path(&self, digest: &str, end: &str) -> Option<PathBuf> {
        let hex = digest.strip_prefix("sha256:")?;
        let plain =
            hex.len() == 64 && hex.bytes().all(|digit| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit));
        plain.then(|| self.directory.join(format!("{hex}.{end}")))
    }
}

/// Turns components into code that can be called: from the cache, or by compiling, few at a time so that serving goes on.
#[derive(Clone, Debug)]
pub struct Compiler {
    cache: Option<Arc<CompiledCache>>,
    turns: Arc<Semaphore>,
    /// The program that compiles in a process of its own; none compiles in this one.
    apart: Option<PathBuf>,
}

impl Default for Compiler {
    /// A compiler without a cache.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { cache: None, turns: Arc::new(Semaphore::new((cores / 2).max(1))), apart: None }
    }
}

impl Compiler {
    /// A compiler with a cache in this directory; without one when the directory cannot be used.
    #[must_use]
    pub fn with_cache(directory: PathBuf, secret: &[u8; 32]) -> Self {
        let shown = directory.display().to_string();
        let cache = CompiledCache::open(directory, secret, limit::COMPILED_CACHE_BYTES_MAX)
            .map_err(
                |cause| tracing::warn!(directory = shown, %cause, "compiled code is not kept; starts will be slow"),
            )
            .ok();
        Self { cache: cache.map(Arc::new), ..Self::default() }
    }

    /// Compiles in processes of this program from now on.
    #[must_use]
    pub fn apart(self, program: Option<PathBuf>) -> Self {
        Self { apart: program, ..self }
    }

    /// The component with this digest, if its code is in the cache. Blocks for the time of a file's reading.
    #[must_use]
    pub fn cached(&self, digest: &str) -> Option<Component> {
        let code = self.cache.as_ref()?.find(digest)?;
        code.load().map_err(|cause| tracing::warn!(digest, "compiled code does not load: {cause:#}")).ok()
    }

    /// Compiles a component and keeps its code, after those that wait already.
    pub async fn compile(&self, wasm: Arc<[u8]>, digest: String) -> wasmtime::Result<Component> {
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        let code = self.compile_apart(&wasm).await.transpose()?.map(Code);
        let cache = self.cache.clone();
        let task = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let code = code.map_or_else(|| Code::compile(&wasm, Threads::One), Ok)?;
            if let Some(cache) = cache {
                cache.keep(&digest, &code);
            }
            code.load()
        });
        task.await.unwrap_or_else(|cause| Err(wasmtime::Error::msg(format!("the compiler stopped: {cause}"))))
    }

    /// The code or what is wrong with the component; none where no other process can be had.
    async fn compile_apart(&self, wasm: &[u8]) -> Option<wasmtime::Result<Vec<u8>>> {
        let program = self.apart.as_deref()?;
        let mut compiled = apart::compile(program, wasm).await;
        if let Err(apart::Failure::Interrupted(cause)) = &compiled {
            tracing::warn!(cause, "a compilation was ended from outside; it is begun once more");
            compiled = apart::compile(program, wasm).await;
        }
        match compiled {
            Ok(code) => Some(Ok(code)),
            Err(apart::Failure::Refused(error)) => Some(Err(error)),
            Err(apart::Failure::Interrupted(cause)) => {
                let why = format!("its compilation was ended twice ({cause}), perhaps for want of memory; try again");
                Some(Err(wasmtime::Error::msg(why)))
            }
            Err(apart::Failure::NotStarted(cause)) => {
                tracing::warn!(cause, "no process to compile in; compiling in this one slows down serving");
                None
            }
        }
    }

    /// The cache's counts.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.cache.as_ref().map(|cache| cache.counts()).unwrap_or_default()
    }
}

fn remove(path: &Path, digest: &str) {
    tracing::warn!(digest, path = %path.display(), "compiled code is not what this kernel wrote; it is made anew");
    if let Err(cause) = fs::remove_file(path) {
        tracing::warn!(path = %path.display(), %cause, "compiled code cannot be removed");
    }
}

/// SHA-256 of everything that a value feeds to a hasher: unlike the standard hasher's answer it cannot meet another's by
/// chance.
fn fingerprint(value: &impl Hash) -> Vec<u8> {
    struct Sha256(digest::Context);
    impl Hasher for Sha256 {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
        fn finish(&self) -> u64 {
            0
        }
    }
    let mut hasher = Sha256(digest::Context::new(&digest::SHA256));
    value.hash(&mut hasher);
    hasher.0.finish().as_ref().to_vec()
}

#[cfg(test)]
mod tests;
