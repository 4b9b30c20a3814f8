//! Every number that the kernel refuses to exceed, with its reason. Limits of a single cell are set in its `cell.toml`
//! within the bounds given here.

use std::time::Duration;

use jiff::SignedDuration;

/// Time for a client to send its request head; slower clients hold sockets for ever.
pub const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Body of a request to the control plane or a cell, in bytes. JSON of a payment is a few hundred.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Body of an upload of a component, in bytes: a Python component is 18 MB.
pub const UPLOAD_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Headers of a reply of a cell.
pub const REPLY_HEADERS_MAX: usize = 64;
/// Names and values of the headers of a reply, in bytes.
pub const REPLY_HEADER_BYTES_MAX: usize = 16 * 1024;
/// Page size when the client names none.
pub const PAGE_DEFAULT: u32 = 50;
/// Largest page.
pub const PAGE_MAX: u32 = 200;

/// Units of work that wait for the committer. When full, calls are refused at once instead of piling up.
pub const COMMIT_QUEUE_MAX: usize = 4096;
/// Units of one tenant that wait for the committer: a tenant that floods the kernel leaves half of the room to the others.
pub const COMMIT_QUEUE_PER_TENANT_MAX: usize = COMMIT_QUEUE_MAX / 2;
/// Bytes that wait for the committer: they are the host's memory.
pub const COMMIT_QUEUE_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Units in one commit: past a few hundred a batch gains nothing and makes the first of it wait.
pub const COMMIT_BATCH_MAX: usize = 256;
/// Bytes in one commit: a database has a limit for one message, and one large unit must not fail its neighbours.
pub const COMMIT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Times that one request is run again because what it read had changed.
pub const CONFLICT_ATTEMPTS_MAX: u32 = 16;
/// Reads of one unit of work; each is checked at commit.
pub const READS_MAX: usize = 10_000;

/// Keys of one statement that reads for several requests: enough to gather a crowd, and no reply waits for a long one.
pub const GATHERED_KEYS_MAX: usize = 128;
/// Keys of one request that gather with others; who reads more has a statement of its own.
pub const GATHERED_KEYS_EACH_MAX: usize = 16;
/// Reading connections to `PostgreSQL`. A server admits 100 by default, and several kernels share it.
pub const POSTGRES_READERS_MAX: u32 = 16;
/// Reading connections to `SQLite`; each is a thread that keeps a core busy.
pub const SQLITE_READERS_MAX: u32 = 4;
/// Time to wait for a free connection, or for a database that does not answer.
pub const CONNECTION_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for a read, for BEGIN and for ROLLBACK, as seen from the kernel: a server that stands still and a dead network say
/// nothing. Longer than [`CONNECTION_TIMEOUT`], which is a part of it.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(8);
/// The same for the question whether the database answers at all, whose asker wants to know soon.
pub const PING_TIMEOUT: Duration = Duration::from_secs(2);
/// Time that a database server works on one statement. The slowest waits for other kernels' commits.
pub const STATEMENT_TIMEOUT: Duration = Duration::from_secs(15);
/// Time after which the server ends a commit whose kernel fell silent, so that it does not hold the log's head for ever.
/// Shorter than [`STATEMENT_TIMEOUT`], or the kernels that wait for it would give up first.
pub const SILENT_COMMIT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for everything before COMMIT, and again for COMMIT, as seen from the kernel: a dead network says nothing.
pub const COMMIT_TIMEOUT: Duration = Duration::from_secs(30);

/// What a process remembers of the database, so that a busy one need not ask again what it just wrote: a second's
/// worth, roughly.
pub const KNOWN_BYTES_MAX: usize = 16 * 1024 * 1024;
/// A larger value is not remembered, only its version.
pub const KNOWN_VALUE_BYTES_MAX: usize = 8 * 1024;

/// Length of a state key, in bytes.
pub const STATE_KEY_BYTES_MAX: usize = 512;
/// Length of a state value, in bytes. A larger thing is several keys.
pub const STATE_VALUE_BYTES_MAX: usize = 256 * 1024;
/// Keys of one `get-many`, entries of one `list`.
pub const STATE_PAGE_MAX: u32 = 1000;
/// Staged writes of one call.
pub const STATE_WRITES_MAX: usize = 1000;
/// Staged bytes of one call.
pub const STATE_WRITE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Length of an event's data, in bytes.
pub const EVENT_DATA_BYTES_MAX: usize = 64 * 1024;
/// Events of one call.
pub const EVENTS_PER_CALL_MAX: usize = 100;
/// Audit notes of one call.
pub const AUDIT_NOTES_PER_CALL_MAX: usize = 16;
/// Length of the details of a note, in bytes.
pub const AUDIT_DETAILS_BYTES_MAX: usize = 4096;
/// Length of one log line of a cell, in bytes.
pub const LOG_LINE_BYTES_MAX: usize = 4096;
/// Length of the value of a cell's setting, in bytes.
pub const SETTING_BYTES_MAX: usize = 4096;
/// Length of the value of a cell's secret, in bytes: a chain of certificates fits.
pub const SECRET_BYTES_MAX: usize = 16 * 1024;
/// Settings of one cell, and again secrets: every snapshot carries all of them.
pub const GIVEN_PER_CELL_MAX: u32 = 100;
/// Log lines of one call.
pub const LOG_LINES_PER_CALL_MAX: u32 = 256;
/// Host calls of one call, those of WASI included; a loop over host calls burns little fuel in the guest.
pub const HOST_CALLS_MAX: u32 = 10_000;
/// Cells that call each other in one request.
pub const CALL_DEPTH_MAX: u32 = 8;

/// Fuel of one call: default and bounds. A payment through three cells uses a few million.
pub const FUEL_DEFAULT: u64 = 50_000_000;
/// Most fuel that a manifest may ask for.
pub const FUEL_MAX: u64 = 10_000_000_000;
/// Time of one call, in milliseconds.
pub const TIMEOUT_MS_DEFAULT: u64 = 1000;
/// Most time that a manifest may ask for, in milliseconds.
pub const TIMEOUT_MS_MAX: u64 = 30_000;
/// Linear memory of a cell, in mebibytes.
pub const MEMORY_MB_DEFAULT: u64 = 32;
/// Most memory that a manifest may ask for, in mebibytes; the pool reserves address space for it.
pub const MEMORY_MB_MAX: u64 = 256;
/// Body of a cell's reply, in kibibytes.
pub const OUTPUT_KB_DEFAULT: u64 = 1024;
/// Most output that a manifest may ask for, in kibibytes.
pub const OUTPUT_KB_MAX: u64 = 16 * 1024;
/// Calls of one cell that run at once.
pub const CONCURRENCY_DEFAULT: u32 = 64;
/// Most concurrency that a manifest may ask for; the pool holds this many instances for all cells together.
pub const CONCURRENCY_MAX: u32 = 1000;
/// Stack of a guest's compiled code, in bytes.
pub const GUEST_STACK_BYTES_MAX: usize = 512 * 1024;
/// Elements of one table of a cell (function pointers).
pub const TABLE_ELEMENTS_MAX: usize = 20_000;
/// Cells loaded at once when a snapshot is built: enough that reading one and checking another overlap.
pub const CELLS_LOADED_AT_ONCE: usize = 4;
/// Compiled code that is kept on disk, in bytes: a Rust cell has a few megabytes of it, a Python cell some 60. The oldest
/// goes first.
pub const COMPILED_CACHE_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;
/// Trap reports kept for each cell.
pub const TRAPS_KEPT: u64 = 100;

/// Log lines kept in memory for each cell; the process's own log has them all.
pub const LOG_LINES_KEPT: usize = 500;
/// Most strikes that a manifest may name; each is remembered for its window.
pub const STRIKES_MAX: u64 = 1000;
/// Longest window of strikes that a manifest may name, in seconds.
pub const STRIKE_WINDOW_S_MAX: u64 = 86_400;
/// Longest pause of a breaker that a manifest may name, in milliseconds: an hour.
pub const BACKOFF_MS_MAX: u64 = 3_600_000;
/// Accounts of usage that are written in one unit of work.
pub const USAGE_ACCOUNTS_PER_UNIT: usize = 200;
/// Bytes that a component of the standard world may leave in one of the host's buffers for bodies.
pub const WASI_BODY_CHUNK_BYTES: usize = 16 * 1024;
/// Bytes of one set of headers in the standard world, the request's own included.
pub const WASI_FIELD_BYTES_MAX: usize = 64 * 1024;
/// Calls of one warm instance: what a guest loses with each call, however little, is given back by then.
pub const WARM_CALLS_MAX: u32 = 1_000_000;
/// Instances that rest between two calls, of all cells: a part of the pool, which those that run need.
pub const WARM_INSTANCES_MAX: usize = 128;
/// Linear memory of resting instances, in bytes.
pub const WARM_BYTES_MAX: usize = 1024 * 1024 * 1024;
/// How long an instance rests before it is ended.
pub const WARM_REST_MAX: Duration = Duration::from_secs(10);
/// Processor time of one compilation, in seconds: 18 MB of Python take some 20.
pub const COMPILE_CPU_SECONDS_MAX: u64 = 240;
/// Time of one compilation on the wall: on a busy machine it has a tenth of a core.
pub const COMPILE_TIMEOUT: Duration = Duration::from_mins(30);
/// Memory of one compilation, in bytes: 18 MB of Python take less than one GiB.
pub const COMPILE_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;
/// Names that are looked up at once, for all cells: each takes a thread, for as long as the name server is silent.
pub const OUTBOUND_LOOKUPS_MAX: usize = 16;
/// Lines that the cells of one request may print; further ones are dropped.
pub const PRINTED_LINES_MAX: u32 = 256;
/// Breakers of one cell: one for each tenant that was struck lately.
pub const WARDS_MAX: usize = 10_000;
/// Times in a row that a breaker opens for everybody before the cell is quarantined.
pub const BREAKER_OPENINGS_MAX: u32 = 6;
/// Failures of a canary before it can be judged worse: one or two may be chance.
pub const CANARY_FAILURES_MIN: u64 = 3;
/// Versions that a cell can be rolled back through.
pub const HISTORY_MAX: usize = 10;
/// Characters of the reason that an operator gives.
pub const REASON_LENGTH_MAX: usize = 500;

/// Life of an access token. Short, because a disabled user keeps a token but loses every permission at once anyway.
pub const ACCESS_TOKEN_LIFE: Duration = Duration::from_mins(10);
/// Passwords hashed at once: each takes 19 MiB and a core for some 20 ms.
pub const PASSWORD_HASHES_MAX: usize = 2;
/// Passwords that wait for their turn; past them a sign-in is refused at once instead of after many seconds.
pub const PASSWORDS_WAITING_MAX: usize = 256;
/// Length of a password in characters, from and to (OWASP ASVS 5.0, 6.2).
pub const PASSWORD_LENGTH: (usize, usize) = (8, 128);
/// Life of a stored reply of an idempotent request.
pub const IDEMPOTENCY_LIFE: Duration = Duration::from_hours(48);

/// Verified tokens that are remembered: some 200 bytes each.
pub const TOKENS_CACHED_MAX: u64 = 100_000;
/// Least time between two readings of the signing keys for an unknown `kid`.
pub const KEY_RELOAD_PAUSE: Duration = Duration::from_secs(5);
/// Sessions whose access is remembered.
pub const ACCESS_CACHED_MAX: u64 = 100_000;
/// Time after which another kernel's change of a user, role or session is seen here; its own changes are seen at once.
pub const ACCESS_CACHE_LIFE: Duration = Duration::from_secs(5);
/// Accounts and addresses whose failed sign-ins are counted.
pub const THROTTLE_SUBJECTS_MAX: u64 = 100_000;
/// Failed sign-ins of one account before it must wait.
pub const FAILURES_FREE_PER_ACCOUNT: u32 = 5;
/// Failed sign-ins from one address before it must wait.
pub const FAILURES_FREE_PER_ADDRESS: u32 = 100;
/// Quiet time after which failed sign-ins no longer count.
pub const FAILURES_FORGOTTEN_AFTER: SignedDuration = SignedDuration::from_mins(30);
/// Roles of one user: all are read to decide what the user may do.
pub const ROLES_PER_USER_MAX: u32 = 100;
/// Permissions of one role.
pub const PERMISSIONS_PER_ROLE_MAX: usize = 500;
/// Characters of the id and the subject of a published event.
pub const EVENT_NAME_MAX: usize = 256;
/// Injected faults at once; each is looked at in every call of its cell.
pub const FAULTS_MAX: usize = 100;
/// Audited failures and denials of one kind that are written one by one within a window; the others are counted.
pub const AUDIT_STORM_FREE: u32 = 5;
/// Length of such a window: how late the count of a storm may be written, and what a crash may lose of it.
pub const AUDIT_STORM_WINDOW: SignedDuration = SignedDuration::from_mins(1);
/// Kinds that are counted at once; past them everything is written.
pub const AUDIT_STORMS_MAX: usize = 10_000;
/// Leaf hashes that the tree of the audit log takes in with one read.
pub const AUDIT_SEAL_PAGE: u64 = 4096;
/// Such reads of one second: a kernel that has much to catch up with does its other work in between.
pub const AUDIT_SEAL_PAGES_MAX: u32 = 16;
/// Rows that a verification of the audit log reads at once; an entry can have a few kilobytes.
pub const AUDIT_CHECK_PAGE: u32 = 500;
/// Records that a check of the whole database reads at once, with what belongs to each.
pub const VERIFY_PAGE: u32 = 500;
/// Entries that an export of the audit log reads at once.
pub const AUDIT_EXPORT_PAGE: u32 = 200;
/// Exports of the audit log that read the database at once: each reads as fast as its client takes it.
pub const AUDIT_EXPORTS_MAX: usize = 2;
/// Bytes of a line of an export: no entry is larger than a commit, and quoting its text at most doubles it.
pub const AUDIT_EXPORT_LINE_BYTES_MAX: u64 = 2 * COMMIT_BYTES_MAX as u64 + 4096;
/// Checkpoints that one verification compares with the log.
pub const CHECKPOINTS_KEPT_MAX: usize = 100;
/// Longest time after which an injected fault ends by itself, in milliseconds: a game day, not a habit.
pub const FAULT_TTL_MS_MAX: u64 = 7 * 24 * 60 * 60 * 1000;
/// Longest injected delay, in milliseconds: no call lives longer.
pub const FAULT_DELAY_MS_MAX: u64 = TIMEOUT_MS_MAX;
/// Bytes that one host call may carry into the host.
pub const HOST_CALL_BYTES_MAX: usize = 20 * 1024 * 1024;
/// Bytes that one request may read from the state, its callees included: the host keeps them until it ends.
pub const STATE_READ_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Random bytes of one WASI call; they are made on the worker's thread.
pub const WASI_RANDOM_BYTES_MAX: u64 = 64 * 1024;
/// WASI resources of one invocation: each is an object in the host.
pub const WASI_RESOURCES_MAX: usize = 256;
/// Failed calls below one request that leave a report each; a loop over a failing callee must not fill the log.
pub const FAILURES_PER_REQUEST_MAX: usize = 16;
/// Bytes free on the kernel's disks below which it says that it is not ready: time to act before commits are refused.
pub const DISK_FREE_BYTES_MIN: u64 = 256 * 1024 * 1024;
/// Entries of the audit log that are put in order for one page. Those of a longer time are gone through in the log's order.
pub const AUDIT_SORTED_MAX: i64 = 10_000;
/// Expired rows that one sweep removes: it takes about a millisecond, which a commit may have to wait on `SQLite`.
pub const SWEEP_ROWS_MAX: i64 = 500;
/// Sweeps in a row: at ten thousand rows a second the sweeper keeps up with every load that fits the machine.
pub const SWEEPS_PER_SECOND_MAX: u32 = 20;
/// Times that a commit is tried whose outcome was unknown and which had not happened.
pub const COMMIT_ATTEMPTS_MAX: u32 = 3;
/// Time for a client to send a body.
pub const BODY_READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Connections at once.
pub const CONNECTIONS_MAX: usize = 10_000;
/// Files that a kernel opens besides its connections.
pub const FILES_BESIDE: usize = 500;
/// Connections that wait to be accepted.
pub const CONNECTIONS_WAITING_MAX: u32 = 4096;
/// Bytes of a refused body that are still taken in, so that its client sees the refusal.
pub const DRAIN_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Time for that.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Requests to the outside of one call, its callees included: a call looks something up, it does not crawl.
pub const OUTBOUND_REQUESTS_MAX: u32 = 16;
/// Head of a reply from the outside, in bytes.
pub const OUTBOUND_HEAD_BYTES_MAX: usize = 64 * 1024;
/// Body of a reply from the outside, in bytes; the cell reads it into its own memory.
pub const OUTBOUND_REPLY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Addresses of one name that are looked at.
pub const OUTBOUND_ADDRESSES_MAX: usize = 16;
