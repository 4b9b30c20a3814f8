//! A network between the kernel and `PostgreSQL` that breaks exactly at COMMIT, or at the n-th thing that is sent.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use sqlx::postgres::PgConnectOptions;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What happens to the next COMMIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Commit {
    /// It passes.
    Passes,
    /// The connection breaks before the server hears of it.
    NeverArrives,
    /// The server hears of it, and the connection breaks before its answer.
    IsNotAnswered,
}

/// A listening proxy; it ends with its runtime.
#[derive(Debug)]
pub struct Proxy {
    url: String,
    next: Arc<AtomicU8>,
    left: Arc<AtomicU64>,
    held: Arc<watch::Sender<bool>>,
}

/// A simple query `commit`, as the protocol writes it.
const COMMIT: &[u8] = b"Q\x00\x00\x00\x0bcommit\x00";

impl Proxy {
    /// Listens in front of the server of `url`, which must name a host and a port.
    pub async fn before(url: &str) -> Self {
        let options: PgConnectOptions = url.parse().expect("the URL is understood");
        let server = format!("{}:{}", options.get_host(), options.get_port());
        assert!(url.contains(&server), "AIBOS_TEST_POSTGRES must name a host and a port, not a socket: {url}");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address: SocketAddr = listener.local_addr().expect("the listener has an address");
        let url = url.replace(&server, &address.to_string());
        let next = Arc::new(AtomicU8::new(Commit::Passes as u8));
        let left = Arc::new(AtomicU64::new(0));
        let held = Arc::new(watch::Sender::new(false));
        let (shared, countdown, holding) = (Arc::clone(&next), Arc::clone(&left), Arc::clone(&held));
        #[expect(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
        tokio::spawn(async move {
            let mut pairs = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                // A server that is away is away for the client, too.
                let Ok(server) = TcpStream::connect(&server).await else { continue };
                pairs.spawn(pass(client, server, Arc::clone(&shared), Arc::clone(&countdown), holding.subscribe()));
            }
        });
        Self { url, next, left, held }
    }

    /// What `DATABASE_URL` would say.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Breaks the connection on which the n-th piece from now is sent to the server, before it arrives; 0 takes that back.
    /// A piece is what the client writes at once: as a rule the statements between two waits for an answer.
    pub fn cut_at(&self, n: u64) {
        self.left.store(n, Ordering::SeqCst);
    }

    /// How many pieces are left until the cut; 0 when it has happened.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.left.load(Ordering::SeqCst)
    }

    /// Holds back everything from now on, with the connections open: a dead network, of which nobody hears.
    pub fn fall_silent(&self) {
        self.held.send_replace(true);
    }

    /// Sets the fate of the next COMMIT.
    pub fn next_commit(&self, fate: Commit) {
        self.next.store(fate as u8, Ordering::SeqCst);
    }
}

/// Passes bytes both ways until either side or a COMMIT ends it; returning closes both sockets.
async fn pass(
    client: TcpStream,
    server: TcpStream,
    next: Arc<AtomicU8>,
    left: Arc<AtomicU64>,
    mut held: watch::Receiver<bool>,
) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    loop {
        tokio::select! {
            biased;
            // The sockets stay open for as long as the test runs.
            () = silence(&mut held) => return std::future::pending().await,
            bytes = chunk(&mut from_client) => {
                let Some(bytes) = bytes else { return };
                let counted = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
                if counted == Ok(1) {
                    return;
                }
                let fate = if bytes.windows(COMMIT.len()).any(|window| window == COMMIT) {
                    next.swap(Commit::Passes as u8, Ordering::SeqCst)
                } else {
                    Commit::Passes as u8
                };
                if fate == Commit::NeverArrives as u8 || to_server.write_all(&bytes).await.is_err() {
                    return;
                }
                if fate == Commit::IsNotAnswered as u8 {
                    return;
                }
            }
            bytes = chunk(&mut from_server) => {
                let Some(bytes) = bytes else { return };
                if to_client.write_all(&bytes).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Ends when the network falls silent.
async fn silence(held: &mut watch::Receiver<bool>) {
    let never = held.wait_for(|held| *held).await.is_err();
    if never {
        std::future::pending::<()>().await;
    }
}

async fn chunk(from: &mut (impl AsyncRead + Unpin)) -> Option<Vec<u8>> {
    let mut bytes = vec![0; 16 * 1024];
    let length = from.read(&mut bytes).await.ok().filter(|length| *length > 0)?;
    bytes.truncate(length);
    Some(bytes)
}
