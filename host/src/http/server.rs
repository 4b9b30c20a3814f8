//! The listening socket: accepts connections, bounds the time for a request head, and drains on shutdown.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{Semaphore, watch};
use tower::ServiceExt;

use super::router;
use crate::kernel::Kernel;
use crate::limit;

/// Time for requests in flight after a stop was asked for.
const DRAIN: Duration = Duration::from_secs(25);

/// Listens on an address. Connections that come at once wait to be accepted, as many as the system lets (`somaxconn`): one
/// that finds no room there is not refused, its client tries again after a second.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Else a restart would wait for the connections of the process before. Elsewhere the option means something else.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(limit::CONNECTIONS_WAITING_MAX)
}

/// Connections at once: each is an open file, and the kernel needs some itself.
fn connections_most() -> usize {
    #[cfg(unix)]
    if let Some(files) = rustix::process::getrlimit(rustix::process::Resource::Nofile).current {
        let connections = usize::try_from(files).unwrap_or(usize::MAX).saturating_sub(limit::FILES_BESIDE);
        return limit::CONNECTIONS_MAX.min(connections.max(1));
    }
    limit::CONNECTIONS_MAX
}

/// Lets this process open as many files as the system allows it (`RLIMIT_NOFILE`): a connection is one, and where the usual
/// limit is 1,024, the hard one is thousands. Answers how many.
#[cfg(unix)]
#[must_use]
pub fn open_files_most() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX);
    match setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        Ok(()) => most,
        Err(_) => limit.current.unwrap_or(most),
    }
}

/// Serves until `stop` turns true, then lets requests in flight finish.
pub async fn serve(kernel: Arc<Kernel>, listener: TcpListener, stop: watch::Receiver<bool>) -> io::Result<()> {
    serve_router(router::router(&kernel), listener, stop).await
}

/// The same for a router of the caller's: the benchmark adds handlers that run without a sandbox.
pub async fn serve_router(router: Router, listener: TcpListener, mut stop: watch::Receiver<bool>) -> io::Result<()> {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(limit::HEADER_READ_TIMEOUT);
    let graceful = GracefulShutdown::new();
    let most = connections_most();
    let places = Arc::new(Semaphore::new(most));
    loop {
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(cause) => {
                    // Out of file descriptors: wait for one instead of spinning.
                    tracing::warn!(%cause, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
            () = stopped(&mut stop) => break,
        };
        // Replies are small; waiting to fill a segment only delays them.
        if let Err(cause) = stream.set_nodelay(true) {
            tracing::debug!(%cause, "a connection was gone before it began");
            continue;
        }
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            tracing::warn!(most, "too many connections; one was closed");
            continue;
        };
        let router = router.clone();
        let service = tower::service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer);
            router.clone().oneshot(request.map(Body::new))
        });
        let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
        let watched = graceful.watch(connection);
        #[expect(clippy::disallowed_methods, reason = "tracked by `graceful`, which waits for it at shutdown")]
        tokio::spawn(async move {
            let _place = place;
            if let Err(cause) = watched.await {
                tracing::debug!(%cause, "a connection ended badly");
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
        tracing::warn!("some connections were cut after the drain deadline");
    }
    Ok(())
}

/// Ends when a stop was asked for, or nobody is left to ask for one. The guard of the channel is gone before anything is
/// waited for, so that serving can be a task of its own.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}
