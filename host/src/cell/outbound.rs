//! `wasi:http/outgoing-handler`: requests of a cell to the outside. Only to origins that its manifest lists, only to public
//! addresses, only as long as its call may run; the address that was judged is the one that is connected to, and no
//! redirect is followed. Everything else is refused with an error code that the cell can handle.

use std::fmt;
use std::io;
use std::net::{Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use http::{HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::rustls::pki_types::ServerName;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi_http::p2::bindings::http::outgoing_handler::Host;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, IoError};
use wasmtime_wasi_http::p2::types::{HostFutureIncomingResponse, HostOutgoingRequest};
use wasmtime_wasi_http::p2::{HttpError, HttpResult};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks, WasiHttpView};

use super::outcome::Stop;
use super::outside::Outside;
use super::store::{CellStore, Purpose, Tree};
use super::version::CellVersion;
use crate::{address, limit};

/// A scheme, a host and a port: what a manifest lists.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Origin {
    scheme: Scheme,
    /// In lower case; an IPv6 address without its brackets.
    host: String,
    port: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

impl Origin {
    /// The origin of a request.
    #[must_use]
    pub fn of(uri: &Uri) -> Option<Self> {
        let (scheme, port) = match uri.scheme_str()? {
            "http" => (Scheme::Http, 80),
            "https" => (Scheme::Https, 443),
            _ => return None,
        };
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'))?;
        let port = match authority.as_str().strip_prefix(authority.host())? {
            "" => port,
            // Present and no number is no port at all.
            _ => authority.port_u16()?,
        };
        let host = match authority.host().strip_prefix('[') {
            Some(address) => address.strip_suffix(']')?.parse::<Ipv6Addr>().ok()?.to_string(),
            None => authority.host().to_ascii_lowercase(),
        };
        // The parser of URIs is lenient; a name has nothing else.
        let named = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
        (!host.is_empty() && host.bytes().all(named)).then_some(Self { scheme, host, port })
    }
}

impl FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let uri = text.parse::<Uri>().ok().filter(|uri| uri.path() == "/" && uri.query().is_none());
        uri.as_ref().and_then(Self::of).ok_or_else(|| {
            format!("outbound {text:?}: must be an origin like \"https://rates.example.com\", without a path")
        })
    }
}

impl TryFrom<String> for Origin {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scheme, host, port } = self;
        let scheme = if *scheme == Scheme::Https { "https" } else { "http" };
        if host.contains(':') { write!(f, "{scheme}://[{host}]:{port}") } else { write!(f, "{scheme}://{host}:{port}") }
    }
}

/// What the cell's next request may do: nothing, until the host call that sends it says so.
#[derive(Default)]
pub struct Outbound(Option<Grant>);

/// On whose behalf a request goes out.
struct Grant {
    version: Arc<CellVersion>,
    tree: Arc<Tree>,
    deadline: Instant,
}

/// The remaining work of a connection while its reply is read.
type Driver = Box<dyn Future<Output = Result<(), Error>> + Send>;

/// Lets a cell hear why a body broke off. The generated function knows errors of another type than those of bodies, and would
/// say nothing.
pub fn explain_broken_bodies(linker: &mut Linker<CellStore>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    let mut types = linker.instance("wasi:http/types@0.2.12")?;
    types.func_wrap("http-error-code", |mut store, (error,): (Resource<IoError>,)| {
        let view = store.data_mut().guest_http();
        let error = view.table.get(&error)?;
        Ok((match error.downcast_ref() {
            Some(Error::HttpResponseBodySize(most)) => Some(ErrorCode::HttpResponseBodySize(*most)),
            Some(_) => Some(ErrorCode::HttpProtocolError),
            None => error.downcast_ref::<ErrorCode>().cloned(),
        },))
    })?;
    linker.allow_shadowing(false);
    Ok(())
}

/// Adds the interface by hand: the generated one cannot count the call or end it.
pub fn add_to_linker(linker: &mut Linker<CellStore>) -> wasmtime::Result<()> {
    type Options = Option<Resource<RequestOptions>>;
    let mut instance = linker.instance("wasi:http/outgoing-handler@0.2.12")?;
    instance.func_wrap_async("handle", |mut store, (request, options): (Resource<HostOutgoingRequest>, Options)| {
        Box::new(async move {
            match handle(store.data_mut(), request, options).await {
                Ok(pending) => Ok((Ok(pending),)),
                Err(error) => Ok((Err(error.downcast()?),)),
            }
        })
    })
}

async fn handle(
    store: &mut CellStore,
    request: Resource<HostOutgoingRequest>,
    options: Option<Resource<RequestOptions>>,
) -> HttpResult<Resource<HostFutureIncomingResponse>> {
    store.enter("outbound").await.map_err(HttpError::trap)?;
    // A request that the guest does not wait for ends with its instance, which therefore has no other call.
    store.spent = true;
    if store.tree.outbound_requests.fetch_add(1, Ordering::Relaxed) >= limit::OUTBOUND_REQUESTS_MAX {
        return Err(HttpError::trap(Stop::Limit("outbound")));
    }
    store.outbound.0 = (store.purpose == Purpose::Handle).then(|| Grant {
        version: Arc::clone(&store.version),
        tree: Arc::clone(&store.tree),
        deadline: store.deadline,
    });
    store.http().handle(request, options)
}

impl WasiHttpHooks for Outbound {
    // What a guest has written waits in the host, for each of its resources; nothing there counts as the guest's memory.
    fn p2_outgoing_body_buffer_chunks(&mut self) -> usize {
        1
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        limit::WASI_BODY_CHUNK_BYTES
    }

    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _processed: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<(Response<WasiBody>, Driver), Error>> + Send> {
        let grant = self.0.take();
        Box::new(async move { grant.ok_or(Error::HttpRequestDenied)?.send(request, options.unwrap_or_default()).await })
    }
}

impl Grant {
    async fn send(
        self,
        request: Request<WasiBody>,
        options: RequestOptions,
    ) -> Result<(Response<WasiBody>, Driver), Error> {
        let origin = Origin::of(request.uri()).ok_or(Error::HttpRequestUriInvalid)?;
        if !self.version.manifest.capabilities.outbound.contains(&origin) {
            return Err(self.refuse(&origin, Error::HttpRequestDenied, "it is not in outbound of [capabilities]"));
        }
        // A call that asked outside is not run again, so it must not ask on the strength of what is no longer so.
        if !self.tree.work.still_valid().await.map_err(|_| Error::InternalError(None))? {
            return Err(self.refuse(
                &origin,
                Error::InternalError(None),
                "what the call read has changed; it runs again",
            ));
        }
        let connect_until = self.until(options.connect_timeout);
        let connected = async {
            let outside = &self.tree.catalog.outside;
            let addresses = match outside.stand_in(&origin) {
                Some(address) => vec![address],
                None => self.public_addresses(&origin).await?,
            };
            self.tree.reached_out.store(true, Ordering::Relaxed);
            self.tree.work.assume_nothing();
            connect(outside, &origin, &addresses).await
        };
        let transport =
            tokio::time::timeout_at(connect_until.into(), connected).await.map_err(|_| Error::ConnectionTimeout)??;
        let reply_until = self.until(options.first_byte_timeout);
        let reply = exchange(transport, request);
        tokio::time::timeout_at(reply_until.into(), reply).await.map_err(|_| Error::HttpResponseTimeout)?
    }

    /// Where an origin may be reached: nowhere but in the open.
    async fn public_addresses(&self, origin: &Origin) -> Result<Vec<SocketAddr>, Error> {
        let mut addresses = resolve(origin).await?;
        addresses.retain(|address| address::is_public(address.ip()));
        if addresses.is_empty() {
            return Err(self.refuse(origin, Error::DestinationIpProhibited, "its name leads to no public address"));
        }
        Ok(addresses)
    }

    /// The end of a wait: what the cell asks for, but never past its call.
    fn until(&self, wait: Option<std::time::Duration>) -> Instant {
        let wanted = wait.and_then(|wait| Instant::now().checked_add(wait));
        wanted.map_or(self.deadline, |wanted| wanted.min(self.deadline))
    }

    /// The cell sees only a code; its author and the operator see why.
    fn refuse(&self, origin: &Origin, error: Error, why: &str) -> Error {
        let cell = &*self.version.name;
        let correlation_id = self.tree.context.correlation;
        tracing::warn!(target: "cell", cell, %correlation_id, "outbound request to {origin} refused: {why}");
        error
    }
}

async fn resolve(origin: &Origin) -> Result<Vec<SocketAddr>, Error> {
    static PLACES: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(limit::OUTBOUND_LOOKUPS_MAX)));
    let (host, port) = (origin.host.clone(), origin.port);
    look_up(&PLACES, move || {
        (host.as_str(), port).to_socket_addrs().map(|found| found.take(limit::OUTBOUND_ADDRESSES_MAX).collect())
    })
    .await
}

/// Runs a look-up on a thread that may wait, when there is a place for it.
async fn look_up(
    places: &Arc<Semaphore>,
    find: impl FnOnce() -> io::Result<Vec<SocketAddr>> + Send + 'static,
) -> Result<Vec<SocketAddr>, Error> {
    let failed = || Error::DnsError { rcode: None, info_code: None };
    let place = Arc::clone(places).acquire_owned().await.map_err(|_| failed())?;
    let found = tokio::task::spawn_blocking(move || {
        // Held until the system's resolver really ends: a cell whose name server is silent must not take every thread.
        let _place = place;
        find()
    });
    found.await.map_err(|_| failed())?.map_err(|_| failed())
}

/// A connection, encrypted or not.
trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// Connects to the first of these addresses that answers. The name is not looked up again.
async fn connect(outside: &Outside, origin: &Origin, addresses: &[SocketAddr]) -> Result<Box<dyn Transport>, Error> {
    let stream = TcpStream::connect(addresses).await.map_err(Error::Connect)?;
    match origin.scheme {
        Scheme::Http => Ok(Box::new(stream)),
        Scheme::Https => {
            let connector = outside.connector().map_err(|cause| Error::InternalError(Some(cause)))?;
            let name = ServerName::try_from(origin.host.clone()).map_err(|_| Error::HttpRequestUriInvalid)?;
            Ok(Box::new(connector.connect(name, stream).await.map_err(Error::Tls)?))
        }
    }
}

/// Sends one request over a connection of its own and waits for the head of its reply; the driver reads on.
async fn exchange(
    transport: impl Transport + 'static,
    request: Request<WasiBody>,
) -> Result<(Response<WasiBody>, Driver), Error> {
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(limit::OUTBOUND_HEAD_BYTES_MAX).handshake(TokioIo::new(transport)).await?;
    let mut connection = Box::pin(connection);
    let sending = sender.send_request(prepare(request)?);
    tokio::pin!(sending);
    let (response, driver): (_, Driver) = tokio::select! {
        biased;
        response = &mut sending => (response?, Box::new(async move { Ok(connection.await?) })),
        // It may have ended with the whole reply.
        ended = &mut connection => {
            ended?;
            (sending.await?, Box::new(std::future::ready(Ok(()))))
        }
    };
    let response = response.map(|body| {
        let most = limit::OUTBOUND_REPLY_BYTES_MAX;
        let too_large = Error::HttpResponseBodySize(u64::try_from(most).ok());
        bounded(body, most, too_large)
    });
    Ok((response, driver))
}

/// A request as it goes over the wire: only the path in its first line, and nothing after it on the same connection.
fn prepare(request: Request<WasiBody>) -> Result<Request<WasiBody>, Error> {
    let (mut parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    parts.uri = Uri::from_str(path).map_err(|_| Error::HttpRequestUriInvalid)?;
    parts.headers.insert(http::header::CONNECTION, HeaderValue::from_static("close"));
    let most = limit::BODY_BYTES_MAX;
    let too_large = Error::HttpRequestBodySize(u64::try_from(most).ok());
    Ok(Request::from_parts(parts, bounded(body, most, too_large)))
}

/// A body that ends with an error where it gets too large.
fn bounded<B>(body: B, most: usize, too_large: Error) -> WasiBody
where
    B: http_body::Body<Data = bytes::Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
    let mut too_large = Some(too_large);
    let judge = move |cause: Box<dyn std::error::Error + Send + Sync>| match too_large.take() {
        Some(too_large) if cause.is::<LengthLimitError>() => too_large,
        _ => Error::HttpProtocolError,
    };
    Limited::new(body, most).map_err(judge).boxed_unsync()
}

#[cfg(test)]
mod tests;
