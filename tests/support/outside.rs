//! A server outside: real HTTP over a socket of this machine, encrypted or not, that a kernel takes for a server of the
//! internet. It counts what reaches it, and each of its paths answers in one way.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use aibos::cell::outbound::Origin;
use aibos::cell::outside::Outside;
use aibos::limit;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::{ServerConfig, crypto};

/// The name that the certificate is for; it is reserved and leads nowhere.
pub const NAME: &str = "rates.example.test";

/// Vouches for the certificate of the servers, and for nothing else.
const AUTHORITY: &[u8] = include_bytes!("outside/authority.der");
const CERTIFICATE: &[u8] = include_bytes!("outside/server.der");
const KEY: &[u8] = include_bytes!("outside/server-key.der");

/// A server; it ends with its runtime.
#[derive(Clone, Debug)]
pub struct OutsideServer {
    /// Where it really listens.
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
    arrived: Arc<Semaphore>,
    released: Arc<Semaphore>,
}

impl OutsideServer {
    /// Listens without encryption.
    pub async fn start() -> Self {
        Self::listen(None).await
    }

    /// Listens with the certificate for [`NAME`].
    pub async fn start_encrypted() -> Self {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(KEY));
        let settings = ServerConfig::builder_with_provider(Arc::new(crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the versions of TLS are there")
            .with_no_client_auth()
            .with_single_cert(vec![CertificateDer::from(CERTIFICATE)], key)
            .expect("the certificate fits its key");
        Self::listen(Some(TlsAcceptor::from(Arc::new(settings)))).await
    }

    async fn listen(encryption: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("the listener has an address");
        let closed = || Arc::new(Semaphore::new(0));
        let server = Self { address, seen: Arc::default(), arrived: closed(), released: closed() };
        let serving = server.clone();
        #[expect(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
        tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (server, encryption) = (serving.clone(), encryption.clone());
                connections.spawn(async move {
                    // A client that hangs up early, or believes nobody, is the client's business.
                    match encryption {
                        Some(acceptor) => drop(server.answer(acceptor.accept(stream).await?).await),
                        None => drop(server.answer(stream).await),
                    }
                    io::Result::Ok(())
                });
            }
        });
        server
    }

    /// The outside of a kernel in which this server stands in for an origin, and its authority is believed.
    #[must_use]
    pub fn as_origin(&self, origin: &str, outside: Outside) -> Outside {
        let origin: Origin = origin.parse().expect("an origin");
        let authority = CertificateDer::from(AUTHORITY);
        outside.with_stand_in(origin, self.address).with_authority(authority).expect("the authority is one")
    }

    /// The request lines that reached it, in order.
    #[must_use]
    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until a request for `/held` is there.
    pub async fn arrival(&self) {
        self.arrived.acquire().await.expect("it is open").forget();
    }

    /// Lets one request for `/held` be answered.
    pub fn release(&self) {
        self.released.add_permits(1);
    }

    async fn answer(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let line = head.lines().next().unwrap_or_default().to_owned();
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        let (path, query) = path.split_once('?').unwrap_or((&path, ""));
        match path {
            "/rate" => reply(&mut stream, "200 OK", "", b"1.0842").await?,
            "/held" => {
                self.arrived.add_permits(1);
                self.released.acquire().await.expect("it is open").forget();
                reply(&mut stream, "200 OK", "", b"1.0842").await?;
            }
            "/moved" => reply(&mut stream, "302 Found", &format!("location: {query}\r\n"), b"").await?,
            "/silent" => std::future::pending::<()>().await,
            "/half" => {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").await?;
                std::future::pending::<()>().await;
            }
            "/large" => {
                reply(&mut stream, "200 OK", "", &vec![b'x'; limit::OUTBOUND_REPLY_BYTES_MAX + 1]).await?;
            }
            "/noise" => stream.write_all(&[0xff; 512]).await?,
            "/long-head" => {
                let long = format!("x-long: {}\r\n", "x".repeat(4 * limit::OUTBOUND_HEAD_BYTES_MAX));
                reply(&mut stream, "200 OK", &long, b"").await?;
            }
            _ => reply(&mut stream, "404 Not Found", "", b"").await?,
        }
        stream.shutdown().await
    }
}

async fn reply(stream: &mut (impl AsyncWrite + Unpin), status: &str, headers: &str, body: &[u8]) -> io::Result<()> {
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n", body.len());
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body).await
}
